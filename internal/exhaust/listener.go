package exhaust

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// queueOf returns how many connections wait to be accepted by the listener at
// an address of this network namespace: of one that listens, rx_queue of
// /proc/net/tcp is that (proc_pid_net(5)).
func queueOf(at netip.AddrPort) (n int) {
	for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			l, ok := parseListener(line)
			if ok && l.port == int(at.Port()) && (l.addr == at.Addr() || l.addr.IsUnspecified()) {
				n = max(n, l.queue)
			}
		}
	}
	return n
}

// listener is a line of /proc/net/tcp.
type listener struct {
	addr  netip.Addr
	port  int
	queue int
}

// parseListener reads a line of a socket that listens:
//
//	0: 0100007F:1F90 00000000:0000 0A 00000000:00000005 …
func parseListener(line string) (l listener, ok bool) {
	const listens = "0A" // TCP_LISTEN
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[3] != listens {
		return l, false
	}
	host, port, _ := strings.Cut(fields[1], ":")
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return l, false
	}
	for i := 0; i < len(raw); i += 4 { // each word of 32 bits is as this machine writes it
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	_, queue, _ := strings.Cut(fields[4], ":")
	p, err1 := strconv.ParseUint(port, 16, 16)
	n, err2 := strconv.ParseUint(queue, 16, 31)
	l.addr, ok = netip.AddrFromSlice(raw)
	l.addr, l.port, l.queue = l.addr.Unmap(), int(p), int(n)
	return l, ok && err1 == nil && err2 == nil
}
