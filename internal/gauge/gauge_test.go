package gauge

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

func TestString(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("10.1.0.1")
	for want, g := range map[string]Gauge{
		"round trip to 10.1.0.1 (ICMP)":          {Addr: addr},
		"round trip to 10.1.0.1 (TCP port 5432)": {Addr: addr, Port: 5432},
	} {
		if got := g.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestPing measures on a link that adds nothing: each way to ask gets its
// answer, in a time that can be.
func TestPing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	open := p.listen(t)
	for family, addr := range far {
		for name, port := range map[string]uint16{"ICMP": 0, "SYN/ACK": open, "RST": 1} {
			t.Run(family+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := p.open(t, addr, port)
				for range 20 {
					began := time.Now()
					rtt, err := s.Ping(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if rtt <= 0 || rtt > time.Since(began) {
						t.Errorf("round trip of %v, it took %v", rtt, time.Since(began))
					}
				}
			})
		}
	}
}

func (p pair) open(t testing.TB, addr netip.Addr, port uint16) *Session {
	t.Helper()
	s, err := Gauge{p.near, addr, port}.Open(proc.Host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLinkLocal(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	port := p.listen(t)
	for _, zone := range []string{"v", strconv.Itoa(linkIndex(t, p))} {
		for _, port := range []uint16{0, port} {
			addr := netip.MustParseAddr("fe80::2%" + zone)
			if _, err := (Gauge{p.near, addr, port}).Once(t.Context(), proc.Host()); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := (Gauge{p.near, netip.MustParseAddr("fe80::2%none"), 0}).Open(proc.Host()); err == nil {
		t.Error("opened on a link that isn't there")
	}
}

func linkIndex(t *testing.T, p pair) (index int) {
	t.Helper()
	err := proc.Host().InNetwork(p.near, func() error {
		i, err := zoneOf(netip.MustParseAddr("fe80::2%v"))
		index = int(i)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestConnectionDoesNotLinger: the far end sees a reset, and neither side keeps
// a connection that waits for its end.
func TestConnectionDoesNotLinger(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s := p.open(t, far["IPv4"], p.listen(t))
	for range 10 {
		if _, err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	err := proc.Host().InNetwork(p.near, func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp")
		if bytes.Count(table, []byte("\n")) != 1 { // its heading
			t.Errorf("connections:\n%s", table)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s := p.open(t, far["IPv4"], 0)
	other := p.open(t, far["IPv4"], 0) // whose answers come here too
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if _, err := []*Session{s, other}[i%2].Ping(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestPingSocket(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	err := proc.Host().InNetwork(p.near, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	for family, addr := range far {
		s := &Session{gauge: Gauge{p.near, addr, 0}}
		err := proc.Host().InNetwork(p.near, func() (err error) {
			s.echo, err = newEcho(s.address(), addr.Is6(), false)
			return err
		})
		if err != nil {
			t.Fatal(family, err)
		}
		defer s.Close()
		if _, err := s.Ping(t.Context()); err != nil {
			t.Error(family, err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for family, addr := range nowhere {
		for name, port := range map[string]uint16{"ICMP": 0, "TCP": 80} {
			t.Run(family+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := p.open(t, addr, port)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				if rtt, err := s.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, %v", rtt, err)
				}
				if rtts, lost := Before(t.Context(), s); len(rtts) != 0 || lost != 1 {
					t.Errorf("before: %v, %d lost", rtts, lost)
				}
			})
		}
	}
}

func TestNoWay(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	elsewhere := netip.MustParseAddr("192.0.2.1")
	for _, port := range []uint16{0, 80} {
		if _, err := (Gauge{p.near, elsewhere, port}).Once(t.Context(), proc.Host()); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	if _, err := (Gauge{Net: p.near}).Once(t.Context(), proc.Host()); err == nil {
		t.Error("no error where there is no address")
	}
}

// TestLinkGoesAndComes: an error that the socket met is not the end of it.
func TestLinkGoesAndComes(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s := p.open(t, far["IPv4"], 0)
	run(t, p.near, "ip", "link", "set", "v", "down")
	if rtt, err := s.Ping(t.Context()); err == nil {
		t.Errorf("an answer after %v through a link that is down", rtt)
	}
	run(t, p.near, "ip", "link", "set", "v", "up")
	err := errors.New("never tried")
	for range 20 { // a link may need a moment
		if _, err = s.Ping(t.Context()); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error(err)
}

func TestNamespaceGone(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	port := p.listen(t)
	tcp, echo := p.open(t, far["IPv4"], port), p.open(t, far["IPv4"], 0)
	p.end()
	if _, err := tcp.Ping(t.Context()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("TCP: %v", err)
	}
	if _, err := echo.Ping(t.Context()); err != nil { // its socket keeps the namespace
		t.Errorf("ICMP: %v", err)
	}
	for _, port := range []uint16{0, port} {
		if _, err := (Gauge{p.near, far["IPv4"], port}).Once(t.Context(), proc.Host()); err == nil {
			t.Errorf("port %d: no error", port)
		} else if !errors.Is(err, experiment.ErrGone) {
			t.Errorf("port %d: %v", port, err)
		}
	}
}

func TestCloseEndsPings(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s := p.open(t, nowhere["IPv4"], 0)
	done := make(chan error)
	go func() {
		_, err := s.Ping(t.Context())
		done <- err
	}()
	time.Sleep(10 * time.Millisecond) // so that it waits: either way it ends
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestBeforeAndDuringForReal(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, port := range []uint16{0, p.listen(t)} {
		s := p.open(t, far["IPv6"], port)
		if rtts, lost := Before(t.Context(), s); len(rtts) == 0 || lost != 0 {
			t.Errorf("%s, before: %v, %d lost", s, rtts, lost)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 350*time.Millisecond)
		defer cancel()
		rtts, lost := During(ctx, s)
		if len(rtts) == 0 || lost != 0 {
			t.Errorf("%s, during: %v, %d lost", s, rtts, lost)
		}
		t.Logf("%s: %v", s, rtts)
	}
}
