package latency

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// probes are one of each kind, to both addresses of the peer. Those that have a
// port of their own have this one: a TCP connection that was lost lingers.
func probes(from int) (list []probe) {
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, to := range []netip.Addr{peerIP[family], otherIP[family]} {
			list = append(list,
				probe{kind: "udp", to: to, port: 7001}, probe{kind: "udp", to: to, port: 7002}, probe{kind: "udp", to: to, port: 7001, from: from},
				probe{kind: "tcp", to: to, port: 7001}, probe{kind: "tcp", to: to, port: 7002}, probe{kind: "tcp", to: to, port: 7002, from: from},
				probe{kind: "icmp", to: to})
		}
	}
	return list
}

func (p probe) first() bool { return p.to == peerIP["IPv4"] || p.to == peerIP["IPv6"] }

// filters are what a file says, and which probes it means.
var filters = []struct {
	name, fields string
	hit          func(p probe) bool
}{
	{"port", "ports: 7001", func(p probe) bool { return p.port == 7001 }},
	{"range of ports, one protocol", "protocol: tcp, ports: [80, 7000-7001]", func(p probe) bool { return p.kind == "tcp" && p.port == 7001 }},
	{"source port", "sourcePorts: 6000-6099", func(p probe) bool { return p.from != 0 }},
	{"both ports", "ports: 7002, sourcePorts: [22, 6000-6099]", func(p probe) bool { return p.from != 0 && p.port == 7002 }},
	{"protocol", "protocol: icmp", func(p probe) bool { return p.kind == "icmp" }},
	{"protocols", "protocol: [udp, icmp]", func(p probe) bool { return p.kind != "tcp" }},
	{"address", "cidrs: [10.81.0.1, 'fd81::1']", probe.first},
	{"range", "cidrs: [10.81.0.0/31, 'fd81::2/127']", func(p probe) bool { return p.to == peerIP["IPv4"] || p.to == otherIP["IPv6"] }},
	{"host by address", "hosts: [10.81.0.3], protocol: udp", func(p probe) bool { return p.to == otherIP["IPv4"] && p.kind == "udp" }},
	{"host by name", "hosts: [db.test]", probe.first},
	{"exclude a port", "exclude: {ports: 7002}", func(p probe) bool { return p.port != 7002 }},
	{"exclude a host", "exclude: {hosts: [db.test]}", func(p probe) bool { return !p.first() }},
	{"exclude several", "ports: [7001, 7002], exclude: {protocol: tcp, cidrs: ['fd81::/64'], sourcePorts: 6000-6099}", func(p probe) bool {
		return p.kind == "udp" && p.to.Is4() && p.from == 0
	}},
}

// TestFilters loses all that a filter means, and nothing else, by each backend
// and in each direction.
func TestFilters(t *testing.T) {
	for _, backend := range through("", backendNetem, backendQueue) {
		for _, direction := range directions() {
			t.Run(fmt.Sprintf("%s %s", backend, direction), func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t)
				w.target.file("etc/hosts", "10.81.0.1 db.test\nfd81::1 db.test\n")
				before := w.snapshot(w.target.Target)
				for i, c := range filters {
					t.Run(c.name, func(t *testing.T) {
						w.t, w.target.t = t, t
						steps := w.strike(forced(backend, fmt.Sprintf("loss: 100, direction: %s, %s", direction, c.fields)))
						w.lost(6000+i, c.hit)
						w.felt(steps)
						w.heal(steps, before)
					})
				}
				w.t, w.target.t = t, t
				w.lost(6050, func(probe) bool { return false })
			})
		}
	}
}

// lost wants the probes to be lost that are hit, and no others.
func (w *wire) lost(from int, hit func(p probe) bool) {
	w.t.Helper()
	all := probes(from)
	lost := w.touched(all, func(p probe) bool { return !hit(p) })
	for _, p := range all {
		if got := slices.Contains(lost, p); got != hit(p) {
			w.t.Errorf("%s: lost %t", p, got)
		}
	}
}

// TestPercent takes a share of flows: each as a whole, the same both ways.
func TestPercent(t *testing.T) {
	for _, backend := range through("", backendNetem, backendQueue) {
		for _, direction := range directions() {
			t.Run(fmt.Sprintf("%s %s", backend, direction), func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t)
				before := w.snapshot(w.target.Target)
				steps := w.strike(forced(backend, fmt.Sprintf("loss: 100, percent: 40, direction: %s", direction)))
				for _, at := range peerIP {
					const n = 300
					whole, torn := w.flows(at, n)
					t.Logf("%s: %d of %d flows pass, %d in part", at, whole, n, torn)
					between(t, "(flows) pass", whole, n, .6-.18, .6+.18)
					if torn > 0 {
						t.Errorf("%d flows pass in part", torn)
					}
				}
				w.felt(steps)
				w.heal(steps, before)
			})
		}
	}
}

// flows sends three packets of each of n flows, and returns how many have all
// of their answers, and how many some.
func (w *wire) flows(at netip.Addr, n int) (whole, torn int) {
	w.t.Helper()
	var all sync.WaitGroup
	answers := make([]int, n)
	for i := range n {
		conn, err := w.target.dial(probe{to: at, port: 7001}, time.Minute)
		must(w.t, err)
		defer conn.Close()
		for k := range 3 {
			_, _ = conn.Write(binary.BigEndian.AppendUint32(nil, uint32(k)))
		}
		all.Go(func() {
			b := make([]byte, 16)
			for _ = conn.SetReadDeadline(time.Now().Add(2 * time.Second)); answers[i] < 3; answers[i]++ {
				if _, err := conn.Read(b); err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	for _, got := range answers {
		switch got {
		case 0:
		case 3:
			whole++
		default:
			torn++
		}
	}
	return whole, torn
}

// TestTo means what a selector finds: one peer of two.
func TestTo(t *testing.T) {
	for _, backend := range through("", backendNetem, backendQueue) {
		t.Run("backend "+backend, func(t *testing.T) {
			t.Parallel()
			need(t, backend)
			w, third := newWire(t), newSpace(t, "cache")
			at := netip.MustParseAddr("10.82.0.1")
			w.second(third)
			before := w.snapshot(w.target.Target)
			w.peers = []experiment.Target{third.Target, w.target.Target} // itself is of no matter
			steps := w.strike(forced(backend, "loss: 100, direction: both, to: {type: peer}"))
			w.lost(6050, func(probe) bool { return false })
			if w.answers(probe{to: at, port: 7001}, 400*time.Millisecond) {
				t.Error("what is selected is spared")
			}
			w.heal(steps, before)
			steps = w.strike(forced(backend, "loss: 100, direction: both, exclude: {to: {type: peer}}"))
			w.lost(6060, func(probe) bool { return true })
			if !w.answers(probe{to: at, port: 7001}, 20*time.Second) {
				t.Error("what is excluded is hit")
			}
			w.heal(steps, before)
		})
	}
	t.Run("nobody else", func(t *testing.T) {
		w := newWire(t, "IPv4")
		w.peers = []experiment.Target{w.target.Target}
		if _, err := w.fault("loss: 1, to: {type: peer}").Plan(t.Context(), run, w.target.Target); err == nil {
			t.Error("it is to itself")
		}
	})
}

// second joins the target by eth1 to another peer, at 10.82.0.1 and fd82::1.
func (w *wire) second(s *space) {
	w.t.Helper()
	peer := w.peer
	w.peer = s
	w.join("eth1", 9, "peer1")
	w.peer = peer
	near := []netip.Addr{netip.MustParseAddr("10.82.0.2"), netip.MustParseAddr("fd82::2")}
	far := []netip.Addr{netip.MustParseAddr("10.82.0.1"), netip.MustParseAddr("fd82::1")}
	w.target.raise("eth1", 4, near...)
	s.raise("peer1", 5, far...)
	w.target.knows("eth1", 5, far...)
	s.knows("peer1", 4, near...)
	s.answer()
	for _, a := range far {
		w.ready(a)
	}
}

// TestInterfaces strikes all links, or the one that the file names.
func TestInterfaces(t *testing.T) {
	for _, backend := range through("", backendNetem, backendQueue) {
		for _, direction := range []filter.Direction{filter.Egress, filter.Both} {
			t.Run(fmt.Sprintf("%s %s", backend, direction), func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t)
				w.second(newSpace(t, "cache"))
				before := w.snapshot(w.target.Target)
				at := map[string]probe{"eth0": {kind: "udp", to: peerIP["IPv4"], port: 7001}, "eth1": {kind: "udp", to: netip.MustParseAddr("fd82::1"), port: 7001}}
				for _, named := range []string{"", "eth0", "eth1"} {
					fields := fmt.Sprintf("loss: 100, direction: %s", direction)
					if named != "" {
						fields += ", interfaces: [" + named + "]"
					}
					steps := w.strike(forced(backend, fields))
					for link, p := range at {
						hit := named == "" || named == link
						if lost := w.touched([]probe{p}, func(probe) bool { return !hit }); (lost != nil) != hit {
							t.Errorf("interfaces %q: %s lost %t", named, p, lost != nil)
						}
					}
					w.felt(steps)
					w.heal(steps, before)
				}
			})
		}
	}
}

// TestMeasured asks a fault to measure what it does.
func TestMeasured(t *testing.T) {
	w := newWire(t, "IPv4")
	f := w.fault("delay: 20ms, backend: queue, hosts: [10.81.0.3]")
	steps, err := f.Plan(t.Context(), run, w.target.Target)
	must(t, err)
	m, err := f.Measure(t.Context(), w.target.Target, experiment.PhaseBefore)
	must(t, err)
	w.apply(steps)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	during, err := f.Measure(ctx, w.target.Target, experiment.PhaseDuring)
	must(t, err)
	t.Logf("before %+v, during %+v", m, during)
	if m.What != "round trip to 10.81.0.3 (ICMP)" || m.Sent == 0 || m.Lost > 0 || during.Sent == 0 || during.Min < .02 {
		t.Errorf("before %+v, during %+v", m, during)
	}
	if m, err := newFault(w.host).Measure(t.Context(), w.target.Target, experiment.PhaseBefore); m != nil || err != nil {
		t.Errorf("measured without a plan: %+v, %v", m, err)
	}
	if ns, err := proc.Host().NetworkOf(w.target.Target); err != nil || ns.Cookie == 0 {
		t.Log("no cookie:", err)
	}
}
