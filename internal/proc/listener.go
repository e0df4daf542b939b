package proc

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// Listener returns the address at which a process of t's listens on a TCP
// port: an unspecified one is all of its family. Where several do it is the
// first. The error wraps experiment.ErrNoMatch where none does, and says on
// which ports they listen.
func (f FS) Listener(t experiment.Target, port int) (netip.Addr, error) {
	all, err := f.Within(t)
	if err != nil {
		return netip.Addr{}, err
	}
	held := map[string]bool{} // "socket:[812]"
	for _, s := range all {
		open, _ := f.OpenFiles(s.PID) // one that has ended has none
		for _, fd := range open {
			if link, err := os.Readlink(f.path(s.PID, "fd", strconv.Itoa(fd))); err == nil {
				held[link] = true
			}
		}
	}
	var others []int
	for _, file := range []string{"net/tcp", "net/tcp6"} {
		data, _ := readFile(f.path(t.PIDs[0].PID, file), false) // without IPv6 there is no such file
		for line := range strings.Lines(string(data)) {
			at, inode, ok := listening(line)
			if !ok || !held["socket:["+inode+"]"] {
				continue
			}
			if int(at.Port()) == port {
				return at.Addr(), nil
			}
			others = append(others, int(at.Port()))
		}
	}
	slices.Sort(others)
	words := strings.Trim(fmt.Sprint(slices.Compact(others)), "[]")
	if words == "" {
		words = "none"
	}
	return netip.Addr{}, fmt.Errorf("it does not listen on port %d of TCP (ports it listens on: %s): %w", port, words, experiment.ErrNoMatch)
}

// listening reads a line of a socket that listens (proc_pid_net(5)):
//
//	0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 812 …
func listening(line string) (at netip.AddrPort, inode string, ok bool) {
	const listens = "0A" // TCP_LISTEN
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listens {
		return at, "", false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return at, "", false
	}
	for i := 0; i < len(raw); i += 4 { // each word of 32 bits is as this machine writes it
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	n, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), fields[9], ok && err == nil
}

// Listening returns the TCP ports on which somebody listens in a target's
// network namespace, but for those on loopback alone, sorted.
func (f FS) Listening(t experiment.Target) []int {
	var ports []int
	for _, file := range []string{"net/tcp", "net/tcp6"} {
		data, _ := readFile(f.path(t.PIDs[0].PID, file), false) // without IPv6 there is no such file
		for line := range strings.Lines(string(data)) {
			if at, _, ok := listening(line); ok && !at.Addr().IsLoopback() {
				ports = append(ports, int(at.Port()))
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
