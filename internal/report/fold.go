package report

import (
	"iter"
	"math"
	"slices"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Fold returns what events, the journal of run, say. It changes none of them.
func Fold(run experiment.RunID, events []experiment.Event) *Result {
	f := NewFolder(run)
	for i := range events {
		f.Add(&events[i])
	}
	return f.Result()
}

// FoldSeq is Fold for events that are read one by one; it keeps none of them.
func FoldSeq(run experiment.RunID, events iter.Seq[*experiment.Event]) *Result {
	f := NewFolder(run)
	for e := range events {
		f.Add(e)
	}
	return f.Result()
}

// Folder folds events one by one. Samples are counted, not kept: what it
// holds grows with the checks and the steps of a run, not with its length.
type Folder struct {
	run      experiment.RunID
	header   *experiment.Header
	started  moment
	ended    moment
	finished bool
	last     experiment.BootTime // the latest event's

	marks    marks
	checks   []*checkFold
	grid     grid
	actions  []actionFold
	lab      labFold
	steps    map[int]*stepFold
	latest   map[stepKey]int      // by what a step does: the latest
	injected *experiment.BootTime // the first fault in force
	stops    []stop
	errors   []string

	superseded []Superseded
	warnings   []string
	found      findings
	leftOnce   bool // an earlier ending found residue
}

// moment is when an event was written.
type moment struct {
	wall time.Time
	boot experiment.BootTime // CLOCK_BOOTTIME
}

// stop is a take-back for another cause than the action's end.
type stop struct {
	cause   experiment.Cause
	message string
}

// findings is what one ending of a run found. A run that left something
// behind is ended once more by a later rollback, which looks again: the last
// ending is what counts.
type findings struct {
	residue []string
	drift   []experiment.Drift
	gaps    []experiment.Gap
}

// NewFolder returns a Folder for the journal of run.
func NewFolder(run experiment.RunID) *Folder {
	return &Folder{run: run, steps: map[int]*stepFold{}, latest: map[stepKey]int{}}
}

// Add takes in the next event of the journal. It keeps no reference to a
// sample.
func (f *Folder) Add(e *experiment.Event) {
	f.last = e.Boot
	if e.Kind == experiment.EventSample {
		f.sample(e.Sample)
		return
	}
	if f.finished {
		f.reopen()
	}
	switch e.Kind {
	case experiment.EventBegin:
		f.begin(e)
	case experiment.EventPhase:
		f.marks.add(e.Phase)
	case experiment.EventTakeBack:
		f.letGo(e)
		if e.Cause != experiment.CauseEnd {
			f.stops = append(f.stops, stop{e.Cause, e.Message})
		}
	case experiment.EventWarning:
		f.warn(e)
	case experiment.EventEnd:
		f.end(e)
	default:
		f.change(e)
	}
}

// change takes in what was done to the system, and what is left of it.
func (f *Folder) change(e *experiment.Event) {
	switch e.Kind {
	case experiment.EventPlan, experiment.EventAnnounce, experiment.EventInjected,
		experiment.EventMissed, experiment.EventReverted, experiment.EventMeasured, experiment.EventReinjected, experiment.EventLeft:
		f.act(e)
	case experiment.EventApplied, experiment.EventVerified, experiment.EventUndone, experiment.EventUndoFail:
		f.step(e)
	case experiment.EventLabUp, experiment.EventContain:
		f.lab.add(e)
	case experiment.EventResidue:
		f.found.residue = append(f.found.residue, e.Lines...)
		if len(e.Lines) == 0 {
			f.found.residue = append(f.found.residue, "something that the journal does not name")
		}
	case experiment.EventDrift:
		f.found.drift = append(f.found.drift, e.Drift...)
	case experiment.EventGaps:
		f.found.gaps = append(f.found.gaps, e.Gaps...)
	}
}

func (f *Folder) begin(e *experiment.Event) {
	if f.header != nil || e.Header == nil {
		return
	}
	f.header, f.started = e.Header, moment{e.Wall, e.Boot}
	f.lab.begin(e.Header.Experiment.Lab)
	for _, c := range e.Header.Experiment.Checks {
		f.checks = append(f.checks, &checkFold{CheckSummary: c, keep: kept(&c, &e.Header.Experiment)})
	}
	f.actions = make([]actionFold, len(e.Header.Experiment.Actions))
}

// letGo takes in that an action is taken back from now on, or all of them.
func (f *Folder) letGo(e *experiment.Event) {
	for i := range f.actions {
		if e.Action == 0 || e.Action == i+1 {
			f.actions[i].letGo(e.Boot)
		}
	}
}

func (f *Folder) warn(e *experiment.Event) {
	if a := f.action(e.Action); a != nil {
		a.warnings = append(a.warnings, e.Message)
		return
	}
	f.warnings = append(f.warnings, e.Message)
}

func (f *Folder) end(e *experiment.Event) {
	f.finished, f.ended = true, moment{e.Wall, e.Boot}
	if e.Error != "" && !slices.Contains(f.errors, e.Error) {
		f.errors = append(f.errors, e.Error)
	}
}

// reopen begins another ending: a later rollback takes back what was left.
func (f *Folder) reopen() {
	f.finished = false
	f.leftOnce = f.leftOnce || len(f.residue()) > 0
	f.found = findings{}
}

// Result returns what the events so far say. More may be added after it.
func (f *Folder) Result() *Result {
	r := &Result{
		Run: f.run, Unfinished: !f.finished, Started: f.started.wall, Warnings: f.warnings,
		Superseded: f.superseded, Drift: f.found.drift, Residue: []string{}, Gaps: f.found.gaps,
		Faults: f.faults(), Checks: f.checkResults(), Steps: f.countSteps(), Timeline: f.timeline(),
	}
	f.describe(r)
	r.Lab = f.lab.result()
	if f.finished {
		r.Ended, r.Residue = f.ended.wall, f.residue()
		r.Seconds = f.duration()
	}
	f.judge(r)
	return r
}

// describe fills in what the header says.
func (f *Folder) describe(r *Result) {
	if f.header == nil {
		return
	}
	x := f.header.Experiment
	r.Experiment, r.File, r.Labels = x.Name, x.File, x.Labels
	r.Seed, r.Version = f.header.Seed, f.header.Version
	r.RecoveryWithin, r.SteadyFor = x.RecoveryWithin.D().Seconds(), x.SteadyFor.D().Seconds()
}

// duration gives the run's length by CLOCK_BOOTTIME; by the wall's where the
// machine was booted anew in between.
func (f *Folder) duration() *float64 {
	if f.header == nil {
		return nil
	}
	d := f.ended.boot.Sub(f.started.boot)
	if d < 0 {
		d = f.ended.wall.Sub(f.started.wall)
	}
	return seconds(d)
}

// seconds returns d in seconds; one that runs backwards is not known.
func seconds(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	s := d.Seconds()
	return &s
}

// known returns s, a time in seconds, where it can be one.
func known(s float64) *float64 {
	if !(s >= 0) || math.IsInf(s, 0) {
		return nil
	}
	return &s
}
