package labnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// to leads to a port of a container.
func to(p *Port, port uint16) func() (netip.AddrPort, bool) {
	return func() (netip.AddrPort, bool) { return netip.AddrPortFrom(p.Address(), port), true }
}

func publish(t testing.TB, n *Net, p Publish) *Published {
	t.Helper()
	pub, err := n.Publish(p)
	must(t, err)
	t.Cleanup(func() { must(t, pub.Close()) })
	return pub
}

func TestPublishTCP(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	one, two := joinOn(t, n, "one", "", "front"), joinOn(t, n, "two", "", "front")
	listenIn(t, one.NetNS(), ":80", "one")
	listenIn(t, two.NetNS(), ":80", "two")
	var target atomic.Pointer[Port]
	pub := publish(t, n, Publish{To: func() (netip.AddrPort, bool) {
		if p := target.Load(); p != nil {
			return netip.AddrPortFrom(p.Address(), 80), true
		}
		return netip.AddrPort{}, false
	}})
	dial := new(net.Dialer).DialContext
	if pub.Address().Addr().String() != "127.0.0.1" || pub.Port() == 0 {
		t.Error(pub.Address())
	}
	for want, p := range map[string]*Port{"one": one, "two": two} {
		target.Store(p)
		if word, err := hear(t, dial, pub.Address().String()); word != want {
			t.Errorf("%q, %v", word, err)
		}
	}
	target.Store(nil)
	if _, err := hear(t, dial, pub.Address().String()); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("nobody there: %v", err)
	}
	must(t, pub.Close())
	if _, err := hear(t, dial, pub.Address().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}
}

// pair is a connection through a published port, seen from both sides.
func pair(t *testing.T) (n *Net, outer, inner *net.TCPConn) {
	t.Helper()
	n = newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "web", "", "front")
	var l net.Listener
	must(t, inNamespace(p.NetNS(), func() (err error) {
		l, err = net.Listen("tcp4", ":80")
		return err
	}))
	defer l.Close()
	pub := publish(t, n, Publish{To: to(p, 80)})
	a, err := net.Dial("tcp", pub.Address().String())
	must(t, err)
	t.Cleanup(func() { _ = a.Close() })
	b, err := l.Accept()
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	for _, conn := range []net.Conn{a, b} {
		must(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	}
	_, err = io.WriteString(a, "!") // when it is here, the relay is on its way
	must(t, err)
	_, err = io.ReadFull(b, make([]byte, 1))
	must(t, err)
	return n, a.(*net.TCPConn), b.(*net.TCPConn)
}

func TestHalfClose(t *testing.T) {
	t.Parallel()
	_, outer, inner := pair(t)
	_, err := io.WriteString(outer, "question")
	must(t, err)
	must(t, outer.CloseWrite())
	if got, err := io.ReadAll(inner); string(got) != "question" {
		t.Error(string(got), err)
	}
	big := strings.Repeat("answer", 1<<20) // more than all the buffers on its way
	go func() {
		_, _ = io.WriteString(inner, big)
		_ = inner.Close()
	}()
	if got, err := io.ReadAll(outer); string(got) != big {
		t.Error(len(got), err)
	}
}

func TestResetIsPassedOn(t *testing.T) {
	t.Parallel()
	for name, which := range map[string]int{"by the container": 0, "from outside": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, outer, inner := pair(t)
			sides := []*net.TCPConn{inner, outer}
			reset(sides[which])
			if _, err := sides[1-which].Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		})
	}
}

func TestCloseEndsConnections(t *testing.T) {
	t.Parallel()
	n, outer, inner := pair(t)
	must(t, n.Close())
	for _, conn := range []*net.TCPConn{outer, inner} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	must(t, n.Close())
}

func TestPublishUDP(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "echo", "", "front")
	echoIn(t, p)
	pub := publish(t, n, Publish{Protocol: "udp", To: to(p, 7)})
	big := strings.Repeat("x", 20000)
	for _, word := range []string{"a", "b", big} {
		conn, err := net.Dial("udp", pub.Address().String())
		must(t, err)
		defer conn.Close()
		for range 2 {
			if got := say(t, conn, word); got != "echo "+word {
				t.Errorf("%d bytes", len(got))
			}
		}
	}
}

// Where nothing listens, the sender's socket in the lab goes: the next packet
// finds who came instead.
func TestUDPAfterARefusal(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	none, p := joinOn(t, n, "none", "", "front"), joinOn(t, n, "echo", "", "front")
	echoIn(t, p)
	var there atomic.Bool
	pub := publish(t, n, Publish{Protocol: "udp", To: func() (netip.AddrPort, bool) {
		if there.Load() {
			return netip.AddrPortFrom(p.Address(), 7), true
		}
		return netip.AddrPortFrom(none.Address(), 7), true
	}})
	conn, err := net.Dial("udp", pub.Address().String())
	must(t, err)
	defer conn.Close()
	_, _ = io.WriteString(conn, "lost")
	there.Store(true)
	await(t, "an answer", func() bool {
		_, _ = io.WriteString(conn, "again")
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := conn.Read(make([]byte, 64))
		return err == nil
	})
}

// With many senders, the one that was idle for longest makes room.
func TestManyUDPSenders(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "echo", "", "front")
	echoIn(t, p)
	pub := publish(t, n, Publish{Protocol: "udp", To: to(p, 7)})
	before := openFiles(t)
	for range maxSenders + 100 {
		conn, err := net.Dial("udp", pub.Address().String())
		must(t, err)
		if got := say(t, conn, "x"); got != "echo x" {
			t.Error(got)
		}
		must(t, conn.Close())
	}
	if more := openFiles(t) - before; more > maxSenders+200 { // other tests open some too
		t.Errorf("%d descriptors more", more)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}

func threads(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/task")
	must(t, err)
	return len(list)
}

func TestPublishErrors(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	at := taken.Addr().(*net.TCPAddr).AddrPort()
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	must(t, err)
	defer sock.Close()
	other := netip.MustParseAddr("192.0.2.7")
	for name, tt := range map[string]struct {
		p    Publish
		want string
	}{
		"taken":        {Publish{HostPort: at.Port()}, "publish " + at.String() + "/tcp: the port is taken: another program listens there"},
		"taken, UDP":   {Publish{HostPort: at.Port(), Protocol: "udp"}, "publish " + at.String() + "/udp: the port is taken: another program listens there"},
		"not the host": {Publish{HostIP: other, HostPort: 80}, "publish 192.0.2.7:80/tcp: the host does not have this address"},
		"protocol":     {Publish{HostPort: 80, Protocol: "sctp"}, "publish 127.0.0.1:80/sctp: only tcp and udp can be relayed"},
	} {
		if _, err := n.Publish(tt.p); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, n.Close())
	if _, err := n.Publish(Publish{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}
