package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Load is the open-loop HTTP traffic of one experiment: each request is sent
// when it is due, whether or not the earlier ones were answered, and its
// latency counts from when it was due. What the sender was late by is in it.
//
//	NewLoad → Probe, for each check → Start → MeasureWindow … → Stop
type Load struct {
	streams map[string]*stream

	mu     sync.Mutex
	state  string // "", "running" or "stopped"
	cancel context.CancelFunc
	over   sync.WaitGroup
}

// NewLoad makes the load of traffic. Nothing is sent before Start.
func NewLoad(env Env, traffic []experiment.Traffic) (*Load, error) {
	l := &Load{streams: map[string]*stream{}}
	for _, t := range traffic {
		s, err := newStream(env.dialer(), t)
		if err != nil {
			return nil, fmt.Errorf("traffic %s: %w", t.Name, err)
		}
		l.streams[t.Name] = s
	}
	return l, nil
}

// Start begins to send; the first request of each traffic is due one interval
// (1/rate) from now. The end of ctx stops it, as Stop does. A load starts once.
func (l *Load) Start(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != "" {
		return errors.New("start the traffic: it is " + l.state + " already")
	}
	ctx, l.cancel = context.WithCancel(ctx)
	l.state = "running"
	for _, s := range l.streams {
		s.record.begin(time.Now())
		l.over.Go(func() { s.run(ctx) })
	}
	return nil
}

// Stop ends the traffic. Requests that are not answered yet are cut off, and
// count nowhere. It returns once no request is under way and every connection
// is closed; what was measured until then can still be asked for.
func (l *Load) Stop() {
	l.mu.Lock()
	if l.cancel != nil {
		l.cancel()
	}
	l.state = "stopped"
	l.mu.Unlock()
	l.over.Wait()
}

// Totals returns how many requests of the traffic named name are over, and how
// many of those failed.
func (l *Load) Totals(name string) (sent, failed uint64) {
	s, ok := l.streams[name]
	if !ok {
		return 0, 0
	}
	return s.record.totals()
}

// Probe returns what measures c's measure of c's traffic: success (0 to 1),
// rate (answers below 400, each second), mean, p50, p95, p99 or max (seconds).
// Results are remembered for the longest window of those asked for before
// Start, for at least two minutes.
func (l *Load) Probe(c experiment.Check) experiment.WindowProbe {
	s := l.streams[c.Traffic]
	if s != nil {
		s.record.keepFor(c.Window.D() + s.timeout + rememberAtLeast)
	}
	return &windowProbe{s, c}
}

// windowProbe measures one thing of one traffic.
type windowProbe struct {
	stream *stream // nil where there is none of that name
	check  experiment.Check
}

// MeasureWindow implements experiment.WindowProbe: it covers the requests that
// were due from from on and before to, and waits until each of them is
// answered, has failed or has timed out.
func (p *windowProbe) MeasureWindow(ctx context.Context, from, to time.Time) (float64, error) {
	if p.stream == nil {
		return 0, fmt.Errorf("no traffic is named %q", p.check.Traffic)
	}
	measure, ok := measures[p.check.Measure]
	if !ok {
		return 0, fmt.Errorf("%q cannot be measured of traffic", p.check.Measure)
	}
	outcomes, err := p.stream.record.window(ctx, from, to)
	if err != nil {
		return 0, err
	}
	return measure(outcomes, to.Sub(from)), nil
}
