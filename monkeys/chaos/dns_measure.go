package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/dnsrelay"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/gauge"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

const (
	// dnsOther is a name that no fault is about: each resolver knows that it
	// does not exist (RFC 6761, 6.4).
	dnsOther = "simian-check.invalid"
	// dnsBefore bounds what is measured before a fault.
	dnsBefore, dnsBeforeTimes = 50 * time.Millisecond, 3
	// dnsEvery is how often a name is asked for, and dnsPatience how long an
	// answer is waited for.
	dnsEvery, dnsPatience = 250 * time.Millisecond, time.Second
)

// dnsChecks knows, for each target, which lookup shows what becomes of one.
type dnsChecks struct {
	fs proc.FS

	mu sync.Mutex
	of map[string]dnsCheck // by the target's ID
}

// dnsCheck is a lookup from inside a network namespace.
type dnsCheck struct {
	fs     proc.FS
	net    experiment.Namespace
	server netip.Addr
	name   string // that matches
	kind   uint16
	others bool          // a name that does not match goes on working
	wait   time.Duration // for an answer
}

// note chooses the lookup for a target.
func (c *dnsChecks) note(t experiment.Target, ns experiment.Namespace, r dnsrelay.Rule, how *filter.Resolution) {
	k := dnsCheck{fs: c.fs, net: ns, kind: recordTypes["A"], name: dnsOther, wait: dnsPatience + r.Delay}
	if how != nil {
		at := slices.IndexFunc(how.Servers, func(a netip.Addr) bool { return a.Zone() == "" })
		if at >= 0 {
			k.server = how.Servers[at]
		}
	}
	if at := slices.IndexFunc(r.Names, func(name string) bool { return !excluded(&r, name) }); at >= 0 {
		k.name = strings.Trim(strings.ReplaceAll(r.Names[at], "*", "simian-check"), ".")
		k.others = !slices.ContainsFunc(r.Names, func(p string) bool { return dnsrelay.Matches(p, dnsOther) })
	}
	switch {
	case len(r.Types) > 0:
		k.kind = r.Types[0]
	case r.How == dnsrelay.Address && !r.Four.IsValid():
		k.kind = recordTypes["AAAA"]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]dnsCheck{}
	}
	c.of[t.ID] = k
}

// Measure implements experiment.Measurer.
func (d *DNS) Measure(ctx context.Context, t experiment.Target, phase experiment.Phase) (*experiment.Measurement, error) {
	d.checks.mu.Lock()
	k, known := d.checks.of[t.ID]
	d.checks.mu.Unlock()
	if !known || !k.server.IsValid() {
		return nil, nil
	}
	m := &lookups{check: k, said: map[string]int{}}
	if phase == experiment.PhaseBefore {
		m.before(ctx)
	} else {
		m.during(ctx)
	}
	return m.summary(t, phase), nil
}

// lookups are what was measured.
type lookups struct {
	check dnsCheck
	times []time.Duration
	lost  int
	said  map[string]int // answers, by how often
	notes []string
}

func (m *lookups) before(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dnsBefore)
	defer cancel()
	for n := 0; n < dnsBeforeTimes && !over(ctx); n++ {
		m.ask(ctx)
	}
}

func (m *lookups) during(ctx context.Context) {
	tick := time.NewTicker(dnsEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		if first && m.check.others {
			m.other(ctx)
		}
		m.ask(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask asks for the name that matches. What the end of ctx cuts short does not
// count.
func (m *lookups) ask(ctx context.Context) {
	began := time.Now()
	said, err := m.check.ask(ctx, m.check.name, m.check.kind)
	switch {
	case err == nil:
		m.times = append(m.times, time.Since(began))
		m.said[said]++
	case !over(ctx):
		m.lost++
	}
}

// over tells whether ctx has ended, or its time is up: its own timer may be
// late.
func over(ctx context.Context) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(end)
}

// other asks for a name that does not match.
func (m *lookups) other(ctx context.Context) {
	began := time.Now()
	said, err := m.check.ask(ctx, dnsOther, recordTypes["A"])
	took := time.Since(began).Round(10 * time.Microsecond)
	switch {
	case err == nil:
		m.notes = append(m.notes, fmt.Sprintf("other names are answered still: %s: %s in %s", dnsOther, said, took))
	case !over(ctx):
		m.notes = append(m.notes, fmt.Sprintf("another name, %s, has no answer: %v", dnsOther, err))
	}
}

func (m *lookups) summary(t experiment.Target, phase experiment.Phase) *experiment.Measurement {
	what := fmt.Sprintf("lookup of %s (%s) at %s", m.check.name, op.TypeName(m.check.kind), m.check.server)
	var said []string
	for answer, times := range m.said {
		said = append(said, fmt.Sprintf("%s %d×", answer, times))
	}
	if slices.Sort(said); len(said) > 0 {
		what += ", answered " + strings.Join(said, ", ")
	}
	s := gauge.Summarise(t.ID, phase, what, m.times, m.lost)
	s.Notes = m.notes
	return s
}

// ask asks the target's resolver from where the target stands.
func (k *dnsCheck) ask(ctx context.Context, name string, kind uint16) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, k.wait)
	defer cancel()
	var conn net.Conn
	err := k.fs.InNetwork(k.net, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "udp", netip.AddrPortFrom(k.server, dnsrelay.Port).String())
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	a, err := dnsrelay.Ask(ctx, conn, name, kind)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("none in %s", k.wait)
	}
	return a.String(), err
}
