package labnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// Dial connects as net.Dialer.DialContext does, from the lab's namespace: to
// an address, or to a name as the resolver knows it. It sees every network.
// Errors are those of package net.
func (n *Net) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := dialer{inside: n.inside, lookup: n.lookup}
	return d.dial(ctx, network, address)
}

// DialVia returns what Dial is, for a process that is not the lab's own: it
// knows the lab's namespace by a path, such as /proc/812/fd/9, and asks its
// resolver by DNS. The path is opened at each call, so that a lab that has
// ended is not kept.
func DialVia(netns string, resolver netip.AddrPort) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := dialer{inside: func(fn func() error) error { return proc.Do(netns, fn) }}
	d.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
		return addressesOf(ctx, host, func(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
			return ask(ctx, d.connect, resolver.String(), query, true)
		})
	}
	return d.dial
}

// inside runs fn on a thread in the lab's namespace.
func (n *Net) inside(fn func() error) error {
	return n.use(func() error { return inNamespace(n.ns, fn) })
}

// lookup asks the resolver without a packet.
func (n *Net) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return addressesOf(ctx, host, func(ctx context.Context, query *dns.Msg) (*dns.Msg, error) {
		reply := n.resolver.answer(ctx, netip.Addr{}, query, true)
		return reply, ctx.Err()
	})
}

// dialer connects from another network namespace.
type dialer struct {
	inside func(fn func() error) error
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// dial tries the addresses of a name in turn, each with a fair share of the
// time, and returns the first error where none connects (net.Dialer.Dial).
func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return d.connect(ctx, network, address)
	}
	list, err := d.lookup(ctx, host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var first error
	for i, a := range list {
		share, cancel := shareOf(ctx, len(list)-i)
		conn, err := d.connect(share, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// shareOf divides the time that is left among so many tries; each gets 2 s
// where there is that much, as net.Dialer's do.
func shareOf(ctx context.Context, tries int) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || tries == 1 {
		return ctx, func() {}
	}
	left := time.Until(deadline)
	return context.WithTimeout(ctx, min(left, max(left/time.Duration(tries), 2*time.Second)))
}

// connect is net.Dialer's, with another socket: at the point where a caller
// may set options, before anything waits for the socket, one that was opened
// in the namespace takes the place of the one that was opened here. So no
// thread waits there while the kernel connects, and deadlines, cancelling and
// errors are those of package net.
func (d dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	var out net.Dialer
	out.ControlContext = func(_ context.Context, network, _ string, c syscall.RawConn) error {
		return d.exchange(network, c)
	}
	return out.DialContext(ctx, network, address)
}

// kinds are the sockets that can be opened in the namespace, by the network's
// name as net.Dialer gives it to Control.
var kinds = map[string]struct{ family, kind int }{
	"tcp4": {unix.AF_INET, unix.SOCK_STREAM}, "tcp6": {unix.AF_INET6, unix.SOCK_STREAM},
	"udp4": {unix.AF_INET, unix.SOCK_DGRAM}, "udp6": {unix.AF_INET6, unix.SOCK_DGRAM},
}

// exchange puts a socket of the namespace where c's is.
func (d dialer) exchange(network string, c syscall.RawConn) error {
	k, ok := kinds[network]
	if !ok {
		return net.UnknownNetworkError(network)
	}
	fd := -1
	err := d.inside(func() (err error) {
		fd, err = unix.Socket(k.family, k.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("open a socket in the lab: %w", err)
	}
	defer unix.Close(fd)
	var bad error
	err = c.Control(func(here uintptr) { bad = unix.Dup3(fd, int(here), unix.O_CLOEXEC) })
	return errors.Join(err, bad)
}
