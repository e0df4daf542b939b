package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// reinjectEvery is how often targets are looked after while a fault is on.
const reinjectEvery = 250 * time.Millisecond

// lasts tells whether the fault of action i is to stay on a target that comes
// back: not one that strikes, once or again and again.
func (r *runner) lasts(i int) bool {
	f := r.x.Spec.Method[i].Fault
	if s, ok := f.(experiment.Instant); ok && s.Instant() {
		return false
	}
	s, ok := f.(experiment.Repeater)
	return !ok || s.Interval() == 0
}

// lost lists the targets that action i holds and that are gone, in whose place
// nobody was struck yet.
func (r *runner) lost(i int) []experiment.Target {
	var gone []experiment.Target
	for _, t := range r.plan.struck[i] {
		if t.Workload != "" && !r.engine.System.Alive(t) {
			gone = append(gone, t)
		}
	}
	return gone
}

// reinject puts the fault on what came in the place of targets that have left,
// such as a container that was restarted. Nobody being there yet is no reason
// to end.
func (r *runner) reinject(ctx context.Context, i int) error {
	r.planning.Lock()
	defer r.planning.Unlock()
	for _, t := range r.lost(i) {
		plan, err := r.plan.successor(ctx, i, t)
		if err != nil || plan == nil {
			continue
		}
		if err := r.over(ctx); err != nil {
			return err
		}
		start := time.Now()
		err = r.announce(ctx, i, plan)
		if err == nil {
			r.plan.replace(i, t, plan.Targets[0])
			err = r.apply(ctx, i, plan, false)
		}
		var s *Stop
		if errors.As(err, &s) || interrupted(ctx) != nil {
			return err
		}
		if err != nil {
			r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: fmt.Sprintf("%s came back, and could not be struck again: %v", t.Name, err)})
			continue
		}
		r.log(experiment.Event{Kind: experiment.EventReinjected, Action: i + 1, Seconds: time.Since(start).Seconds(), Message: plan.Targets[0].Name + " came back, and the fault is on it again"})
	}
	return nil
}

// successor plans action i for what came in the place of a target that has
// left: the same workload, and not there when the action was planned. Nil says
// that nobody is there yet.
func (p *planner) successor(ctx context.Context, i int, gone experiment.Target) (*ActionPlan, error) {
	selector := p.x.Spec.Method[i].Target.Selector
	found, err := selector.Select(ctx)
	if err != nil {
		return nil, err
	}
	running, err := scope(ctx, selector, found)
	if err != nil {
		return nil, err
	}
	if budget, _, err := p.budget(found, running); err != nil || budget == 0 {
		return nil, err
	}
	for _, t := range found {
		if t.Workload != gone.Workload || p.known[i][t.ID] {
			continue
		}
		if err := p.engine.System.Check(ctx, t); err != nil {
			return nil, err
		}
		plan := &ActionPlan{Plan: experiment.Plan{Scope: running, Targets: []experiment.Target{t}, Workloads: map[string]int{}}}
		return plan, p.target(ctx, i, t, plan)
	}
	return nil, nil
}

// replace notes that a target of action i stands in another's place.
func (p *planner) replace(i int, gone, now experiment.Target) {
	for n, t := range p.struck[i] {
		if t.ID == gone.ID {
			p.struck[i][n] = now
		}
	}
	p.known[i][now.ID] = true
}
