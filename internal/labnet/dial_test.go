package labnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"golang.org/x/sys/unix"
)

// dialers are the ways into a lab: of its own process, and of another.
func dialers(n *Net) map[string]dialFunc {
	path := "/proc/self/fd/" + strconv.Itoa(int(n.NetNS().Fd()))
	return map[string]dialFunc{"Dial": n.Dial, "DialVia": DialVia(path, n.Resolver())}
}

func TestDial(t *testing.T) {
	t.Parallel()
	c := twoNetworks()
	c.Upstream = []netip.AddrPort{upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
	})}
	n := newNet(t, c)
	one, two := joinOn(t, n, "web-1", "web", "front"), joinOn(t, n, "web-2", "web", "front")
	dead, idle := joinOn(t, n, "web-3", "web", "front"), joinOn(t, n, "idle", "", "back")
	idle.SetRunning(false)
	listenIn(t, one.NetNS(), ":80", "one")
	listenIn(t, two.NetNS(), ":80", "two")
	for name, dial := range dialers(n) {
		t.Run(name, func(t *testing.T) {
			for address, want := range map[string]string{at(one, 80): "one", "web-2:80": "two", "web-1.front:http": "one"} {
				if word, err := hear(t, dial, address); word != want {
					t.Errorf("%s: %q, %v", address, word, err)
				}
			}
			heard := map[string]int{}
			for range 6 { // in turns, and past the one where nobody listens
				word, err := hear(t, dial, "web:80")
				must(t, err)
				heard[word]++
			}
			if heard["one"] < 2 || heard["two"] < 2 {
				t.Error(heard)
			}
			for address, want := range map[string]string{
				at(dead, 80):    "dial tcp " + at(dead, 80) + ": connect: connection refused",
				"web-3:80":      "dial tcp " + at(dead, 80) + ": connect: connection refused",
				"idle:80":       "dial tcp: lookup idle: no such host",
				"none.where:80": "dial tcp: lookup none.where: no such host",
				"a..b:80":       "dial tcp: lookup a..b: no such host",
				"192.0.2.1:80":  "dial tcp 192.0.2.1:80: connect: network is unreachable",
				"[fd00::1]:80":  "dial tcp [fd00::1]:80: connect: network is unreachable",
				"web":           "dial tcp: address web: missing port in address",
				"web:nope":      "dial tcp: lookup tcp/nope: unknown port",
			} {
				_, err := hear(t, dial, address)
				var op *net.OpError
				if !errors.As(err, &op) || err.Error() != want {
					t.Errorf("%s: %v", address, err)
				}
			}
			var lookup *net.DNSError
			if _, err := hear(t, dial, "idle:80"); !errors.As(err, &lookup) || !lookup.IsNotFound {
				t.Error(err)
			}
			if _, err := dial(t.Context(), "unix", "/x:1"); err == nil || !strings.Contains(err.Error(), "dial unix") {
				t.Error(err)
			}
		})
	}
}

// What is connected is what package net would have made.
func TestDialled(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "web", "", "front")
	listenIn(t, p.NetNS(), ":80", "")
	conn, err := n.Dial(t.Context(), "tcp", "web:80")
	must(t, err)
	defer conn.Close()
	if conn.LocalAddr().(*net.TCPAddr).IP.String() != "10.64.0.1" || conn.RemoteAddr().String() != at(p, 80) {
		t.Errorf("%s to %s", conn.LocalAddr(), conn.RemoteAddr())
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		for option, at := range map[string][2]int{"keep-alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE}, "no delay": {unix.IPPROTO_TCP, unix.TCP_NODELAY}} {
			if v, err := unix.GetsockoptInt(int(fd), at[0], at[1]); v != 1 {
				t.Error(option, v, err)
			}
		}
		if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
			t.Error("the socket is handed to children", err)
		}
	}))
}

// Someone who takes no connections: the queue is full, and the kernel drops
// what comes.
func deaf(t testing.TB, p *Port) {
	t.Helper()
	must(t, inNamespace(p.NetNS(), func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		must(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 80}))
		return unix.Listen(fd, 0)
	}))
	for range 2 { // one more than the queue's length is let in
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		conn, err := from(p).connect(ctx, "tcp", at(p, 80))
		cancel()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestDialEnds(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "deaf", "", "front")
	deaf(t, p)
	for name, dial := range dialers(n) {
		began := time.Now()
		late, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := dial(late, "tcp", "deaf:80")
		cancel()
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(began) > time.Second {
			t.Errorf("%s, late: %v after %v", name, err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		began = time.Now()
		_, err = dial(ctx, "tcp", "deaf:80")
		if err == nil || !strings.Contains(err.Error(), "operation was canceled") || time.Since(began) > time.Second {
			t.Errorf("%s, cancelled: %v after %v", name, err, time.Since(began))
		}
	}
}

// A dial that waits holds no thread: 200 at once need no more than a few.
func TestDialHoldsNoThread(t *testing.T) {
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "deaf", "", "front")
	deaf(t, p)
	before := threads(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if _, err := n.Dial(ctx, "tcp", "deaf:80"); err == nil {
				t.Error("connected")
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	if more := threads(t) - before; more > 20 {
		t.Errorf("%d threads more", more)
	}
	cancel()
	all.Wait()
}

// It runs alone: another test may open its namespace under the same number.
func TestDialAfterTheLab(t *testing.T) {
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	list := dialers(n)
	must(t, n.Close())
	for name, dial := range list {
		if _, err := hear(t, dial, "10.64.0.2:80"); err == nil || !strings.HasPrefix(err.Error(), "dial tcp 10.64.0.2:80: open a socket in the lab: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDialUDP(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(t, n, "echo", "", "front")
	echoIn(t, p)
	conn, err := n.Dial(t.Context(), "udp", "echo:7")
	must(t, err)
	defer conn.Close()
	if got := say(t, conn, "hello"); got != "echo hello" {
		t.Error(got)
	}
}

// echoIn answers UDP at port 7 of a container.
func echoIn(t testing.TB, p *Port) {
	t.Helper()
	var conn net.PacketConn
	must(t, inNamespace(p.NetNS(), func() (err error) {
		conn, err = net.ListenPacket("udp4", ":7")
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		packet := make([]byte, maxPacket)
		for {
			n, who, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(append([]byte("echo "), packet[:n]...), who)
		}
	}()
}

// say sends a packet and returns the answer.
func say(t testing.TB, conn net.Conn, word string) string {
	t.Helper()
	_, err := io.WriteString(conn, word)
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	packet := make([]byte, maxPacket)
	n, err := conn.Read(packet)
	must(t, err)
	return string(packet[:n])
}
