package op

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// space is what a file system has, in bytes, and in inodes (statfs(2)).
type space struct {
	total, used, free  int64 // free for users; what is kept for root is in none but total
	block              int64 // given out at a time
	inodes, freeInodes int64
}

// spaceOf reads the space of the file system that dir is on.
func spaceOf(dir *os.File) (space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return space{}, fmt.Errorf("read the space of %s: %w", dir.Name(), err)
	}
	block := st.Frsize
	if block == 0 {
		block = st.Bsize
	}
	return space{
		block: block, total: int64(st.Blocks) * block, used: int64(st.Blocks-st.Bfree) * block, free: int64(st.Bavail) * block,
		inodes: int64(st.Files), freeInodes: int64(st.Ffree),
	}, nil
}

// String gives "1.2 GiB free of 10 GiB".
func (s space) String() string {
	return fmt.Sprintf("%s free of %s", size(s.free), size(s.total))
}

// inUse is the share in use, in percent, as df(1) counts it.
func (s space) inUse() float64 {
	return 100 * float64(s.used) / max(1, float64(s.used+s.free))
}

func (s space) inodesInUse() float64 {
	return 100 * float64(s.inodes-s.freeInodes) / max(1, float64(s.inodes))
}

// Wants returns how many bytes, or inodes, are to be taken of a file system
// that has s, and a note where the floor makes it less. A level that it is at
// already takes none.
func (a Amount) Wants(s space) (n int64, note string, err error) {
	if a.ofInodes() {
		return a.wantsInodes(s)
	}
	room := a.room(s)
	switch {
	case s.total == 0:
		return 0, "", fmt.Errorf("it has no size: %w", experiment.ErrUnsupported)
	case a.Bytes > s.total:
		return 0, "", fmt.Errorf("%s is more than the whole of it, %s", size(a.Bytes), size(s.total))
	case a.Bytes > max(0, room):
		return 0, "", fmt.Errorf("%s are asked for, and %s can be had: %s, of which %s must stay free (floor)", size(a.Bytes), size(max(0, room)), s, size(a.Floor))
	case a.Bytes > 0:
		return a.Bytes, "", nil
	}
	n = int64(math.Ceil(a.Percent/100*float64(s.used+s.free))) - s.used
	if n > room {
		note = fmt.Sprintf("%s would leave less than the floor, %s: it is filled to that", inPercent(a.Percent), size(a.Floor))
	}
	return max(0, min(n, room)), note, nil
}

// room is how many bytes can be had above the floor. A file needs blocks of its
// own to say where its blocks are.
func (a Amount) room(s space) int64 {
	room := s.free - a.Floor
	if a.Floor > 0 {
		room -= room / 512
		room -= room % max(1, s.block)
	}
	return room
}

func (a Amount) wantsInodes(s space) (n int64, note string, err error) {
	room := s.freeInodes - a.FloorInodes
	switch {
	case s.inodes == 0:
		return 0, "", fmt.Errorf("it has no fixed number of inodes: %w", experiment.ErrUnsupported)
	case a.Inodes > s.inodes:
		return 0, "", fmt.Errorf("%d inodes are more than it has, %d", a.Inodes, s.inodes)
	case a.Inodes > max(0, room):
		return 0, "", fmt.Errorf("%d inodes are asked for, and %d can be had: %d are free, of which %d must stay so", a.Inodes, max(0, room), s.freeInodes, a.FloorInodes)
	case a.Inodes > 0:
		return a.Inodes, "", nil
	}
	n = int64(math.Ceil(a.InodesPercent/100*float64(s.inodes))) - (s.inodes - s.freeInodes)
	if n > room {
		note = fmt.Sprintf("%s of the inodes would leave less than %d free: it is filled to that", inPercent(a.InodesPercent), a.FloorInodes)
	}
	return max(0, min(n, room)), note, nil
}

// floor returns what must stay free of a disk where nothing is said: of one
// that is the host's too the larger of 1 % and 64 MiB, or a tenth where that is
// less, and 1 % of the inodes.
func (d Disk) floor(s space) (bytes, inodes int64) {
	if !d.Shared {
		return 0, 0
	}
	return min(max(s.total/100, 64<<20), s.total/10), min(max(s.inodes/100, 1000), s.inodes/10)
}

// leastFloor is what stays free, in any case, of a disk that is the host's
// too: Simian's own journal may be on it.
func (d Disk) leastFloor(s space) int64 {
	if !d.Shared {
		return 0
	}
	return min(spare, s.total/100)
}

// spare is what is left, in bytes, where little must be.
const spare = 16 << 20

// memory tells whether what is in it is in memory.
func (d Disk) memory() bool { return d.Kind == "tmpfs" || d.Kind == "ramfs" }

// memoryFor gives an error where so many bytes of memory are not to be had: 5 %
// of the host's stay free, and this process's cgroup pays for it.
func memoryFor(fs proc.FS, n int64) error {
	info, err := memoryInfo(fs)
	if err != nil {
		return err
	}
	if room := info["MemAvailable"] - info["MemTotal"]/20; n > room {
		return fmt.Errorf("it is in memory, of which %s can be had: 5 %% of the host's stay free", size(max(0, room)))
	}
	dir, room, limited := ownMemory(fs)
	if limited && n > room-spare {
		return fmt.Errorf("it is in memory, which counts against Simian's own cgroup %s: %s can be had there; start Simian in another, or take less", dir, size(max(0, room-spare)))
	}
	return nil
}

// memoryInfo reads proc_meminfo(5), in bytes.
func memoryInfo(fs proc.FS) (map[string]int64, error) {
	data, err := os.ReadFile(filepath.Join(fs.Proc, "meminfo"))
	if err != nil {
		return nil, fmt.Errorf("read the host's memory: %w", err)
	}
	info := map[string]int64{}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 1 {
			kib, _ := strconv.ParseInt(words[1], 10, 64)
			info[strings.TrimSuffix(words[0], ":")] = kib << 10
		}
	}
	return info, nil
}

// ownMemory returns the cgroup of this process, or one above it, that has the
// least memory left, and how much.
func ownMemory(fs proc.FS) (dir string, room int64, limited bool) {
	own, err := fs.Cgroup(os.Getpid())
	if err != nil {
		return "", 0, false
	}
	at, limitFile, nowFile := own.V2.Path, "memory.max", "memory.current"
	if v1, ok := own.V1["memory"]; ok {
		at, limitFile, nowFile = v1.Path, "memory.limit_in_bytes", "memory.usage_in_bytes"
	}
	for ; strings.HasPrefix(at, filepath.Join(fs.Sys, "fs/cgroup")+"/"); at = filepath.Dir(at) {
		limit, err1 := readNumber(filepath.Join(at, limitFile))
		now, err2 := readNumber(filepath.Join(at, nowFile))
		if err1 != nil || err2 != nil || limited && limit-now >= room {
			continue
		}
		dir, room, limited = at, limit-now, true
	}
	return dir, room, limited
}

func readNumber(path string) (int64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
