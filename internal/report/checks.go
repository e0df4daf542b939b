package report

import (
	"math"
	"slices"
	"time"

	"github.com/simianhq/simian/experiment"
)

// A sample can belong to another phase than the one it was written in. It is
// written when its answers are in, up to a request's timeout after its window.
// The mark of the before phase is written once that was steady for long
// enough, and points back to its start. The mark of the after phase points
// back to the first of the held samples that ended recovery: three samples of
// the slowest check. So a check keeps its last samples until no mark reaches
// back to them: twice as many as a steady state holds, and no fewer than 512.
// As all checks are sampled at one interval, 512 of one span three of another
// that each take 170 intervals: 17 s where the interval is 100 ms.
const (
	leastKept = 512
	mostKept  = 1 << 16
)

// kept returns how many samples of c, at the interval of x, a mark can reach
// back to.
func kept(c *experiment.CheckSummary, x *experiment.Summary) int {
	every := max(x.Every, experiment.Duration(time.Millisecond))
	return int(min(max(2*((x.SteadyFor+c.Window)/every), leastKept), mostKept))
}

// recoveredAfter is how many held samples in a row end a check's recovery.
const recoveredAfter = 3

// checkFold is what the samples of one check have come to.
type checkFold struct {
	experiment.CheckSummary
	phases  [phaseCount]tally
	keep    int      // samples that a mark may reach back to
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
	c.push(s, f.marks)
	c.follow(&s, f.injected)
	f.grid.add(f.checks, c, &s)
}

// push puts s with the last samples, and counts the older half of them where
// there are enough.
func (c *checkFold) push(s sample, m marks) {
	if len(c.pending) >= 2*c.keep {
		tallyUp(c, &c.phases, c.pending[:c.keep], m)
		c.pending = append(c.pending[:0], c.pending[c.keep:]...)
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
	if len(m) == 0 {
		phases[before] = phases[settling]
	}
	return phases
}

// steadySince tells whether c's last three samples held, and began after t.
func (c *checkFold) steadySince(t experiment.BootTime) bool {
	n := len(c.pending)
	return n >= recoveredAfter && !slices.ContainsFunc(c.pending[n-recoveredAfter:], func(s sample) bool {
		return !s.held || s.from < t
	})
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
			Before: phases[before].samples(), During: phases[during].samples(),
			Recovery: phases[recovery].samples(), After: phases[after].samples(),
			Mean: mean(phases[during], phases[before]), Trend: f.grid.trend(c, columns),
		}
		r.Unsteady = f.unsteady(c)
		r.Held = f.injected != nil && f.unseen(c, &r) == "" && !r.During.broke(c.Allow) && !r.After.broke(c.Allow)
		r.Impact, r.Mend = f.impact(&phases[during]), f.mend(c)
		out = append(out, r)
	}
	return out
}

// unseen names the phase in which nothing shows that c held, "" where there is
// none. During a fault that lasts there must be samples. So there must before
// and after it, where those phases are long enough for one; in shorter ones it
// does that the engine saw c steady before it went on, and that c's last three
// samples held.
func (f *Folder) unseen(c *checkFold, r *Check) string {
	back, recovering := f.marks.since(recovery)
	_, settled := f.marks.since(after)
	switch {
	case r.Before.Count == 0 && f.due(c, before):
		return "before"
	case r.During.Count == 0 && f.lasts():
		return "during"
	case r.After.Count > 0:
		return ""
	case !settled, !recovering, f.due(c, after), !c.steadySince(back):
		return "after"
	}
	return ""
}

// due tells whether phase was long enough for a sample of c to lie in it, a
// late one included.
func (f *Folder) due(c *checkFold, phase int) bool {
	from, begun := f.marks.since(phase)
	if !begun {
		return f.header.Experiment.SteadyFor > 0
	}
	to, over := f.marks.since(phase + 1)
	if !over || phase == after {
		to = f.grid.last
	}
	return to.Sub(from) >= c.Window.D()+3*f.header.Experiment.Every.D()
}

// unsteady tells whether recovery ran out with c's last samples not held.
func (f *Folder) unsteady(c *checkFold) bool {
	back, begun := f.marks.since(recovery)
	_, settled := f.marks.since(after)
	return begun && !settled && f.finished && f.wentItsWay() && !c.steadySince(back)
}

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
