package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// actionFold is what became of one action.
type actionFold struct {
	targets   []Target
	scope     int
	backend   string
	undoable  bool // it had a step with an undo
	strikes   int
	injected  experiment.BootTime // last in force
	reverted  experiment.BootTime // last taken back
	inject    *float64
	revert    *float64
	missed    []string
	wasMissed bool
	over      bool                // taken back, once at least
	on        experiment.BootTime // since when what is to be taken back is in force; 0 while it is not
	held      time.Duration       // in force so far
	again     int
	limited   string
	measured  []Measured
	notes     []string
	warnings  []string
}

// stepFold is what became of one step.
type stepFold struct {
	action   int
	target   string
	place    int  // which of its target's steps it is, from 0, in what was announced at once
	again    bool // it does once more what an earlier one did, which is over
	undo     experiment.Op
	failed   bool // Apply gave an error
	undone   bool
	undoFail string // the last error of its undo
	evidence *experiment.Evidence
}

// action returns what is known of action n, counted from 1, or nil where the
// file has no such action.
func (f *Folder) action(n int) *actionFold {
	if n < 1 || n > len(f.actions) {
		return nil
	}
	return &f.actions[n-1]
}

// act takes in what happened to an action.
func (f *Folder) act(e *experiment.Event) {
	if e.Kind == experiment.EventAnnounce {
		f.announce(e)
		return
	}
	a := f.action(e.Action)
	if a == nil {
		return
	}
	switch e.Kind {
	case experiment.EventPlan:
		a.plan(e.Plan)
	case experiment.EventInjected:
		f.strike(a, e)
	case experiment.EventMeasured:
		if e.Measured != nil {
			a.measured = append(a.measured, *e.Measured)
			a.warnings = append(a.warnings, e.Measured.Notes...)
		}
	case experiment.EventReinjected:
		a.again++
		a.notes = append(a.notes, e.Message)
	case experiment.EventLeft:
		a.notes = append(a.notes, e.Message)
	case experiment.EventMissed:
		a.wasMissed, a.missed = true, append(a.missed, e.Message)
	case experiment.EventReverted:
		a.reverted, a.revert, a.over = e.Boot, known(e.Seconds), true
		a.letGo(e.Boot.Add(-time.Duration(e.Seconds * float64(time.Second))))
		if a.undoable {
			f.over(e.Boot, false)
		}
	}
}

func (a *actionFold) plan(p *experiment.Plan) {
	if p == nil {
		return
	}
	for _, t := range p.Targets {
		target := Target{Kind: t.Kind, Name: t.Name, ID: t.ID, Workload: t.Workload}
		if len(t.PIDs) > 0 {
			target.PID = t.PIDs[0].PID
		}
		if !slices.Contains(a.targets, target) {
			a.targets = append(a.targets, target)
		}
	}
	a.scope = max(a.scope, p.Scope)
	a.backend = orElse(p.Backend, a.backend)
	a.limited = orElse(p.Limited, a.limited)
	for _, note := range p.Notes {
		if !slices.Contains(a.notes, note) {
			a.notes = append(a.notes, note)
		}
	}
}

// announce takes in steps that may be applied from now on.
func (f *Folder) announce(e *experiment.Event) {
	a := f.action(e.Action)
	places := map[string]int{}
	for _, s := range e.Steps {
		f.stepOf(s.N, e.Action).announce(s, places[s.Target])
		f.again(s.N)
		places[s.Target]++
		if a != nil && s.Undo != nil {
			a.undoable = true
		}
	}
}

// announce says that s may be applied from now on, and how it is taken back.
func (s *stepFold) announce(step experiment.PlannedStep, place int) {
	s.target, s.place = step.Target, place
	if s.undone = false; step.Undo != nil {
		s.undo = step.Undo
	}
}

// again notes whether step n does once more what an earlier step of its action
// did to the target, which holds nothing any more.
func (f *Folder) again(n int) {
	s := f.steps[n]
	k := s.key()
	if before := f.steps[f.latest[k]]; before != nil && before != s {
		s.again = before.undo == nil || before.undone
	}
	f.latest[k] = n
}

// stepKey is what the same steps of several strikes have in common.
type stepKey struct {
	action, place int
	target        string
}

func (s *stepFold) key() stepKey { return stepKey{s.action, s.place, s.target} }

// letGo says that from t on nothing of the action is meant to be in force.
func (a *actionFold) letGo(t experiment.BootTime) {
	if a.on > 0 {
		a.held += max(0, t.Sub(a.on))
	}
	a.on = 0
}

// strike takes in that an action is in force.
func (f *Folder) strike(a *actionFold, e *experiment.Event) {
	if f.injected == nil {
		at := e.Boot
		f.injected = &at
	}
	if a.strikes++; a.strikes == 1 {
		a.inject = known(e.Seconds)
	}
	a.injected = e.Boot
	if a.undoable && a.on == 0 {
		a.on = e.Boot
	}
	if !a.undoable {
		f.over(e.Boot, true)
	}
}

// over says that a fault ended at t, or struck and cannot be taken back.
func (f *Folder) over(t experiment.BootTime, struck bool) {
	for _, c := range f.checks {
		c.takenBack(t, struck)
	}
}

// takenBack returns when the last fault was taken back or, where there is no
// taking it back, was in force.
func (f *Folder) takenBack() *experiment.BootTime {
	var last *experiment.BootTime
	for i := range f.actions {
		a := &f.actions[i]
		at := a.reverted
		if !a.undoable {
			at = a.injected
		}
		if (a.over || !a.undoable) && a.strikes > 0 && (last == nil || at > *last) {
			last = &at
		}
	}
	return last
}

// stepOf returns what is known of step n; one not heard of before is of
// action.
func (f *Folder) stepOf(n, action int) *stepFold {
	s := f.steps[n]
	if s == nil {
		s = &stepFold{action: action}
		f.steps[n] = s
	}
	return s
}

// step takes in what happened to a step.
func (f *Folder) step(e *experiment.Event) {
	s := f.stepOf(e.Step, e.Action)
	switch e.Kind {
	case experiment.EventApplied:
		s.failed = e.Error != ""
	case experiment.EventVerified:
		if e.Evidence != nil && !s.undone {
			ev := *e.Evidence
			s.evidence = &ev
		}
	case experiment.EventUndoFail:
		s.undoFail = orElse(e.Error, "no reason given")
	case experiment.EventUndone:
		s.undone = true
		if e.Superseded != nil {
			f.superseded = append(f.superseded, Superseded{e.Step, *e.Superseded})
		}
	}
}

// left tells whether s may still stand: it has an undo that never succeeded.
// A change that failed to apply counts only where its undo failed too.
func (s *stepFold) left() bool {
	return s.undo != nil && !s.undone && (!s.failed || s.undoFail != "")
}

// residue lists what is not put back: what the engine found, steps without
// an undo that succeeded, and workloads that are not whole.
func (f *Folder) residue() []string {
	lines := slices.Clone(f.found.residue)
	for _, n := range f.stepNumbers() {
		s := f.steps[n]
		prefix := fmt.Sprintf("step %d ", n)
		named := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
		if s.left() && !named {
			lines = append(lines, fmt.Sprintf("step %d is not taken back%s; by hand: %s", n, parens(s.undoFail), s.undo.String()))
		}
	}
	for _, g := range f.found.gaps {
		if g.Now < g.Before {
			lines = append(lines, fmt.Sprintf("%s has %d of %d running; by hand: start %d", g.Workload, g.Now, g.Before, g.Before-g.Now))
		}
	}
	return lines
}

func (f *Folder) stepNumbers() []int { return slices.Sorted(maps.Keys(f.steps)) }

func (f *Folder) countSteps() Steps {
	var n Steps
	for _, s := range f.steps {
		if s.undo != nil {
			n.Undoable++
			if s.undone {
				n.TakenBack++
			}
		}
	}
	return n
}

// faults returns what became of each action.
func (f *Folder) faults() []Fault {
	out := make([]Fault, 0, len(f.actions))
	for i := range f.actions {
		a, x := &f.actions[i], f.header.Experiment.Actions[i]
		out = append(out, Fault{
			Name: orElse(x.Name, x.Type), Type: x.Type, Targets: slices.Clone(a.targets), Scope: a.scope, Backend: a.backend,
			Injected: a.strikes > 0, Strikes: a.strikes, Repeat: x.Repeat.String(), Held: a.held.Seconds(), Again: a.again, Inject: a.inject, Revert: a.revert,
			Evidence: []Evidence{}, Measured: slices.Clone(a.measured), Notes: slices.Clone(a.notes), Warnings: slices.Clone(a.warnings),
			Missed: strings.Join(a.missed, "; "), Limited: a.limited, Seconds: x.For.D().Seconds(),
		})
	}
	for _, e := range f.evidence() {
		out[f.steps[e.Step].action-1].witness(e)
	}
	return out
}

// evidence returns what was read back about the steps, those together that did
// the same to a target.
func (f *Folder) evidence() []Evidence {
	var out []Evidence
	at := map[stepKey]int{}
	for _, n := range f.stepNumbers() {
		s := f.steps[n]
		if s.evidence == nil || f.action(s.action) == nil {
			continue
		}
		one := Evidence{Step: n, Target: s.target, Evidence: *s.evidence}
		k := s.key()
		if i, known := at[k]; known && s.again {
			out[i] = out[i].and(one)
			continue
		}
		at[k] = len(out)
		out = append(out, one)
	}
	return out
}

// and returns what e and a later one, of the same step of another strike, say
// together. One that was not in force is what there is to know.
func (e Evidence) and(later Evidence) Evidence {
	times, felt := max(1, e.Times)+1, mostFelt(e.Felt, later.Felt)
	if e.InForce {
		e = later
	}
	e.Times, e.Felt = times, felt
	return e
}

// mostFelt returns the one of a and b that tells of more.
func mostFelt(a, b experiment.Felt) experiment.Felt {
	for _, felt := range []experiment.Felt{experiment.FeltYes, experiment.FeltNo, experiment.FeltNothing} {
		if a == felt || b == felt {
			return felt
		}
	}
	return ""
}

// witness adds what was read back about a step.
func (t *Fault) witness(e Evidence) {
	t.Evidence = append(t.Evidence, e)
	if e.InForce && e.Felt == experiment.FeltNo {
		t.Warnings = append(t.Warnings, fmt.Sprintf("nothing ran into step %d%s%s", e.Step, parens(e.What), prefixed(": ", e.Hint)))
	}
}

// lasts tells whether any fault in force was meant to last: then there is a
// during to sample.
func (f *Folder) lasts() bool {
	for i := range f.actions {
		if f.actions[i].strikes > 0 && f.header.Experiment.Actions[i].For > 0 {
			return true
		}
	}
	return false
}
