// Package gauge measures how long packets take from inside a network
// namespace: round trips by ICMP echo, or by the handshake of TCP.
//
// What is measured runs from right before the packet is handed to the kernel,
// above any qdisc, rule or queue, to when the kernel takes in the answer,
// below the socket: how soon a goroutine runs then is not part of it.
package gauge

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// patience is how long an answer is waited for.
const patience = 3 * time.Second

// Gauge says from where to where: plain data.
type Gauge struct {
	Net  experiment.Namespace `json:"net"`
	Addr netip.Addr           `json:"addr"`
	Port uint16               `json:"port,omitzero"` // of TCP; 0 is ICMP echo
}

// String says what is measured: "round trip to 10.1.0.1 (ICMP)".
func (g Gauge) String() string {
	if g.Port == 0 {
		return fmt.Sprintf("round trip to %s (ICMP)", g.Addr)
	}
	return fmt.Sprintf("round trip to %s (TCP port %d)", g.Addr, g.Port)
}

// Once measures one round trip. It waits for 3 s at most.
func (g Gauge) Once(ctx context.Context, fs proc.FS) (time.Duration, error) {
	s, err := g.Open(fs)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return s.Ping(ctx)
}

// Session measures round trips, several at a time if need be. By ICMP it holds
// a socket, and with it the network namespace, until Close.
type Session struct {
	gauge Gauge
	fs    proc.FS
	zone  uint32 // index of the link that an IPv6 address belongs to, or 0
	echo  *echo  // nil where it goes by TCP
}

// Open prepares to measure g. It gives experiment.ErrGone where the namespace
// is there no more.
func (g Gauge) Open(fs proc.FS) (*Session, error) {
	s := &Session{gauge: g, fs: fs}
	s.gauge.Addr = g.Addr.Unmap()
	if !g.Addr.IsValid() {
		return nil, fmt.Errorf("measure a round trip: no address")
	}
	err := fs.InNetwork(g.Net, func() (err error) {
		if s.zone, err = zoneOf(g.Addr); err != nil || g.Port != 0 {
			return err
		}
		s.echo, err = openEcho(s.address(), s.gauge.Addr.Is6())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", g, err)
	}
	return s, nil
}

// zoneOf returns the index of the link that addr belongs to: its zone is the
// link's name or index.
func zoneOf(addr netip.Addr) (uint32, error) {
	if addr.Zone() == "" {
		return 0, nil
	}
	if index, err := strconv.ParseUint(addr.Zone(), 10, 32); err == nil {
		return uint32(index), nil
	}
	link, err := net.InterfaceByName(addr.Zone())
	if err != nil {
		return 0, fmt.Errorf("find the link %s: %w", addr.Zone(), err)
	}
	return uint32(link.Index), nil
}

// address is the far end in the kernel's form.
func (s *Session) address() unix.Sockaddr {
	if s.gauge.Addr.Is4() {
		return &unix.SockaddrInet4{Port: int(s.gauge.Port), Addr: s.gauge.Addr.As4()}
	}
	return &unix.SockaddrInet6{Port: int(s.gauge.Port), Addr: s.gauge.Addr.As16(), ZoneId: s.zone}
}

// Ping measures one round trip. It waits until ctx ends, for 3 s at most. An
// error says that there was no answer, and why.
func (s *Session) Ping(ctx context.Context) (rtt time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if s.echo != nil {
		rtt, err = s.echo.ping(ctx)
	} else {
		rtt, err = s.handshake(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", s.gauge, err)
	}
	return rtt, nil
}

// String says what is measured.
func (s *Session) String() string { return s.gauge.String() }

// Close ends s. Pings under way end with an error.
func (s *Session) Close() error {
	if s.echo == nil {
		return nil
	}
	return s.echo.close()
}
