package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/simianhq/simian/internal/proc"
)

// sockets finds who holds a port, each network namespace for itself.
type sockets struct {
	fs   proc.FS
	port string
	held map[uint64]map[string]bool // by namespace: "socket:[812]"
}

func newSockets(fs proc.FS, port int) *sockets {
	hex := strings.ToUpper(strconv.FormatInt(int64(port)+0x10000, 16)[1:])
	return &sockets{fs: fs, port: hex, held: map[uint64]map[string]bool{}}
}

// heldBy tells whether a process has a socket open that has the port in its
// own network namespace. Where its files may not be read it has none.
func (s *sockets) heldBy(pid int) bool {
	ns, err := s.fs.Namespace(pid, "net")
	if err != nil {
		return false
	}
	held, known := s.held[ns.Inode]
	if !known {
		held = s.bound(pid)
		s.held[ns.Inode] = held
	}
	return len(held) > 0 && s.opens(pid, held)
}

// opens tells whether a file descriptor of pid is one of held.
func (s *sockets) opens(pid int, held map[string]bool) bool {
	path := s.fs.Proc + "/" + strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(path)
	if err != nil {
		return false
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, name := range names {
		if link, err := os.Readlink(path + "/" + name); err == nil && held[link] {
			return true
		}
	}
	return false
}

// bound reads which sockets have the port in the network namespace of pid.
func (s *sockets) bound(pid int) map[string]bool {
	const listening, unconnected = "0A", "07" // TCP_LISTEN, TCP_CLOSE of include/net/tcp_states.h
	held := map[string]bool{}
	for _, table := range []struct{ file, state string }{
		{"tcp", listening}, {"tcp6", listening}, {"udp", unconnected}, {"udp6", unconnected},
	} {
		data, err := os.ReadFile(s.fs.Proc + "/" + strconv.Itoa(pid) + "/net/" + table.file)
		if err != nil {
			continue // a kernel without IPv6
		}
		for line := range bytes.Lines(data) {
			if inode := socketAt(line, s.port, table.state); inode != "" {
				held["socket:["+inode+"]"] = true
			}
		}
	}
	return held
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
