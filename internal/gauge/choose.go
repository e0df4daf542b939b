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
	g := Gauge{Net: ns}
	ported := len(m.Ports) > 0 || len(m.SourcePorts) > 0
	switch icmp := takes(m.Protocols, unix.IPPROTO_ICMP); {
	case !ported && icmp:
	case len(m.SourcePorts) > 0 || !takes(m.Protocols, unix.IPPROTO_TCP) || len(m.Ports) == 0:
		return Gauge{}, "not measured: the filter matches neither ICMP nor TCP connections that are made here"
	default:
		g.Port = m.Ports[0].First
	}
	if g.Addr = single(m.Far); g.Addr.IsValid() {
		return g, ""
	}
	if g.Port != 0 {
		return Gauge{}, "not measured: the filter names no single host"
	}
	var links []int
	for _, l := range m.Links {
		links = append(links, l.Index)
	}
	addr, err := fs.Gateway(ns, links...)
	switch {
	case err != nil:
		return Gauge{}, "not measured: no gateway, and no neighbour to ask"
	case len(m.Far) > 0 && !within(m.Far, addr), within(m.Except.Far, addr):
		return Gauge{}, "not measured: the filter names no single host, and leaves the gateway or neighbour out"
	}
	g.Addr = addr
	return g, ""
}

// within tells whether a range holds the address.
func within(ranges []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr.WithZone("")) })
}

func takes(protocols []uint8, p uint8) bool {
	return len(protocols) == 0 || slices.Contains(protocols, p)
}

// single returns the first range that is one address.
func single(far []netip.Prefix) netip.Addr {
	for _, p := range far {
		if p.IsSingleIP() {
			return p.Addr()
		}
	}
	return netip.Addr{}
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
		if !known && l.Up && !l.Loopback && !strings.HasPrefix(l.Name, "sm") {
			later = append(later, l.Name)
		}
	}
	if len(later) > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%s came up after the fault: its packets are left alone", strings.Join(later, " ")))
	}
	return m, nil
}
