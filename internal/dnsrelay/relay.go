package dnsrelay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	// serverTime is how long a server has for an answer: longer than anybody
	// waits for it (resolv.conf(5): 5 s).
	serverTime = 10 * time.Second
	// idleTime is how long a connection may be silent.
	idleTime = 2 * time.Minute
	// maxWaiting is how many lookups and connections may be under way: they are
	// descriptors and memory.
	maxWaiting = 2048
)

// Relay answers lookups, or passes them on.
type Relay struct {
	Rule Rule
	Mark int // on what it sends to servers; 0 is none
	// Original tells where a packet was to go that came from remote to local;
	// network is udp or tcp.
	Original func(network string, local, remote netip.AddrPort) (netip.AddrPort, error)

	ledger
	places chan struct{} // one for each that is under way
	ending context.Context
	end    context.CancelFunc
}

// New returns a relay that serves nothing yet.
func New(rule Rule, mark int, original func(network string, local, remote netip.AddrPort) (netip.AddrPort, error)) *Relay {
	r := &Relay{Rule: rule, Mark: mark, Original: original, places: make(chan struct{}, maxWaiting)}
	r.names = map[string]int64{}
	r.ending, r.end = context.WithCancel(context.Background())
	return r
}

// Stats returns what became of lookups so far.
func (r *Relay) Stats() Stats { return r.read() }

// Drain spares all lookups from now on, lets go those that are held, and waits
// for those under way, no longer than within: until there is none for a
// millisecond, since one may be on its way from its socket.
func (r *Relay) Drain(within time.Duration) {
	r.end()
	const pause, quiet = 100 * time.Microsecond, 10
	for n, end := 0, time.Now().Add(within); n < quiet && time.Now().Before(end); n++ {
		if len(r.places) > 0 {
			n = 0
		}
		time.Sleep(pause)
	}
}

// enter takes a place; false where there is none left.
func (r *Relay) enter() bool {
	select {
	case r.places <- struct{}{}:
		r.note(func(s *Stats) { s.Waiting++ })
		return true
	default:
		r.note(func(s *Stats) { s.Overflow++ })
		return false
	}
}

func (r *Relay) leave() {
	r.note(func(s *Stats) { s.Waiting-- })
	<-r.places
}

// What becomes of a lookup.
type fate int

const (
	pass fate = iota
	lose
	tell // with an answer
	hold // for the rule's delay, and pass then
)

// judge says what becomes of a packet, and gives the answer where it is told
// one.
func (r *Relay) judge(packet []byte, tcp bool) (fate, []byte) {
	q, ok := parse(packet)
	if !ok {
		r.note(func(s *Stats) { s.Unreadable++ })
		return pass, nil
	}
	matched := r.Rule.matches(q)
	struck := matched && r.ending.Err() == nil && r.Rule.strikes()
	if !q.own {
		r.asked(q, tcp, matched, struck)
	}
	switch {
	case !struck:
		return pass, nil
	case r.Rule.How == Drop:
		return lose, nil
	case r.Rule.How == Slow:
		return hold, nil
	}
	answer, err := r.Rule.answer(q)
	if err != nil { // it was read, so it can be written
		return pass, nil
	}
	return tell, answer
}

// wait holds a lookup, until the relay ends at the latest.
func (r *Relay) wait(f fate) {
	if f != hold {
		return
	}
	select {
	case <-time.After(r.Rule.Delay):
	case <-r.ending.Done():
	}
}

// dial connects to the server that was meant, from the address that the target
// has chosen.
func (r *Relay) dial(network string, local, remote netip.AddrPort) (net.Conn, error) {
	server, err := r.Original(network, local, remote)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: serverTime}
	if r.Mark != 0 {
		d.Control = r.mark
	}
	from := netip.AddrPortFrom(remote.Addr(), 0)
	if d.LocalAddr = net.UDPAddrFromAddrPort(from); network == "tcp" {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	return d.Dial(network, server.String())
}

// mark keeps what a socket sends from being redirected to the relay again
// (SO_MARK, socket(7)).
func (r *Relay) mark(_, _ string, c syscall.RawConn) error {
	var err error
	bad := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, r.Mark)
	})
	return errors.Join(bad, err)
}
