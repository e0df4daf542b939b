package op

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// PlanFill returns the op that takes an amount of the file system that f.Path
// is on, as f.Process sees it. A nil floor is the usual one. What can't work is
// refused. The notes say what a user should know of it.
func PlanFill(host *Host, f Fill, floor *int64) (*Fill, error) {
	do := NewFill(host, f)
	s, err := do.look()
	if err != nil {
		return nil, err
	}
	do.Floor, do.FloorInodes = do.Disk.floor(s)
	if floor != nil {
		do.Floor = *floor
	}
	if least := do.Disk.leastFloor(s); do.Floor < least {
		return nil, fmt.Errorf("fill %s: a floor of %s is too low, %s %s is the host's too: at least %s", f.Path, size(do.Floor), do.Disk.Kind, do.Disk.Device, size(least))
	}
	note, err := do.check(s)
	if err != nil {
		return nil, fmt.Errorf("fill %s: %w", f.Path, err)
	}
	if do.ofInodes() {
		do.Floor = 0
	} else {
		do.FloorInodes = 0
	}
	do.Noted = do.Disk.notes(f.Path)
	if note != "" {
		do.Noted = append(do.Noted, note)
	}
	return do, nil
}

// look finds out what file system it is, and what space it has.
func (f *Fill) look() (space, error) {
	fs := f.host.FS
	dir, m, err := openDisk(fs, f.Process, f.Path)
	if err != nil {
		return space{}, err
	}
	defer dir.Close()
	folder, err := folderOf(fs, f.Process, m, dir)
	if err != nil {
		return space{}, err
	}
	if f.Disk, err = diskOf(fs, m, folder); err != nil {
		return space{}, fmt.Errorf("fill %s: %w", f.Path, err)
	}
	return spaceOf(dir)
}

// check refuses what can't work.
func (f *Fill) check(s space) (note string, err error) {
	n, note, err := f.Wants(s)
	switch {
	case err != nil:
		return "", err
	case n == 0 && f.ofInodes():
		return "", fmt.Errorf("%s of its inodes are in use already (%d of %d are free, %d must stay so)", inPercent(float64(int(s.inodesInUse()))), s.freeInodes, s.inodes, f.FloorInodes)
	case n == 0:
		return "", fmt.Errorf("%s of it is in use already (%s, %s must stay free)", inPercent(float64(int(s.inUse()))), s, size(f.Floor))
	case f.ofInodes():
		return note, CheckFiles(n)
	case f.Disk.memory():
		return note, memoryFor(f.host.FS, n)
	}
	return note, nil
}

// openDisk opens a folder of a process, and tells in which mount it is.
func openDisk(fs proc.FS, p experiment.ProcessID, name string) (*os.File, proc.Mount, error) {
	fd, err := fs.OpenInside(p, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, proc.Mount{}, err
	}
	dir := os.NewFile(uintptr(fd), name)
	m, _, _, err := fs.MountOf(p.PID, fd)
	if err == nil && slices.Contains(strings.Split(m.Options+","+m.Super, ","), "ro") {
		err = fmt.Errorf("fill %s: it is mounted read-only (%s %s): %w", name, m.Kind, m.Source, experiment.ErrUnsupported)
	}
	if err != nil {
		return nil, m, errors.Join(err, dir.Close())
	}
	return dir, m, nil
}

// notDisks are file systems that are views of the kernel, or the host's own.
func notDisks() []string {
	return []string{
		"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "debugfs", "tracefs", "securityfs", "bpf",
		"configfs", "efivarfs", "pstore", "fusectl", "nsfs", "binfmt_misc", "hugetlbfs",
	}
}

// diskOf returns the identity of the file system that a folder is on.
func diskOf(fs proc.FS, m proc.Mount, folder string) (Disk, error) {
	if slices.Contains(notDisks(), m.Kind) {
		return Disk{}, fmt.Errorf("%s is no file system that holds a target's files: %w", m.Kind, experiment.ErrProtected)
	}
	d := Disk{Device: m.Device, Kind: m.Kind, Folder: path.Join(m.Root, folder)}
	mounts, err := fs.Mounts(os.Getpid())
	if err != nil {
		return d, err
	}
	for _, own := range mounts {
		d.Shared = d.Shared || own.Device == m.Device
	}
	if m.Kind == "overlay" {
		d.Upper, d.Shared = upperOf(m), true // its upper folder's, which somebody else has mounted
	}
	return d, nil
}

// folderOf returns where below its mount a folder is. The kernel names it from
// the root of its mount namespace, and so the root of the process.
func folderOf(fs proc.FS, p experiment.ProcessID, m proc.Mount, dir *os.File) (string, error) {
	name, err1 := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	root, err2 := os.Readlink(fmt.Sprintf("%s/%d/root", fs.Proc, p.PID))
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("read where %s is: %w", dir.Name(), err)
	}
	rest, ok := strings.CutPrefix(name+"/", path.Join(root, m.Point)+"/")
	if !ok && path.Join(root, m.Point) != "/" {
		return "", fmt.Errorf("%s is not below the mount %s: %w", name, m.Point, experiment.ErrGone)
	}
	return path.Clean("/" + rest), nil
}

// upperOf returns an overlay's upper folder where this mount namespace shows
// it, "" otherwise.
func upperOf(m proc.Mount) string {
	for option := range strings.SplitSeq(m.Super, ",") {
		dir, ok := strings.CutPrefix(option, "upperdir=")
		if !ok || !path.IsAbs(dir) {
			continue
		}
		if st, err := os.Lstat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	return ""
}

// notes say what is filled besides.
func (d Disk) notes(name string) []string {
	switch {
	case d.memory():
		return []string{name + " is in memory: what is taken counts against Simian's own cgroup, not the target's"}
	case d.Kind == "overlay":
		return []string{name + " is an overlay: the file system of its upper folder is filled, for all that use it"}
	case d.Shared:
		return []string{name + " is on a file system of the host: it is filled for all that use it"}
	}
	return nil
}
