package report

import (
	"math"

	"github.com/simianhq/simian/experiment"
)

// A sample can belong to another phase than the one it was written in: it is
// written when its answers are in, up to a request's timeout after its window;
// and the mark of the after phase points back to the first of the held samples
// that ended recovery, which is three samples of the slowest check. So a check
// keeps its last samples until no mark can reach back to them. Its checks are
// all sampled at one interval, so 512 of them span three samples that each
// take 170 intervals: 17 s where samples are taken every 100 ms.
const (
	keepSamples = 512
	mostSamples = 2 * keepSamples
)

// recoveredAfter is how many held samples in a row end a check's recovery.
const recoveredAfter = 3

// checkFold is what the samples of one check have come to.
type checkFold struct {
	experiment.CheckSummary
	phases  [phaseCount]tally
	pending []sample // the last ones, not yet in phases
	cells   []cell   // for the trend
	total   int

	// The way back, from the moment the last fault was taken back.
	streak     int // held samples in a row
	streakFrom experiment.BootTime
	mended     bool
	mendedFrom experiment.BootTime
	failed     bool // since the last fault struck
	everFailed bool // since the first fault struck
}

// sample is what a check keeps of an experiment.Sample.
type sample struct {
	from, to experiment.BootTime
	value    float64
	held     bool
	err      string // why there is no value
}

// measured tells whether s has a value.
func (s *sample) measured() bool { return s.err == "" }

// tally counts the samples of one phase.
type tally struct {
	count, failed, measured int
	sum, worst              float64 // of those measured
	err                     string
	firstFailed             experiment.BootTime // the end of its window, the earliest
}

func (t *tally) add(c *checkFold, s *sample) {
	if t.count++; !s.held {
		if t.failed++; t.failed == 1 || s.to < t.firstFailed {
			t.firstFailed = s.to
		}
	}
	if !s.measured() {
		if t.err == "" {
			t.err = s.err
		}
		return
	}
	if t.measured++; t.measured == 1 || c.badness(s.value) > c.badness(t.worst) {
		t.worst = s.value
	}
	t.sum += s.value
}

// samples returns the tally as a result has it.
func (t *tally) samples() Samples {
	s := Samples{Count: t.count, Failed: t.failed, Error: t.err}
	if t.measured > 0 {
		worst := t.worst
		s.Worst = &worst
	}
	return s
}

// badness is how far value lies outside the bounds; below zero, how far
// inside.
func (c *checkFold) badness(value float64) float64 {
	bad := math.Inf(-1)
	if c.Min != nil {
		bad = c.Min.Value - value
	}
	if c.Max != nil {
		bad = max(bad, value-c.Max.Value)
	}
	return bad
}

// sample takes one sample in.
func (f *Folder) sample(e *experiment.Sample) {
	if e == nil || e.Check < 0 || e.Check >= len(f.checks) {
		return
	}
	c := f.checks[e.Check]
	s := sample{from: e.From, to: max(e.From, e.To), value: e.Value, held: e.Held, err: e.Error}
	if s.err == "" && (math.IsNaN(s.value) || math.IsInf(s.value, 0)) {
		s.err = "no number"
	}
	s.held = s.held && s.measured()
	c.total++
	c.keep(s, f.marks)
	c.follow(&s, f.injected)
	f.grid.add(f.checks, c, &s)
}

// keep puts s with the last samples, and counts the oldest of them.
func (c *checkFold) keep(s sample, m marks) {
	if len(c.pending) == mostSamples {
		tallyUp(c, &c.phases, c.pending[:keepSamples], m)
		c.pending = append(c.pending[:0], c.pending[keepSamples:]...)
	}
	c.pending = append(c.pending, s)
}

// tallyUp adds samples to the tallies of the phases they lie in.
func tallyUp(c *checkFold, phases *[phaseCount]tally, samples []sample, m marks) {
	for i := range samples {
		s := &samples[i]
		if phase, ok := m.of(s.from, s.to); ok {
			phases[phase].add(c, s)
		}
	}
}

// follow keeps track of whether the check is steady again.
func (c *checkFold) follow(s *sample, injected *experiment.BootTime) {
	switch {
	case s.held && s.from >= c.streakFrom:
		c.streak++
		if c.streak == 1 {
			c.streakFrom = s.from
		}
		if c.streak == recoveredAfter && !c.mended {
			c.mended, c.mendedFrom = true, c.streakFrom
		}
	case !s.held:
		c.fail(s, injected)
	}
}

// fail takes in a failed sample. The first one after a fault struck undoes a
// recovery that was none: the fault had not been felt yet.
func (c *checkFold) fail(s *sample, injected *experiment.BootTime) {
	c.streak, c.streakFrom = 0, max(c.streakFrom, s.from)
	if injected == nil || s.to <= *injected {
		return
	}
	if !c.failed {
		c.mended = false
	}
	c.failed, c.everFailed = true, true
}

// takenBack says that a fault was taken back at t; or that it struck, where
// it cannot be taken back: held samples count from there.
func (c *checkFold) takenBack(t experiment.BootTime, struck bool) {
	c.streak, c.streakFrom, c.mended = 0, t, false
	if struck {
		c.failed = false
	}
}

// tallies returns the counts of all phases, the last samples included.
func (c *checkFold) tallies(m marks) [phaseCount]tally {
	phases := c.phases
	tallyUp(c, &phases, c.pending, m)
	return phases
}

// checkResults returns how the checks bore the run.
func (f *Folder) checkResults() []Check {
	out := make([]Check, 0, len(f.checks))
	columns := f.grid.columns(f.checks)
	for _, c := range f.checks {
		phases := c.tallies(f.marks)
		r := Check{
			Name: c.Name, Unit: c.Unit, Weight: c.Weight, Allow: c.Allow,
			Min: number(c.Min), Max: number(c.Max),
			Before: phases[before].samples(), During: phases[during].samples(), After: phases[after].samples(),
			Mean: mean(phases[during], phases[before]), Trend: f.grid.trend(c, columns),
		}
		r.Recovery, r.Unsteady = phases[recovery].samples(), f.unsteady(c)
		r.Held = f.held(&r)
		r.Impact, r.Mend = f.impact(&phases[during]), f.mend(c)
		out = append(out, r)
	}
	return out
}

// held tells whether c held during and after. A phase that was never sampled
// did not hold, but for a fault that strikes in a moment and is over: there is
// no during to sample.
func (f *Folder) held(c *Check) bool {
	if c.Before.Count == 0 && f.header.Experiment.SteadyFor > 0 {
		return false
	}
	moment := c.During.Count == 0 && !f.lasts()
	return f.injected != nil && (moment || c.During.holds(c.Allow)) && c.After.holds(c.Allow)
}

// unsteady tells whether recovery ran out with c's last samples not held.
func (f *Folder) unsteady(c *checkFold) bool {
	_, begun := f.marks.since(recovery)
	_, settled := f.marks.since(after)
	return begun && !settled && f.finished && f.wentItsWay() && c.streak < recoveredAfter
}

// holds tells whether no more than allow percent of the samples failed, and
// there are some.
func (s Samples) holds(allow experiment.Percent) bool { return s.Count > 0 && !s.broke(allow) }

// broke tells whether more than allow percent of the samples failed.
func (s Samples) broke(allow experiment.Percent) bool {
	return float64(s.Failed)*100 > float64(allow)*float64(s.Count)
}

// impact is the time from the first fault in force to the end of the window
// of the first sample that failed during.
func (f *Folder) impact(t *tally) *float64 {
	if f.injected == nil || t.failed == 0 {
		return nil
	}
	return seconds(max(0, t.firstFailed.Sub(*f.injected)))
}

// mend is the time from the fault's end to the start of the window of the
// first of three held samples in a row. The fault's end is when the last of
// them was taken back, or struck, where there is no taking it back. A sample
// counts where its whole window comes after that and, since a fault needs a
// moment to be felt, after the first sample that failed.
func (f *Folder) mend(c *checkFold) *float64 {
	end := f.takenBack()
	if end == nil || !c.everFailed || !c.mended {
		return nil
	}
	return seconds(max(0, c.mendedFrom.Sub(*end)))
}

func mean(tallies ...tally) *float64 {
	for _, t := range tallies {
		if m := t.sum / float64(t.measured); t.measured > 0 && !math.IsInf(m, 0) {
			return &m
		}
	}
	return nil
}

func number(b *experiment.Bound) *float64 {
	if b == nil {
		return nil
	}
	v := b.Value
	return &v
}
