package gauge

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, text := range list {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func portsFrom(first, last uint16) []filter.PortRange {
	return []filter.PortRange{{First: first, Last: last}}
}

// TestChoose asks which path is measured, in a namespace with both families
// whose gateway is 10.204.0.2.
func TestChoose(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	run(t, p.near, "ip", "route", "add", "default", "via", "10.204.0.2")
	tcp, icmp := []uint8{6}, []uint8{1, 58}
	const (
		gateway = "round trip to 10.204.0.2 (ICMP)"
		neither = "not measured: the filter matches neither ICMP nor TCP connections that are made here"
		nobody  = "not measured: the filter names no single host"
	)
	for _, c := range []struct {
		name string
		match,
		except filter.Criteria
		percent float64
		want    string
	}{
		{name: "all packets", want: gateway},
		{name: "ICMP", match: filter.Criteria{Protocols: icmp}, want: gateway},
		{name: "a share", percent: 50, want: "not measured: a share of flows may spare the measurement"},
		{name: "one host", match: filter.Criteria{Far: prefixes("192.0.2.7/32")}, want: "round trip to 192.0.2.7 (ICMP)"},
		{name: "the first of several", match: filter.Criteria{Far: prefixes("10.0.0.0/8", "192.0.2.7/32", "192.0.2.9/32")}, want: "round trip to 192.0.2.7 (ICMP)"},
		{name: "one host, excluded", match: filter.Criteria{Far: prefixes("192.0.2.7/32", "192.0.2.9/32")}, except: filter.Criteria{Far: prefixes("192.0.2.0/29")}, want: "round trip to 192.0.2.9 (ICMP)"},
		{name: "IPv6", match: filter.Criteria{Far: prefixes("fd00:204::2/128")}, want: "round trip to fd00:204::2 (ICMP)"},
		{name: "link-local", match: filter.Criteria{Far: prefixes("fe80::2/128")}, want: "round trip to fe80::2%v (ICMP)"},
		{name: "a group", match: filter.Criteria{Far: prefixes("224.0.0.251/32")}, want: nobody},
		{name: "to itself", match: filter.Criteria{Far: prefixes("127.0.0.1/32", "10.204.0.1/32", "192.0.2.7/32")}, want: "round trip to 192.0.2.7 (ICMP)"},
		{name: "a range with the gateway", match: filter.Criteria{Far: prefixes("10.204.0.0/24")}, want: gateway},
		{name: "a range without", match: filter.Criteria{Far: prefixes("192.0.2.0/24")}, want: nobody},
		{name: "all but the gateway", except: filter.Criteria{Far: prefixes("10.204.0.0/24")}, want: "not measured: 10.204.0.2, the gateway or a neighbour, is excluded"},
		{name: "all but ICMP", except: filter.Criteria{Protocols: icmp}, want: neither},
		{name: "all but some ports", except: filter.Criteria{Ports: portsFrom(22, 22)}, want: gateway},
		{name: "UDP", match: filter.Criteria{Protocols: []uint8{17}}, want: neither},
		{name: "TCP, and no port", match: filter.Criteria{Protocols: tcp, Far: prefixes("192.0.2.7/32")}, want: neither},
		{name: "UDP ports", match: filter.Criteria{Protocols: []uint8{17}, Ports: portsFrom(53, 53), Far: prefixes("192.0.2.7/32")}, want: neither},
		{name: "a port of one host", match: filter.Criteria{Protocols: []uint8{6, 17, 132}, Ports: portsFrom(5432, 5440), Far: prefixes("192.0.2.7/32")}, want: "round trip to 192.0.2.7 (TCP port 5432)"},
		{name: "a port of one host, excluded", match: filter.Criteria{Ports: portsFrom(0, 2), Far: prefixes("192.0.2.7/32")}, except: filter.Criteria{Ports: portsFrom(1, 1)}, want: "round trip to 192.0.2.7 (TCP port 2)"},
		{name: "all of its ports excluded", match: filter.Criteria{Ports: portsFrom(80, 81), Far: prefixes("192.0.2.7/32")}, except: filter.Criteria{Ports: portsFrom(1, 100)}, want: neither},
		{name: "a port of all hosts", match: filter.Criteria{Ports: portsFrom(80, 80)}, want: nobody},
		{name: "a port of a range", match: filter.Criteria{Ports: portsFrom(80, 80), Far: prefixes("10.204.0.0/24")}, want: nobody},
		{name: "ports of its own", match: filter.Criteria{SourcePorts: portsFrom(80, 80), Far: prefixes("192.0.2.7/32")}, want: neither},
		{name: "ports of its own excluded", match: filter.Criteria{Ports: portsFrom(80, 80), Far: prefixes("192.0.2.7/32")}, except: filter.Criteria{SourcePorts: portsFrom(22, 22)}, want: "round trip to 192.0.2.7 (TCP port 80)"},
		{name: "those of connections excluded", match: filter.Criteria{Ports: portsFrom(80, 80), Far: prefixes("192.0.2.7/32")}, except: filter.Criteria{SourcePorts: portsFrom(1024, 65535)}, want: neither},
		{name: "TCP excluded", match: filter.Criteria{Ports: portsFrom(80, 80), Far: prefixes("192.0.2.7/32")}, except: filter.Criteria{Protocols: tcp}, want: neither},
	} {
		m := filter.Match{Links: []filter.Link{{Name: "v", Index: p.index(t, "v")}}, Egress: true, Criteria: c.match, Except: c.except, Percent: c.percent}
		g, why := Choose(proc.Host(), p.near, m)
		if why == "" {
			why = g.String()
		}
		if why != c.want {
			t.Errorf("%s: %s, want %s", c.name, why, c.want)
		}
	}
}

// TestChooseFamily chooses a host that the target can reach.
func TestChooseFamily(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	both := filter.Match{Links: []filter.Link{{Name: "v", Index: p.index(t, "v")}}, Criteria: filter.Criteria{Far: prefixes("10.204.0.2/32", "fd00:204::2/128")}}
	run(t, p.near, "ip", "-4", "addr", "flush", "dev", "v")
	if g, why := Choose(proc.Host(), p.near, both); g.Addr != far["IPv6"] {
		t.Errorf("%s %s: the target has IPv6 only", g, why)
	}
	all := both
	all.Far = nil
	if g, why := Choose(proc.Host(), p.near, all); why != "" || !g.Addr.Is6() {
		t.Errorf("%s %s", g, why)
	}
	all.Links = []filter.Link{{Name: "lo", Index: 1}}
	if g, why := Choose(proc.Host(), p.near, all); why != "not measured: no gateway, and no neighbour to ask" {
		t.Errorf("%s %s", g, why)
	}
	all.Far = prefixes("127.0.0.1/32")
	if g, why := Choose(proc.Host(), p.near, all); g.Addr != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%s %s: lo is meant", g, why)
	}
}

func (p pair) index(t testing.TB, name string) (index int) {
	t.Helper()
	links, err := proc.Host().Links(p.near)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == name {
			index = l.Index
		}
	}
	return index
}

func (p pair) target(t testing.TB) experiment.Target {
	t.Helper()
	target, err := proc.Host().Target(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	target.ID = target.PIDs[0].Handle()
	return target
}

func (p pair) match(t testing.TB) filter.Match {
	t.Helper()
	return filter.Match{Links: []filter.Link{{Name: "v", Index: p.index(t, "v")}}, Egress: true, Criteria: filter.Criteria{Far: prefixes("10.204.0.2/32")}}
}

// TestMeasure measures before and during, and nothing of what nobody noted.
func TestMeasure(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	target, c := p.target(t), NewChoices(proc.Host())
	if m, err := c.Measure(t.Context(), target, experiment.PhaseBefore); m != nil || err != nil {
		t.Errorf("nobody noted it: %+v, %v", m, err)
	}
	c.Note(target, p.near, filter.Filter{}, p.match(t))
	for phase, least := range map[experiment.Phase]int{experiment.PhaseBefore: 1, experiment.PhaseDuring: 2} {
		var m *experiment.Measurement
		var err error
		for try := 0; m == nil || m.Sent < least && try < 20; try++ { // a busy machine may take longer to answer than Before waits
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(try+1)*300*time.Millisecond)
			m, err = c.Measure(ctx, target, phase)
			cancel()
			if err != nil {
				break
			}
			if phase == experiment.PhaseBefore && m.Lost > 0 {
				m.Sent = 0
			}
		}
		if err != nil || m.Target != target.ID || m.Phase != phase || m.What != "round trip to 10.204.0.2 (ICMP)" || m.Sent < least || m.Lost > 0 || m.Notes != nil {
			t.Errorf("%s: %+v, %v", phase, m, err)
		}
	}
	share := p.match(t)
	share.Percent = 5
	c.Note(target, p.near, filter.Filter{}, share) // the latest plan counts
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	m, err := c.Measure(ctx, target, experiment.PhaseDuring)
	if err != nil || !strings.HasPrefix(m.What, "not measured: ") || m.Sent > 0 || ctx.Err() == nil {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestLaterLinks notes links that come up while a fault is on: not those of
// Simian's own, nor where the file says which links are meant.
func TestLaterLinks(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	target, c := p.target(t), NewChoices(proc.Host())
	measure := func(f filter.Filter, while func()) []string {
		t.Helper()
		c.Note(target, p.near, f, p.match(t))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		while()
		m, err := c.Measure(ctx, target, experiment.PhaseDuring)
		if err != nil {
			t.Fatal(err)
		}
		return m.Notes
	}
	if notes := measure(filter.Filter{}, func() {}); notes != nil {
		t.Errorf("nothing came: %q", notes)
	}
	add := func(up bool, links ...netlink.Link) {
		t.Helper()
		err := proc.Host().InNetwork(p.near, func() error {
			for _, l := range links {
				if err := netlink.LinkAdd(l); err != nil {
					return err
				}
				if up {
					if err := netlink.LinkSetUp(l); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	veth := func(name string) netlink.Link {
		return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "p" + name}
	}
	if notes := measure(filter.Filter{}, func() { add(false, veth("down0")) }); notes != nil {
		t.Errorf("what came is down: %q", notes)
	}
	own := &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "smabcd230"}}
	notes := measure(filter.Filter{}, func() { add(true, own, veth("smart0")) })
	if len(notes) != 1 || notes[0] != "smart0 came up after the fault: its packets are left alone" {
		t.Errorf("notes %q", notes)
	}
	if notes := measure(filter.Filter{Interfaces: []string{"v"}}, func() { add(true, veth("late0")) }); notes != nil {
		t.Errorf("the file names the links: %q", notes)
	}
}

// TestMeasureGone ends a measurement when its target is gone: an open socket
// would keep the network namespace. One that no process here is known of goes
// on.
func TestMeasureGone(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	target, c := p.target(t), NewChoices(proc.Host())
	c.Note(target, p.near, filter.Filter{}, p.match(t))
	anonymous := target
	anonymous.PIDs = nil
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	if m, err := c.Measure(ctx, anonymous, experiment.PhaseDuring); err != nil || m.Sent < 2 || ctx.Err() == nil {
		t.Errorf("no process is known: %+v, %v", m, err)
	}
	time.AfterFunc(50*time.Millisecond, p.end)
	done := make(chan error, 1)
	go func() {
		_, err := c.Measure(context.Background(), target, experiment.PhaseDuring)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it measures on")
	}
	if _, err := c.Measure(t.Context(), target, experiment.PhaseBefore); err == nil {
		t.Error("a namespace that is gone is measured")
	}
}
