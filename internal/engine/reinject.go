package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

const (
	// lookEvery is how often targets are looked after while a fault is on. It
	// costs a read in /proc for each.
	lookEvery = 100 * time.Millisecond
	// lookShare is which part of the time, 1/lookShare, may go into looking for
	// what comes in their place: to search a large host takes long. But what has
	// come is struck within a second, so nobody rests for longer than longestRest.
	lookShare   = 10
	longestRest = 500 * time.Millisecond
	// tick is the unit of a process' start time: USER_HZ is 100 wherever Go runs
	// (proc_pid_stat(5)).
	tick = time.Second / 100
)

// reinject puts the fault on what came in the place of targets that have left,
// such as a container that was restarted. Nobody being there yet is no reason
// to end, nor is one that cannot be struck: that is warned of. Nothing begins
// at until, the action's end, or after it.
func (r *runner) reinject(ctx context.Context, i int, gone []experiment.Target, until time.Time) error {
	a := r.attendanceOf(i)
	for _, t := range gone {
		a.left(t)
	}
	start := time.Now()
	if len(gone) == 0 || !start.Before(until) || start.Before(a.rests) {
		return nil
	}
	looking, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	seen, err := r.plan.look(looking, i)
	a.rests = start.Add(min(longestRest, lookShare*time.Since(start)))
	if err != nil {
		a.warn(looking, "what came in the place of "+gone[0].Name+" cannot be read", err)
		return nil
	}
	for _, t := range gone {
		if plan := r.plan.successor(i, t, seen); plan != nil {
			if err := r.returned(ctx, looking, i, t, plan); err != nil {
				return err
			}
		}
	}
	return nil
}

// returned sees to it that the fault of action i is on the target of plan,
// which came in the place of gone. Planning ends with looking.
func (r *runner) returned(ctx, looking context.Context, i int, gone experiment.Target, plan *ActionPlan) error {
	start, now, a := time.Now(), plan.Targets[0], r.attendanceOf(i)
	said := " came back, and the fault is on it again"
	byItself := r.plan.endedItself(i, gone)
	var err error
	switch covered := r.covers(looking, i, now); {
	case covered:
		said = " came back to where the fault is on still"
		r.plan.touch(plan.Targets)
		r.plan.replace(i, gone, plan)
		a.measure(now, experiment.PhaseDuring)
	case !byItself:
		err = r.strikeAgain(ctx, looking, i, gone, plan)
	}
	if byItself { // that it was started anew is the fault, and no restart
		return nil
	}
	var s *Stop
	switch {
	case errors.As(err, &s):
		return err
	case err != nil:
		a.warn(looking, now.Name+" came back, and could not be struck again", err)
	default:
		a.log(experiment.Event{Kind: experiment.EventReinjected, Seconds: time.Since(start).Seconds(), Message: now.Name + said})
	}
	return nil
}

// strikeAgain makes action i so on the target of plan, unless nothing is to be
// injected any more. One that leaves at once has left again: the next look
// finds who comes then.
func (r *runner) strikeAgain(ctx, looking context.Context, i int, gone experiment.Target, plan *ActionPlan) error {
	if err := r.plan.complete(looking, i, plan); err != nil {
		return err
	}
	if err := r.over(ctx); err != nil {
		return err
	}
	if err := r.announce(ctx, i, plan); err != nil {
		return err
	}
	r.plan.replace(i, gone, plan)
	return r.apply(ctx, i, plan, func(_ context.Context, _ int, _ experiment.Target, err error) error { return err })
}

// warn says why something could not be done, each reason once. That nobody is
// there, or that time is up, is none.
func (a *attendance) warn(looking context.Context, what string, err error) {
	if a.told[what+err.Error()] || looking.Err() != nil || errors.Is(err, experiment.ErrNoMatch) || errors.Is(err, experiment.ErrGone) {
		return
	}
	a.told[what+err.Error()] = true
	a.log(experiment.Event{Kind: experiment.EventWarning, Message: fmt.Sprintf("%s: %v", what, err)})
}

// covers tells whether what action i did is in force on t as it is: it was done
// to a place that outlives processes, such as a network namespace, a cgroup or
// a container, and t is in it. To do it again would double it.
func (r *runner) covers(ctx context.Context, i int, t experiment.Target) bool {
	covered := false
	for _, h := range r.heldOf(i) {
		if !isIn(t, h.Do) {
			continue
		}
		ev, err := readBack(ctx, h.Do)
		if err != nil || !ev.InForce {
			return false
		}
		covered = true
	}
	return covered
}

// isIn tells whether t is in an object that do changes.
func isIn(t experiment.Target, do experiment.Op) bool {
	changed, ok := do.(experiment.Handled)
	if !ok {
		return false
	}
	places := []string{t.Cgroup.V2.Handle()}
	for _, dir := range t.Cgroup.V1 {
		places = append(places, dir.Handle())
	}
	if t.Runtime != nil {
		places = append(places, t.Runtime.Handle())
	}
	inNet := fmt.Sprintf("net:%d:", t.Net.Inode) // its cookie is not known yet; that the step is in force tells
	return slices.ContainsFunc(changed.Handles(), func(h string) bool {
		whole, _, _ := strings.Cut(h, "#") // one setting of it
		return slices.Contains(places, whole) || strings.HasPrefix(h, inNet)
	})
}

// sight is what a selector found at a moment.
type sight struct {
	found   []experiment.Target
	running int                 // what a percentage is of
	asked   experiment.BootTime // right before
}

// look asks whom action i could strike now.
func (p *planner) look(ctx context.Context, i int) (*sight, error) {
	selector, s := p.x.Spec.Method[i].Target.Selector, &sight{asked: p.engine.Boot()}
	var err error
	if s.found, err = selector.Select(ctx); err != nil {
		return nil, err
	}
	if s.running, err = scope(ctx, selector, s.found); err != nil {
		return nil, err
	}
	s.found, err = p.allowed(s.found)
	return s, err
}

// allowed leaves out what must be left out. Where nothing is left, the error
// is the first one's.
func (p *planner) allowed(found []experiment.Target) ([]experiment.Target, error) {
	if p.engine.Allow == nil {
		return found, nil
	}
	var kept []experiment.Target
	var refused error
	for _, t := range found {
		err := p.engine.Allow(t)
		if err == nil {
			kept = append(kept, t)
		} else if refused == nil {
			refused = err
		}
	}
	if len(kept) == 0 && refused != nil {
		return nil, refused
	}
	return kept, nil
}

// lost lists the targets that action i holds and that are gone, in whose place
// nobody was found yet: those that left, and those that the fault itself has
// ended.
func (p *planner) lost(i int) (gone, ended []experiment.Target) {
	now := p.engine.Boot()
	for _, t := range p.struck[i] {
		switch {
		case p.engine.System.Alive(t.Target):
			p.alive[t.ID] = now
		case t.stays:
			gone = append(gone, t.Target)
		case t.ended:
			ended = append(ended, t.Target)
		}
	}
	return gone, ended
}

// endedItself tells whether the fault of action i makes t end.
func (p *planner) endedItself(i int, t experiment.Target) bool {
	return slices.ContainsFunc(p.struck[i], func(s struck) bool { return s.ID == t.ID && s.ended })
}

// drop is done with targets of action i, and tells whether those were the last.
func (p *planner) drop(i int, gone []experiment.Target) bool {
	for _, t := range gone {
		p.struck[i] = slices.DeleteFunc(p.struck[i], func(s struck) bool { return s.ID == t.ID })
	}
	return len(gone) > 0 && len(p.struck[i]) == 0
}

// successor returns a plan, without its steps yet, for what came in the place
// of a target that has left: it is of the same workload, was not there when the
// action was planned, and began after the other was last seen alive. A replica
// that was added meanwhile is not that. Nil says that nobody is there; without
// a workload, nothing tells who that would be.
func (p *planner) successor(i int, gone experiment.Target, s *sight) *ActionPlan {
	for _, t := range s.found {
		if gone.Workload == "" || t.Workload != gone.Workload || p.known[i][t.ID] || !beganAfter(t, p.alive[gone.ID]) {
			continue
		}
		return &ActionPlan{
			Plan:  experiment.Plan{Scope: s.running, Targets: []experiment.Target{t}, Workloads: map[string]int{}},
			sight: *s,
		}
	}
	return nil
}

// beganAfter tells whether t's first process began after since, to the tick. A
// target without a process cannot tell.
func beganAfter(t experiment.Target, since experiment.BootTime) bool {
	return len(t.PIDs) == 0 || experiment.BootTime(t.PIDs[0].Start+1)*experiment.BootTime(tick) > since
}

// complete checks and plans the target of a successor's plan, within the blast
// radius.
func (p *planner) complete(ctx context.Context, i int, plan *ActionPlan) error {
	budget, _, err := p.budget(plan.found, plan.Scope)
	if err != nil {
		return err
	}
	if budget == 0 { // others that left count until their workload is whole
		return experiment.ErrNoMatch
	}
	if err := p.spared(ctx, i, plan); err != nil {
		return err
	}
	t := plan.Targets[0]
	if err := p.engine.System.Check(ctx, t); err != nil {
		return err
	}
	return p.target(ctx, i, t, plan)
}

// replace notes that the target of plan stands in another's place.
func (p *planner) replace(i int, gone experiment.Target, plan *ActionPlan) {
	now := plan.Targets[0]
	stays, ended := lasting(plan.Steps)
	for n, t := range p.struck[i] {
		if t.ID == gone.ID {
			p.struck[i][n] = struck{now, stays[now.ID] || len(plan.Steps) == 0, ended[now.ID]} // that one leaves which it was not done to is no doing of the fault's
		}
	}
	p.known[i][now.ID], p.alive[now.ID] = true, plan.asked
}
