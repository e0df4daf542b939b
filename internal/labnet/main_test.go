package labnet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are made by root only")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
	}
}

// newNet makes a lab that forwards nothing, unless c says otherwise.
func newNet(t testing.TB, c Config) *Net {
	t.Helper()
	needRoot(t)
	c.Run = "test"
	if c.Upstream == nil {
		c.Upstream = []netip.AddrPort{}
	}
	n, err := New(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

// twoNetworks are what most tests need.
func twoNetworks() Config {
	return Config{Networks: []Network{{Name: "front"}, {Name: "back"}}}
}

// joinOn joins a container that runs.
func joinOn(t testing.TB, n *Net, name, service string, networks ...string) *Port {
	t.Helper()
	e := Endpoint{Name: name, Service: service}
	for _, network := range networks {
		e.On = append(e.On, Attachment{Network: network})
	}
	return joinAs(t, n, e)
}

func joinAs(t testing.TB, n *Net, e Endpoint) *Port {
	t.Helper()
	p, err := n.Join(t.Context(), e)
	must(t, err)
	t.Cleanup(p.Close)
	p.SetRunning(true)
	return p
}

// from connects from a container's namespace.
func from(p *Port) dialer {
	return dialer{inside: func(fn func() error) error { return inNamespace(p.NetNS(), fn) }}
}

// listenIn listens in a namespace, and answers every connection with word.
func listenIn(t testing.TB, ns *os.File, at, word string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	must(t, inNamespace(ns, func() (err error) {
		l, err = net.Listen("tcp4", at)
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, word)
			_ = conn.Close()
		}
	}()
	return l.(*net.TCPListener)
}

// hear connects and returns what is said there.
func hear(t testing.TB, dial dialFunc, address string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	word, err := io.ReadAll(conn)
	return string(word), err
}

// at is host:port of a container.
func at(p *Port, port int) string {
	return net.JoinHostPort(p.Address().String(), strconv.Itoa(port))
}
