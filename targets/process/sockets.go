package process

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// sockets finds who holds a port, each network namespace for itself.
type sockets struct {
	fs   proc.FS
	port string
	held map[uint64]map[string]bool // by namespace: "socket:[812]"

	entries [4096]byte // of a directory
}

func newSockets(fs proc.FS, port int) *sockets {
	hex := strings.ToUpper(strconv.FormatInt(int64(port)+0x10000, 16)[1:])
	return &sockets{fs: fs, port: hex, held: map[uint64]map[string]bool{}}
}

// heldBy tells whether a process has a socket open that has the port in its
// own network namespace. Where its files may not be read it has none.
func (s *sockets) heldBy(pid int) bool {
	ns, err := s.fs.NetNamespace(pid)
	if err != nil {
		return false
	}
	held, known := s.held[ns]
	if !known {
		held = s.bound(pid)
		if now, err := s.fs.NetNamespace(pid); err != nil || now != ns {
			return false // it went away meanwhile, and nothing was read
		}
		s.held[ns] = held
	}
	return len(held) > 0 && s.opens(pid, held)
}

// opens tells whether a file descriptor of pid is one of held. Most of a
// search by port is spent here, so it does without os.File.
func (s *sockets) opens(pid int, held map[string]bool) bool {
	dir, err := unix.Open(s.fs.Proc+"/"+strconv.Itoa(pid)+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	var link [32]byte // longer ones are no sockets
	for {
		n, err := unix.ReadDirent(dir, s.entries[:])
		if err != nil || n <= 0 {
			return false
		}
		_, _, names := unix.ParseDirent(s.entries[:n], -1, nil)
		for _, name := range names {
			n, err := unix.Readlinkat(dir, name, link[:])
			if err == nil && held[string(link[:n])] {
				return true
			}
		}
	}
}

// bound reads which sockets have the port in the network namespace of pid.
func (s *sockets) bound(pid int) map[string]bool {
	const listening, unconnected = "0A", "07" // TCP_LISTEN, TCP_CLOSE of include/net/tcp_states.h
	held := map[string]bool{}
	for _, table := range []struct{ file, state string }{
		{"tcp", listening}, {"tcp6", listening}, {"udp", unconnected}, {"udp6", unconnected},
	} {
		data := readPages(s.fs.Proc + "/" + strconv.Itoa(pid) + "/net/" + table.file)
		for line := range bytes.Lines(data) {
			if inode := socketAt(line, s.port, table.state); inode != "" {
				held["socket:["+inode+"]"] = true
			}
		}
	}
	return held
}

// readPages reads a table in large pieces, since the kernel counts its way to
// the place for each. There is none on a kernel without IPv6.
func readPages(path string) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	data := make([]byte, 0, 32<<10)
	for {
		n, err := file.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err != nil {
			return data
		}
		data = slices.Grow(data, 8<<10)
	}
}

// socketAt returns the inode of the socket in a line of proc_pid_net(5)'s
// tables where it has the local port and the state, both in hexadecimal.
//
//	sl  local_address rem_address   st …                                     inode
//	 0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 812 …
func socketAt(line []byte, port, state string) string {
	if !bytes.Contains(line, []byte(":"+port+" ")) {
		return ""
	}
	fields := strings.Fields(string(line))
	if len(fields) < 10 || !strings.HasSuffix(fields[1], ":"+port) || fields[3] != state {
		return ""
	}
	return fields[9]
}
