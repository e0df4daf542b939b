package engine

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// heldInARow is how many samples must hold before a check has recovered.
const heldInARow = 3

// watch samples the checks for as long as the run lasts.
type watch struct {
	runner *runner
	checks []experiment.Check
	broken chan *Stop // filled once a check has failed abort.after times in a row
	wg     sync.WaitGroup

	started time.Time // what ticks are counted from

	mu      sync.Mutex
	changed chan struct{} // closed and made anew at every sample
	recent  [][]experiment.Sample
	began   experiment.BootTime // the first fault; 0 before
	failed  []int               // by check: failed samples in a row since then
}

func newWatch(r *runner) *watch {
	n := len(r.x.Spec.Hypothesis.Checks)
	return &watch{
		runner: r, checks: r.x.Spec.Hypothesis.Checks, broken: make(chan *Stop, 1),
		changed: make(chan struct{}), recent: make([][]experiment.Sample, n), failed: make([]int, n),
	}
}

func (w *watch) start(ctx context.Context, load Load) {
	w.started = time.Now()
	for i, c := range w.checks {
		if c.Traffic != "" {
			probe := load.Probe(c)
			w.wg.Go(func() { w.sampleWindows(ctx, i, probe) })
		} else {
			w.wg.Go(func() { w.sampleProbe(ctx, i) })
		}
	}
}

func (w *watch) wait() { w.wg.Wait() }

// during says when the first fault came: from then on failures count.
func (w *watch) during(since experiment.BootTime) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began = since
}

// sampleProbe measures check i at the hypothesis' interval. A measurement that
// takes longer than it leaves out the ticks it missed. All checks have the same
// ticks: to wake up once for all of them is what makes many checks cheap.
func (w *watch) sampleProbe(ctx context.Context, i int) {
	every := w.runner.x.Spec.Hypothesis.Every.D()
	for ctx.Err() == nil {
		s := experiment.Sample{Check: i, From: w.runner.engine.Boot()}
		value, err := w.checks[i].Probe.Measure(ctx)
		s.To = w.runner.engine.Boot()
		if ctx.Err() != nil {
			return
		}
		w.record(s, value, err)
		gone := time.Since(w.started)
		sleep(ctx, every-gone%every)
	}
}

// sampleWindows measures check i over windows that end at the hypothesis'
// interval, each once all its requests are answered or given up.
func (w *watch) sampleWindows(ctx context.Context, i int, p experiment.WindowProbe) {
	every, window := w.runner.x.Spec.Hypothesis.Every.D(), w.checks[i].Window.D()
	start, boot := w.started, w.runner.engine.Boot().Add(-time.Since(w.started))
	for end := window; ; end += every {
		sleep(ctx, time.Until(start.Add(end)))
		value, err := p.MeasureWindow(ctx, start.Add(end-window), start.Add(end))
		if ctx.Err() != nil {
			return
		}
		w.record(experiment.Sample{Check: i, From: boot.Add(end - window), To: boot.Add(end)}, value, err)
	}
}

// record judges a sample, writes it down and wakes whoever waits.
func (w *watch) record(s experiment.Sample, value float64, err error) {
	c := w.checks[s.Check]
	switch {
	case err != nil:
		s.Error = err.Error()
	case math.IsNaN(value) || math.IsInf(value, 0):
		s.Error = fmt.Sprintf("%v is not a number that can be judged", value)
	default:
		s.Value, s.Held = value, c.Holds(value)
	}
	w.runner.log(experiment.Event{Kind: experiment.EventSample, Sample: &s})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keep(s)
	w.count(s)
	close(w.changed)
	w.changed = make(chan struct{})
}

// keep remembers s, and forgets what matters neither to the steady state nor to
// recovery: all that came before a sample which begins early enough itself.
func (w *watch) keep(s experiment.Sample) {
	list := append(w.recent[s.Check], s)
	early := s.To.Add(-w.runner.x.Spec.Steady.For.D())
	for len(list) > heldInARow && list[1].From <= early {
		list = list[1:]
	}
	w.recent[s.Check] = list
}

// count looks whether s is the failure that takes the fault back early.
func (w *watch) count(s experiment.Sample) {
	after := w.runner.x.Spec.Abort.After
	if w.began == 0 || s.From < w.began || s.Held {
		w.failed[s.Check] = 0
		return
	}
	w.failed[s.Check]++
	if after == 0 || w.failed[s.Check] != after {
		return
	}
	select {
	case w.broken <- &Stop{experiment.CauseAbortAfter, fmt.Sprintf("%s: %d failed samples in a row (abort.after)", w.checks[s.Check].Name, after)}:
	default: // another check was first
	}
}

// steady waits until every check has held for d, and returns since when all
// of them do.
func (w *watch) steady(ctx context.Context, d time.Duration) (experiment.BootTime, error) {
	return w.until(ctx, func(i int) (experiment.BootTime, bool) { return w.held(i, d) })
}

// held tells whether no more than the share that check i allows of its samples
// in the last d failed, and where those samples begin.
func (w *watch) held(i int, d time.Duration) (experiment.BootTime, bool) {
	list := w.recent[i]
	if len(list) == 0 {
		return 0, false
	}
	last := list[len(list)-1].To
	first := len(list) - 1
	for first > 0 && last.Sub(list[first].From) < d {
		first--
	}
	failed := 0
	for _, s := range list[first:] {
		if !s.Held {
			failed++
		}
	}
	share := 100 * float64(failed) / float64(len(list)-first)
	return list[first].From, last.Sub(list[first].From) >= d && share <= float64(w.checks[i].Allow)
}

// recovered waits until each check has held three times in a row in windows
// after back, and returns when the last of them began to.
func (w *watch) recovered(ctx context.Context, back experiment.BootTime) (experiment.BootTime, error) {
	return w.until(ctx, func(i int) (experiment.BootTime, bool) {
		list := w.recent[i]
		if len(list) < heldInARow {
			return 0, false
		}
		list = list[len(list)-heldInARow:]
		for _, s := range list {
			if !s.Held || s.From < back {
				return 0, false
			}
		}
		return list[0].From, true
	})
}

// until waits until ok holds for every check, and returns the latest moment
// it gave. Once it has held for a check, that check's moment stays while it
// goes on to hold.
func (w *watch) until(ctx context.Context, ok func(i int) (experiment.BootTime, bool)) (experiment.BootTime, error) {
	since := make([]experiment.BootTime, len(w.checks))
	for {
		w.mu.Lock()
		all, latest := true, experiment.BootTime(0)
		for i := range w.checks {
			at, held := ok(i)
			switch {
			case !held:
				all, since[i] = false, 0
			case since[i] == 0:
				since[i] = at
			}
			latest = max(latest, since[i])
		}
		changed := w.changed
		w.mu.Unlock()
		if all {
			return latest, nil
		}
		select {
		case <-ctx.Done():
			return 0, interrupted(ctx)
		case <-changed:
		}
	}
}
