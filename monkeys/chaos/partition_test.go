package chaos

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/op"
)

// partitionForms are partitions whose plans differ.
var partitionForms = []struct{ name, fields string }{
	{"drop", ""},
	{"drop-egress", "how: drop, direction: egress"},
	{"drop-ingress", "direction: ingress"},
	{"reject", "how: reject"},
	{"reject-egress", "how: reject, direction: egress"},
	{"reject-ingress", "how: reject, direction: ingress"},
	{"reset", "how: reset"},
	{"reset-egress", "how: reset, direction: egress"},
	{"reset-ingress", "how: reset, direction: ingress, protocol: tcp, ports: 5432"},
	{"to", "to: {type: peer}"},
	{"to-egress", "to: {type: peer}, direction: egress, interfaces: [eth0]"},
	{"filter", "how: drop, protocol: [tcp, udp], ports: [80, 8000-8099], cidrs: [10.83.0.0/24, 'fd83::/64'], exclude: {to: {type: peer}, ports: 53}, percent: 50"},
}

func TestPartitionConformance(t *testing.T) {
	for _, form := range partitionForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			h := op.NewHost(host)
			var peers []experiment.Target
			fault, err := readPartition(h, &peers, form.fields)
			must(t, err)
			var l *net3
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: h.Ops(), Snapshot: netSnapshot,
				Target: func(t testing.TB) experiment.Target {
					l = newNet3For(t, h)
					peers = l.peers
					return l.web.Target
				},
				Gone: func(testing.TB, experiment.Target) { l.web.end(); l.db.end(); l.cache.end() },
			})
		})
	}
}

// TestPartitionGolden writes down what is planned. It reads a namespace with
// links, which only root can make.
func TestPartitionGolden(t *testing.T) {
	l := newNet3(t)
	before := netSnapshot(l.web.Target)
	ns, err := host.NetworkOf(l.web.Target)
	must(t, err)
	numbers := strings.NewReplacer(ns.Handle(), "net:4026533210:7")
	for _, form := range partitionForms {
		steps, err := l.partition(form.fields).Plan(t.Context(), "abcd23", l.web.Target)
		must(t, err)
		golden(t, "partition-"+form.name, numbers.Replace(describe(steps)))
	}
	if after := netSnapshot(l.web.Target); after != before {
		t.Errorf("planned, and changed: %s", after)
	}
}

// TestPartition cuts a target off from all, by each way and in each direction:
// nobody is answered, who is to be told is told, and nobody else.
func TestPartition(t *testing.T) {
	for _, how := range []string{op.ActDrop, op.ActReject, op.ActReset} {
		for _, direction := range []filter.Direction{filter.Egress, filter.Ingress, filter.Both} {
			t.Run(fmt.Sprintf("%s %s", how, direction), func(t *testing.T) {
				t.Parallel()
				l := newNet3(t)
				before := netSnapshot(l.web.Target)
				steps := l.strike(fmt.Sprintf("how: %s, direction: %s", how, direction), l.web.Target)
				for _, family := range []string{"10.83.0.", "fd83::"} {
					for _, kind := range []string{"udp", "tcp", "icmp"} {
						here := l.web.talk(kind, family+"1", patience(how, kind, direction.Egress()))
						there := l.db.talk(kind, family+"2", patience(how, kind, direction == filter.Ingress))
						t.Logf("%s %s: to others %v; from them: %v", family, kind, here, there)
						if here == nil || there == nil {
							t.Errorf("%s: %s passes: to others %v, from them %v", family, kind, here, there)
						}
						if kind == "icmp" { // whoever pings hears of nothing but answers
							continue
						}
						if want := how != op.ActDrop && direction.Egress(); told(here) != want {
							t.Errorf("%s: the target is told %t of %s: %v", family, !want, kind, here)
						}
						if want := how != op.ActDrop && direction.Ingress(); told(there) != want && direction != filter.Both {
							t.Errorf("%s: the other end is told %t of %s: %v", family, !want, kind, there)
						}
						if refused := errors.Is(here, unix.ECONNREFUSED); kind == "tcp" && direction.Egress() && refused != (how == op.ActReset) {
							t.Errorf("%s: it is refused %t: %v", family, refused, here)
						}
					}
				}
				e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
				if err != nil || !e.InForce || e.Felt != experiment.FeltYes {
					t.Errorf("%+v, %v", e, err)
				}
				t.Log(e.What)
				heal(t, steps, l.web.Target, before)
				if err := errors.Join(l.web.talk("tcp", "fd83::1", 20*time.Second), l.cache.talk("udp", "10.84.0.2", 20*time.Second)); err != nil {
					t.Errorf("when it is over: %v", err)
				}
			})
		}
	}
}

// patience is how long to wait for an answer, or for being told that there is
// none: over IPv6 the kernel tells of a TCP connection that is being made when
// it is tried again, a second later.
func patience(how, kind string, tells bool) time.Duration {
	if tells && how != op.ActDrop && kind != "icmp" {
		return 20 * time.Second
	}
	return 300 * time.Millisecond
}

// TestPartitionOneWay lets through what goes the other way.
func TestPartitionOneWay(t *testing.T) {
	for _, direction := range []filter.Direction{filter.Egress, filter.Ingress} {
		t.Run(string(direction), func(t *testing.T) {
			t.Parallel()
			l := newNet3(t)
			before := netSnapshot(l.web.Target)
			steps := l.strike(fmt.Sprintf("to: {type: peer}, direction: %s", direction), l.web.Target)
			for _, way := range []struct {
				from, to *node
				at       string
				passes   bool
			}{
				{l.web, l.db, "10.83.0.1", direction == filter.Ingress},
				{l.web, l.db, "fd83::1", direction == filter.Ingress},
				{l.db, l.web, "10.83.0.2", direction == filter.Egress},
				{l.db, l.web, "fd83::2", direction == filter.Egress},
				{l.web, l.cache, "10.84.0.1", true},
				{l.cache, l.web, "fd84::2", true},
			} {
				if got := oneWay(t, way.from, way.to, way.at, way.passes); got != way.passes {
					t.Errorf("%s to %s: passes %t", way.from.Name, way.at, got)
				}
			}
			heal(t, steps, l.web.Target, before)
		})
	}
}

// oneWay tells whether a packet that nobody answers arrives.
func oneWay(t testing.TB, from, to *node, at string, expected bool) bool {
	t.Helper()
	var sink net.PacketConn
	to.do(func() (err error) { sink, err = net.ListenPacket("udp", ":7002"); return err })
	defer sink.Close()
	from.do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(at, "7002"))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello")) // a drop is not told
		return err
	})
	wait := 300 * time.Millisecond
	if expected {
		wait = 20 * time.Second
	}
	_ = sink.SetReadDeadline(time.Now().Add(wait))
	_, _, err := sink.ReadFrom(make([]byte, 16))
	return err == nil
}

// TestPartitionGroups parts two groups of targets: those within one talk on.
func TestPartitionGroups(t *testing.T) {
	l := newNet3(t)
	before := netSnapshot(l.web.Target)
	steps := l.strike("to: {type: peer}", l.web.Target)
	for at, cut := range map[string]bool{"10.83.0.1": true, "fd83::1": true, "10.84.0.1": false, "fd84::1": false} {
		for _, kind := range []string{"udp", "tcp", "icmp"} {
			wait := map[bool]time.Duration{true: 300 * time.Millisecond, false: 20 * time.Second}[cut]
			if err := l.web.talk(kind, at, wait); (err != nil) != cut {
				t.Errorf("%s %s: %v", kind, at, err)
			}
		}
	}
	heal(t, steps, l.web.Target, before)
	l.peers = []experiment.Target{l.db.Target, l.cache.Target, l.web.Target}
	steps = l.strike("to: {type: peer}", l.web.Target)
	for _, at := range []string{"10.83.0.1", "fd84::1"} {
		if err := l.web.talk("udp", at, 300*time.Millisecond); err == nil {
			t.Errorf("%s: it talks to a group of two", at)
		}
	}
	heal(t, steps, l.web.Target, before)
}

// TestPartitionResets resets connections that stand already, at both ends.
func TestPartitionResets(t *testing.T) {
	for _, at := range []string{"10.83.0.1", "fd83::1"} {
		t.Run(at, func(t *testing.T) {
			l := newNet3(t)
			conn, err := l.web.dial("tcp", at, 20*time.Second)
			must(t, err)
			defer conn.Close()
			must(t, converse(conn, 20*time.Second))
			l.strike("how: reset", l.web.Target)
			if err := converse(conn, 20*time.Second); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPIPE) {
				t.Errorf("the connection that stood: %v", err)
			}
		})
	}
}

// TestPartitionSeveral cuts off two targets of one network, which is done once,
// and a third in another.
func TestPartitionSeveral(t *testing.T) {
	for _, how := range []string{op.ActDrop, op.ActReset} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			l := newNet3(t)
			sidecar := l.web.beside("sidecar")
			before, others := netSnapshot(l.web.Target), netSnapshot(l.db.Target)
			steps := l.strike("how: "+how, l.web.Target, sidecar.Target, l.db.Target)
			if len(steps) != 3 {
				t.Fatalf("%d steps", len(steps))
			}
			once := netSnapshot(l.web.Target)
			for _, s := range steps {
				must(t, s.Do.Apply(t.Context()))
				if e, err := s.Do.(experiment.Verifier).Verify(t.Context()); err != nil || !e.InForce {
					t.Errorf("%s: %+v, %v", s.Do, e, err)
				}
			}
			if again := netSnapshot(l.web.Target); again != once {
				t.Errorf("done twice it is not the same: %s", again)
			}
			if l.web.talk("udp", "10.84.0.1", 300*time.Millisecond) == nil || l.db.talk("udp", "10.83.0.2", 300*time.Millisecond) == nil {
				t.Error("a target is not cut off")
			}
			takeBack(t, steps[2:])
			if l.web.talk("udp", "10.83.0.1", 300*time.Millisecond) == nil {
				t.Error("one that is not taken back yet is over")
			}
			heal(t, steps, l.web.Target, before)
			heal(t, steps, l.db.Target, others)
		})
	}
}

func TestPartitionRefused(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]string{
		"how: reject":              "",
		"how: burn":                `unknown word "burn"`,
		"direction: up":            "direction", // the filter's own fields are asked for too
		"ports: 70000":             "70000",
		"exclude: {}":              "excludes nothing",
		"percent: 0":               "0 is no flow at all",
		"delay: 5ms":               "delay",
		"protocol: icmp, ports: 5": "icmp has no ports",
	} {
		_, err := readPartition(op.NewHost(host), new([]experiment.Target), fields)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", fields, err, want)
		}
	}
	self, err := host.Target(os.Getpid())
	must(t, err)
	p, err := readPartition(op.NewHost(host), new([]experiment.Target), "how: drop")
	must(t, err)
	if _, err := p.Plan(t.Context(), "abcd23", self); !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), "allowHost") {
		t.Errorf("the host's own network: %v", err)
	}
}

// TestPartitionMeasured measures what is dropped, and not what is turned away:
// that is an answer, too.
func TestPartitionMeasured(t *testing.T) {
	l := newNet3(t)
	for how, measured := range map[string]bool{"drop": true, "reject": false, "reset": false} {
		p := l.partition("to: {type: peer}, how: " + how)
		_, err := p.Plan(t.Context(), "abcd23", l.web.Target)
		must(t, err)
		m, err := p.Measure(t.Context(), l.web.Target, experiment.PhaseBefore)
		if err != nil || (m != nil) != measured || m != nil && (m.What != "round trip to 10.83.0.1 (ICMP)" || m.Sent == 0 || m.Lost > 0) {
			t.Errorf("%s: %+v, %v", how, m, err)
		}
	}
}
