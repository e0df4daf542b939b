package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// strike plans strike n of action i: others each time, or in pulses the same
// targets again.
func (p *planner) strike(ctx context.Context, i, n int) (*ActionPlan, error) {
	if r := p.x.Spec.Method[i].Repeat; n > 1 && r != nil && r.Pulse != nil {
		return p.same(ctx, i, n)
	}
	return p.action(ctx, i, n)
}

// same plans the targets that action i has struck before once more, or what
// came in their place.
func (p *planner) same(ctx context.Context, i, n int) (*ActionPlan, error) {
	seen, err := p.look(ctx, i)
	if err != nil {
		return nil, &ActionError{i, "target", err}
	}
	plan := &ActionPlan{Plan: experiment.Plan{Strike: n, Scope: seen.running}, sight: *seen}
	if plan.Workloads, err = workloads(ctx, p.x.Spec.Method[i].Target.Selector, seen.found, nil); err != nil {
		return nil, &ActionError{i, "target", err}
	}
	for _, before := range p.struck[i] {
		at := slices.IndexFunc(seen.found, func(t experiment.Target) bool { return t.ID == before.ID })
		if at >= 0 {
			plan.Targets = append(plan.Targets, seen.found[at])
		} else if next := p.successor(i, before.Target, seen); next != nil {
			plan.Targets = append(plan.Targets, next.Targets[0])
			p.replace(i, before.Target, next)
		}
	}
	if err := p.spared(ctx, i, plan); err != nil {
		return nil, &ActionError{i, "target", err}
	}
	return plan, p.stepsOf(ctx, i, plan)
}

// spared leaves out of plan the targets that the blast radius has no room for.
func (p *planner) spared(ctx context.Context, i int, plan *ActionPlan) error {
	spare, err := p.reserve(ctx, p.x.Spec.Method[i].Target.Selector, plan.found, plan.Workloads)
	if err != nil {
		return err
	}
	budget, why, err := p.budget(plan.found, plan.Scope)
	if err != nil {
		return err
	}
	all := plan.Targets
	plan.Targets = nil
	for _, t := range all {
		_, old := p.touched[t.ID]
		switch room := old || budget != 0; {
		case !room:
			err = fmt.Errorf("the blast radius (%s) allows no other target now", why)
		case !spare.take(t):
			err = spare.none()
		default:
			plan.Targets = append(plan.Targets, t)
			if !old && budget > 0 {
				budget--
			}
		}
	}
	if len(plan.Targets) > 0 {
		return nil
	}
	return cmp.Or(err, fmt.Errorf("none of its targets is there: %w", experiment.ErrNoMatch))
}

// absent lists the targets that pulses of action i keep to and that are not
// there just now. What strikes others each time has taken the ones before back.
func (p *planner) absent(i int, plan *ActionPlan) []struck {
	if r := p.x.Spec.Method[i].Repeat; r == nil || r.Pulse == nil {
		return nil
	}
	return slices.DeleteFunc(p.struck[i], func(s struck) bool {
		return slices.ContainsFunc(plan.Targets, func(t experiment.Target) bool { return t.ID == s.ID })
	})
}
