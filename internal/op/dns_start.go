package op

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
	"github.com/simianhq/simian/internal/proc"
)

// start starts the relay, and redirects lookups to it then. Where anything
// fails, nothing is left.
func (d *DNS) start(ctx context.Context) error {
	if old := d.host.drop(d.Cgroup()); old != nil { // it has died
		_ = old.Close()
	}
	held, files, err := d.launch()
	if err == nil {
		d.host.hold(d.Cgroup(), held)
		if files.flows > 0 {
			err = d.forget(func(e dnsrelay.Entry) bool { return before(e, files.to) })
		}
		if err == nil {
			return nil
		}
	}
	if bad := d.end(ctx); !errors.Is(bad, experiment.ErrGone) {
		err = errors.Join(err, bad)
	}
	return err
}

// process is the relay as it is to be started. It reads what the target sends:
// it is nobody, and may do no more than mark its packets and ask conntrack.
func (d *DNS) process() helperProcess {
	return helperProcess{program: dnsrelay.HelperName, cgroup: d.Cgroup(), nobody: true, keeps: []uintptr{unix.CAP_NET_ADMIN}}
}

// launch starts the relay in the target's network namespace, and makes the
// table through it.
func (d *DNS) launch() (held *heldHelper, files *relayFiles, err error) {
	files = &relayFiles{rules: -1}
	defer files.close()
	err = d.host.FS.InNetwork(d.Net, func() (err error) {
		if held, err = d.process().launch(d.host.FS); err == nil {
			err = files.open(d.Six)
		}
		return err
	})
	if err == nil {
		err = d.begin(held, files)
	}
	if err != nil && held != nil {
		held.end()
	}
	return held, files, err
}

// begin gives the relay its order, and makes the table once it listens.
func (d *DNS) begin(held *heldHelper, files *relayFiles) error {
	pidfd, err := proc.OpenPidfd(d.Target)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	order := files.order
	order.Rule, order.Mark = d.Rule, int(d.mark())
	order.Lift, order.Remove = nftBatch(d.redirect().lift()), nftBatch(d.gone().deletions([]string{"inet"}))
	fds := append(files.fds[:len(files.fds):len(files.fds)], pidfd)
	order.Target, order.NFT = len(fds)-1, len(fds)
	args, err := json.Marshal(order)
	if err != nil {
		return err
	}
	if err := held.begin(args, append(fds, files.rules)); err != nil {
		return err
	}
	r := d.redirect()
	r.to = files.to
	if err := held.batch(r.compile()); err != nil {
		return fmt.Errorf("make nft table %s: %w", d.Table(), err)
	}
	return nil
}

// relayFiles are the sockets that a relay is given.
type relayFiles struct {
	order dnsrelay.Order // which of fds is what
	fds   []int
	rules int // the socket that is to own the table
	to    []redirectTo
	flows uint32 // that the kernel remembers of before, in the namespace
}

// open makes the sockets in this thread's network namespace.
func (f *relayFiles) open(six bool) (err error) {
	families := []bool{false}
	if six {
		families = append(families, true)
	}
	for _, six := range families {
		for _, protocol := range []uint8{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			if err := f.listen(six, protocol); err != nil {
				return err
			}
		}
	}
	track, err := openNft()
	if err != nil {
		return err
	}
	f.order.Conntrack = f.add(track)
	if f.flows, err = dnsrelay.NewConntrack(track).Count(); err != nil {
		return err
	}
	f.rules, err = openNft()
	return err
}

func (f *relayFiles) add(fd int) int {
	f.fds = append(f.fds, fd)
	return len(f.fds) - 1
}

// listen makes a socket on a free port of loopback.
func (f *relayFiles) listen(six bool, protocol uint8) error {
	family, kind := unix.AF_INET, unix.SOCK_DGRAM
	var address unix.Sockaddr = &unix.SockaddrInet4{Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}).As4()}
	if six {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
	}
	if protocol == unix.IPPROTO_TCP {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return fmt.Errorf("open a socket for the relay: %w", err)
	}
	n := f.add(fd)
	if err := unix.Bind(fd, address); err != nil {
		return fmt.Errorf("bind a socket for the relay to loopback: %w", err)
	}
	if protocol == unix.IPPROTO_TCP {
		f.order.TCP = append(f.order.TCP, n)
		err = unix.Listen(fd, unix.SOMAXCONN)
	} else {
		f.order.UDP = append(f.order.UDP, n)
	}
	if err != nil {
		return fmt.Errorf("listen for the relay: %w", err)
	}
	port, err := portOf(fd)
	f.to = append(f.to, redirectTo{six, protocol, port})
	return err
}

// portOf returns the port that a socket is bound to.
func portOf(fd int) (uint16, error) {
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("ask for a socket's port: %w", err)
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port), nil
	case *unix.SockaddrInet6:
		return uint16(a.Port), nil
	}
	return 0, net.UnknownNetworkError(fmt.Sprintf("%T", bound))
}

func (f *relayFiles) close() {
	for _, fd := range append(f.fds, f.rules) {
		_ = unix.Close(fd)
	}
}

// forget removes flows to port 53 from what conntrack knows in the target's
// network namespace: rules are asked for the first packet of a flow only.
func (d *DNS) forget(chosen func(dnsrelay.Entry) bool) error {
	return forgetFlows(d.host.FS, d.Net, chosen)
}

// forgetFlows removes connections from what conntrack knows in a network
// namespace.
func forgetFlows(fs proc.FS, ns experiment.Namespace, chosen func(dnsrelay.Entry) bool) error {
	return fs.InNetwork(ns, func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		track := dnsrelay.NewConntrack(fd)
		if on, err := tracks(track); err == nil && on {
			return track.Forget(chosen)
		}
		return nil // nobody asks for what it remembers
	})
}

// tracks tells whether the kernel follows connections in this thread's network
// namespace: it does where any rule needs it. One is made to see.
func tracks(track *dnsrelay.Conntrack) (bool, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return false, err
	}
	defer conn.Close()
	self := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := conn.WriteToUDPAddrPort(nil, self); err != nil {
		return false, err
	}
	return track.Known(dnsrelay.Tuple{Protocol: unix.IPPROTO_UDP, From: self, To: self})
}

// ours tells which flows a relay of Simian's was given.
func ours(e dnsrelay.Entry) bool {
	from := e.Reply.From
	return e.Orig.To.Port() == dnsrelay.Port && from != e.Orig.To &&
		(from.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || from.Addr() == netip.IPv6Loopback())
}

// before tells which flows to resolvers began before the redirect: who goes on
// asking from the same port by UDP is redirected from then on. Connections that
// stand are left alone.
func before(e dnsrelay.Entry, to []redirectTo) bool {
	now := ours(e) && slices.ContainsFunc(to, func(r redirectTo) bool { return r.port == e.Reply.From.Port() })
	return e.Orig.To.Port() == dnsrelay.Port && e.Orig.Protocol == unix.IPPROTO_UDP && !now
}
