package gauge

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// Choices remembers, for the targets of a fault, which path of its filter a
// measurement can take.
type Choices struct {
	fs proc.FS

	mu sync.Mutex
	of map[string]choice // by the target's ID
}

// choice is a path, or why there is none.
type choice struct {
	gauge Gauge
	none  string
	net   experiment.Namespace
	links []filter.Link // of the match; nil where the file names them
}

// NewChoices returns Choices that hold nothing yet.
func NewChoices(fs proc.FS) *Choices { return &Choices{fs: fs, of: map[string]choice{}} }

// Note remembers what f came to for t.
func (c *Choices) Note(t experiment.Target, ns experiment.Namespace, f filter.Filter, m filter.Match) {
	made := choice{net: ns}
	made.gauge, made.none = Choose(c.fs, ns, m)
	if len(f.Interfaces) == 0 {
		made.links = m.Links
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[t.ID] = made
}

// Choose finds a path that m matches: to one of its hosts, else to the gateway
// or a neighbour. Where there is none, the text says why.
func Choose(fs proc.FS, ns experiment.Namespace, m filter.Match) (Gauge, string) {
	if m.Percent > 0 {
		return Gauge{}, "not measured: a share of flows may spare the measurement"
	}
	port, ok := portOf(m)
	if !ok {
		return Gauge{}, "not measured: the filter matches neither ICMP nor TCP connections that are made here"
	}
	addr, none := farEnd(fs, ns, m, port != 0)
	if none != "" {
		return Gauge{}, "not measured: " + none
	}
	return Gauge{Net: ns, Addr: addr, Port: port}, ""
}

// ephemeral is where the kernel begins to give ports to connections that are
// made (net.ipv4.ip_local_port_range, ip-sysctl).
const ephemeral = 32768

// portOf returns a port of the far end that m matches TCP connections to, or 0
// where it matches ICMP; false where neither is so.
func portOf(m filter.Match) (port uint16, ok bool) {
	takes := func(p uint8) bool {
		return (len(m.Protocols) == 0 || slices.Contains(m.Protocols, p)) && !slices.Contains(m.Except.Protocols, p)
	}
	spared := slices.ContainsFunc(m.Except.SourcePorts, func(r filter.PortRange) bool { return r.Last >= ephemeral })
	switch {
	case len(m.Ports)+len(m.SourcePorts) == 0 && takes(unix.IPPROTO_ICMP):
		return 0, true
	case len(m.SourcePorts) > 0 || spared || !takes(unix.IPPROTO_TCP):
		return 0, false
	}
	for _, r := range m.Ports {
		for p := max(int(r.First), 1); p <= int(r.Last); p++ {
			if !slices.ContainsFunc(m.Except.Ports, func(x filter.PortRange) bool { return int(x.First) <= p && p <= int(x.Last) }) {
				return uint16(p), true
			}
		}
	}
	return 0, false
}

// farEnd returns whom to measure the way to, or why there is nobody. Only a
// host that the filter names can be expected to have a certain port.
func farEnd(fs proc.FS, ns experiment.Namespace, m filter.Match, ported bool) (netip.Addr, string) {
	links, err := fs.Links(ns)
	if err != nil {
		return netip.Addr{}, "the target's links can't be read: " + err.Error()
	}
	fits := func(a netip.Addr) bool {
		return !a.IsMulticast() && !within(m.Except.Far, a) && reached(links, m.Links, a)
	}
	for _, p := range m.Far {
		if a := zoned(p.Addr(), m.Links); p.IsSingleIP() && fits(a) {
			return a, ""
		}
	}
	var meant []int
	for _, l := range m.Links {
		meant = append(meant, l.Index)
	}
	addr, err := fs.Gateway(ns, meant...)
	switch {
	case ported || len(m.Far) > 0 && (err != nil || !within(m.Far, addr)):
		return addr, "the filter names no single host"
	case err != nil:
		return addr, "no gateway, and no neighbour to ask"
	case !fits(addr):
		return addr, fmt.Sprintf("%s, the gateway or a neighbour, is excluded", addr)
	}
	return addr, ""
}

// within tells whether an address is in one of the ranges.
func within(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

// reached tells whether a target with these links can talk to a, by one of
// those meant as far as can be told: to itself it talks over lo.
func reached(links []proc.Link, meant []filter.Link, a netip.Addr) bool {
	self := a.IsLoopback()
	speaks := false
	for _, l := range links {
		for _, p := range l.Addresses {
			own := p.Addr()
			self = self || own == a.WithZone("")
			speaks = speaks || own.Is4() == a.Is4() && !l.Loopback && (own.Is4() || own.IsLinkLocalUnicast() == a.IsLinkLocalUnicast())
		}
	}
	if self {
		return slices.ContainsFunc(links, func(l proc.Link) bool {
			return l.Loopback && slices.Contains(meant, filter.Link{Name: l.Name, Index: l.Index})
		})
	}
	return speaks
}

// zoned gives a link-local address its link, where there is one only.
func zoned(a netip.Addr, links []filter.Link) netip.Addr {
	if a.Is6() && a.IsLinkLocalUnicast() && len(links) == 1 {
		return a.WithZone(links[0].Name)
	}
	return a
}

// Measure measures t's path as experiment.Measurer says.
func (c *Choices) Measure(ctx context.Context, t experiment.Target, p experiment.Phase) (*experiment.Measurement, error) {
	c.mu.Lock()
	made, ok := c.of[t.ID]
	c.mu.Unlock()
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if p == experiment.PhaseDuring {
		go c.untilGone(ctx, cancel, t)
	}
	if made.none != "" {
		return c.besides(ctx, made, p, &experiment.Measurement{Target: t.ID, Phase: p, What: made.none})
	}
	s, err := made.gauge.Open(c.fs)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	measure := Before
	if p == experiment.PhaseDuring {
		measure = During
	}
	rtts, lost := measure(ctx, s)
	return c.besides(ctx, made, p, Summarise(t.ID, p, s.String(), rtts, lost))
}

// untilGone ends a measurement when its target is gone: an open socket would
// keep the target's network namespace.
func (c *Choices) untilGone(ctx context.Context, cancel context.CancelFunc, t experiment.Target) {
	if len(t.PIDs) == 0 { // nobody here knows
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for slices.ContainsFunc(t.PIDs, c.fs.Alive) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	cancel()
}

// besides waits for the end, and notes links that came while the fault was on.
func (c *Choices) besides(ctx context.Context, made choice, p experiment.Phase, m *experiment.Measurement) (*experiment.Measurement, error) {
	if p != experiment.PhaseDuring {
		return m, nil
	}
	<-ctx.Done()
	links, err := c.fs.Links(made.net)
	if err != nil || made.links == nil {
		return m, nil
	}
	var later []string
	for _, l := range links {
		known := slices.ContainsFunc(made.links, func(k filter.Link) bool { return k.Index == l.Index })
		own := strings.HasPrefix(l.Name, "sm") && (l.Kind == "ifb" || l.Kind == "tuntap") // this run's, or another's
		if !known && l.Up && !l.Loopback && !own {
			later = append(later, l.Name)
		}
	}
	if len(later) > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%s came up after the fault: its packets are left alone", strings.Join(later, " ")))
	}
	return m, nil
}
