package labnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Publish is a port of the host that leads into the lab.
type Publish struct {
	HostIP   netip.Addr // zero is 127.0.0.1
	HostPort uint16     // 0 is chosen by the kernel
	Protocol string     // tcp ("" too) or udp
	// To says where a connection goes, each time there is one: it may be to
	// another replica, or to nobody. A connection to nobody is reset. It must
	// not block.
	To func() (netip.AddrPort, bool)
}

// Published is a port under way.
type Published struct {
	net     *Net
	to      func() (netip.AddrPort, bool)
	address netip.AddrPort
	stop    context.CancelFunc
	serving sync.WaitGroup
	once    sync.Once
}

// Publish relays what comes to a port of the host, in the namespace of this
// process, to an address in the lab. For TCP the end of either direction is
// passed on alone, a reset ends both. For UDP each sender has a socket of its
// own in the lab, until nothing was sent either way for 60 s.
func (n *Net) Publish(p Publish) (*Published, error) {
	if p.Protocol == "" {
		p.Protocol = "tcp"
	}
	if p.HostIP == (netip.Addr{}) {
		p.HostIP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	pub := &Published{net: n, to: p.To}
	err := n.use(func() error { return pub.start(p) })
	if err != nil {
		asked := net.JoinHostPort(p.HostIP.String(), strconv.Itoa(int(p.HostPort)))
		return nil, fmt.Errorf("publish %s/%s: %w", asked, p.Protocol, err)
	}
	return pub, nil
}

func (p *Published) start(what Publish) error {
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	var err error
	switch at := netip.AddrPortFrom(what.HostIP, what.HostPort); what.Protocol {
	case "tcp":
		err = p.startTCP(ctx, at)
	case "udp":
		err = p.startUDP(ctx, at)
	default:
		err = errors.New("only tcp and udp can be relayed")
	}
	if err != nil {
		cancel()
		return plainListen(err)
	}
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.net.published[p] = struct{}{}
	return nil
}

// plainListen says what an error of listening means.
func plainListen(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errors.New("the port is taken: another program listens there")
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errors.New("the host does not have this address")
	}
	return err
}

// Address returns where on the host the port is.
func (p *Published) Address() netip.AddrPort { return p.address }

// Port returns which port it is, also where the kernel has chosen it.
func (p *Published) Port() uint16 { return p.address.Port() }

// Close ends the port and what is relayed, at once.
func (p *Published) Close() error {
	p.once.Do(func() {
		p.stop()
		p.serving.Wait()
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		delete(p.net.published, p)
	})
	return nil
}

// dial connects to where To says.
func (p *Published) dial(ctx context.Context, network string) (net.Conn, error) {
	to, ok := p.to()
	if !ok {
		return nil, errors.New("nobody is there")
	}
	return p.net.Dial(ctx, network, to.String())
}

func (p *Published) startTCP(ctx context.Context, at netip.AddrPort) error {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	p.address = l.Addr().(*net.TCPAddr).AddrPort()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	p.serving.Go(func() { p.accept(ctx, l) })
	return nil
}

func (p *Published) accept(ctx context.Context, l *net.TCPListener) {
	for {
		conn, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return
		case err != nil: // no descriptors, or gone while it waited
			time.Sleep(10 * time.Millisecond)
		default:
			p.serving.Go(func() { p.relay(ctx, conn) })
		}
	}
}

// relay connects one who came in, and resets the connection if there is nobody
// to connect to: that is the nearest to a refusal that is left.
func (p *Published) relay(ctx context.Context, outer *net.TCPConn) {
	inner, err := p.dial(ctx, "tcp")
	if err != nil {
		reset(outer)
		return
	}
	join(ctx, outer, inner.(*net.TCPConn))
}
