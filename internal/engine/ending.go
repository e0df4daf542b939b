package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// ending looks for what a run left, after its last undo, and closes it.
type ending struct {
	engine   *Engine
	run      experiment.RunID
	log      logger
	past     *past
	rebooted bool
	gone     bool     // the lab that the run launched
	lines    []string // of residue
}

// residue looks for what is left. left are the steps that could not be taken
// back.
func (n *ending) residue(ctx context.Context, left []experiment.PlannedStep) {
	for _, s := range left {
		n.lines = append(n.lines, fmt.Sprintf("step %d is not taken back; by hand: %s", s.N, s.Undo))
	}
	if !n.rebooted {
		n.verifyUndone(ctx, left, true)
		found, err := n.engine.System.Leftovers(ctx, n.run)
		n.lines = append(n.lines, found...)
		if err != nil {
			n.log(experiment.Event{Kind: experiment.EventWarning, Message: "search for leftovers: " + err.Error()})
		}
	}
	if len(n.lines) > 0 {
		n.log(experiment.Event{Kind: experiment.EventResidue, Lines: n.lines})
	}
}

// verifyUndone looks for every object that a step named: of the actions, or of
// the lab.
func (n *ending) verifyUndone(ctx context.Context, left []experiment.PlannedStep, lab bool) {
	last := n.past.lastUndos()
	for _, s := range n.past.all {
		v, ok := s.Undo.(experiment.Verifier)
		if !ok || last[undoKey(s)] != s.N || lab != (n.past.action[s.N] == 0) || slices.ContainsFunc(left, func(l experiment.PlannedStep) bool { return l.N == s.N }) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
		ev, err := v.Verify(ctx)
		cancel()
		switch {
		case errors.Is(err, experiment.ErrGone): // a target that is gone has no residue
		case err != nil:
			n.lines = append(n.lines, fmt.Sprintf("step %d: whether it is taken back cannot be read: %v; see: %s", s.N, err, s.Undo))
		case !ev.InForce && !n.laterSuperseded(s.N):
			n.lines = append(n.lines, fmt.Sprintf("step %d is still in force (%s); by hand: %s", s.N, ev.What, s.Undo))
		}
	}
}

// undoKey tells which undos are one: those of pulses take the same back each
// time, and how the last of them went is what counts.
func undoKey(s experiment.PlannedStep) string {
	key := s.Target + "\n" + s.Undo.String()
	if h, ok := s.Undo.(experiment.Handled); ok {
		key += "\n" + strings.Join(h.Handles(), "\n")
	}
	return key
}

// lastUndos returns the last step of each undo.
func (p *past) lastUndos() map[string]int {
	last := map[string]int{}
	for _, s := range p.all {
		if s.Undo != nil {
			last[undoKey(s)] = s.N
		}
	}
	return last
}

// laterSuperseded tells whether the undo of step was left out on purpose,
// because somebody else has changed the value since.
func (n *ending) laterSuperseded(step int) bool { return n.past.superseded[step] }

// drift compares the state of each target with what it was before.
func (n *ending) drift(ctx context.Context) {
	if n.rebooted || len(n.past.before) == 0 {
		return
	}
	now := map[string]experiment.Observation{}
	for _, t := range n.past.targets {
		if !n.engine.System.Alive(t) {
			continue
		}
		seen, err := n.engine.System.Observe(ctx, t)
		if err != nil {
			n.log(experiment.Event{Kind: experiment.EventWarning, Message: "read the state of " + t.Name + " again: " + err.Error()})
		}
		for _, o := range seen {
			now[o.Object] = o
		}
	}
	if found := Differences(n.past.before, now); len(found) > 0 {
		n.log(experiment.Event{Kind: experiment.EventDrift, Drift: found})
	}
}

// Differences lists the objects in both whose lines are not the same.
func Differences(before, now map[string]experiment.Observation) []experiment.Drift {
	var out []experiment.Drift
	for _, object := range slices.Sorted(maps.Keys(before)) {
		after, ok := now[object]
		if !ok {
			continue
		}
		d := experiment.Drift{Object: object, Gone: missing(before[object].Lines, after.Lines), New: missing(after.Lines, before[object].Lines)}
		if len(d.Gone)+len(d.New) > 0 {
			out = append(out, d)
		}
	}
	return out
}

// missing returns the lines of a that are not in b.
func missing(a, b []string) []string {
	in := make(map[string]int, len(b))
	for _, line := range b {
		in[line]++
	}
	var out []string
	for _, line := range a {
		if in[line]--; in[line] < 0 {
			out = append(out, line)
		}
	}
	return out
}

// whole waits until every workload has as many running targets as before, or
// until deadline, and reports those that have not.
func (n *ending) whole(ctx context.Context, deadline time.Time) {
	for {
		gaps, err := n.gaps(ctx)
		switch {
		case err == nil && len(gaps) == 0:
			return
		case time.Now().Before(deadline) && !errors.Is(err, experiment.ErrGone): // what they are of may be gone, as a lab is
			time.Sleep(gapPoll)
			continue
		case err != nil:
			n.log(experiment.Event{Kind: experiment.EventWarning, Message: "count the workloads: " + err.Error()})
		default:
			n.log(experiment.Event{Kind: experiment.EventGaps, Gaps: gaps})
		}
		return
	}
}

// gaps counts the workloads that the run has touched.
func (n *ending) gaps(ctx context.Context) ([]experiment.Gap, error) {
	if n.past.header == nil || n.rebooted {
		return nil, nil
	}
	struck, lost := map[string]bool{}, map[string]bool{}
	for _, t := range n.past.targets {
		struck[t.Workload] = true
		lost[t.Workload] = lost[t.Workload] || !n.engine.System.Alive(t)
	}
	gaps := map[string]experiment.Gap{}
	for i, before := range n.past.normal {
		selector := n.past.header.Experiment.Actions[i].Target.Selector
		if len(before) == 0 || selector == nil || n.gone && inLab(selector) {
			continue
		}
		now, err := countNow(ctx, selector, before)
		if err != nil {
			return nil, err
		}
		_, apart := countsApart(selector)
		for w, was := range before {
			if apart && !lost[w] { // others like it may come and go
				continue
			}
			if struck[w] && now[w] < was {
				gaps[w] = experiment.Gap{Workload: w, Before: was, Now: now[w]}
			}
		}
	}
	var out []experiment.Gap
	for _, w := range slices.Sorted(maps.Keys(gaps)) {
		out = append(out, gaps[w])
	}
	return out, nil
}

func countNow(ctx context.Context, s experiment.Selector, before map[string]int) (map[string]int, error) {
	found, err := s.Select(ctx)
	if err != nil && !errors.Is(err, experiment.ErrNoMatch) {
		return nil, err
	}
	return workloads(ctx, s, found, before)
}

// close moves the journal to those done where everything is taken back and
// written down, and leaves it to the next sweep otherwise.
func (n *ending) close(clean bool, journal error) error {
	var errs []error
	if journal != nil {
		errs = append(errs, fmt.Errorf("write journal (what was broken is put back as far as this says): %w", journal))
	}
	if !clean || journal != nil { // the handles stay locked: an undo may still come
		n.engine.Journals.Release(n.run)
		return errors.Join(errs...)
	}
	// The handles first: who finds them free must not meet an undo.
	return errors.Join(n.engine.Handles.Release(n.run), n.engine.Journals.Finish(n.run))
}

// Describe writes a step and its undo in two columns, for plan.
func Describe(s experiment.PlannedStep) (do, undo string) {
	if s.Undo == nil {
		if by := leans(s.Do); by != "" {
			return s.Do.String(), "the platform starts it again (" + by + ")"
		}
		return s.Do.String(), "none"
	}
	return s.Do.String(), strings.TrimSpace(s.Undo.String())
}

// InForce returns a run's header, nil where its journal has none yet, and the
// steps that were announced, can be taken back and are not yet.
func InForce(events []experiment.Event) (*experiment.Header, []experiment.PlannedStep) {
	p := fold(events)
	return p.header, slices.DeleteFunc(p.steps, func(s experiment.PlannedStep) bool { return s.Undo == nil })
}
