package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/simianhq/simian/experiment"
)

// verify reads back that the steps are in force.
func (r *runner) verify(ctx context.Context, i int, plan *ActionPlan, skip map[string]bool) error {
	for _, s := range plan.Steps {
		if skip[s.Target] {
			continue
		}
		h := heldStep{s, i}
		r.mu.Lock()
		r.held[i] = append(r.held[i], h)
		r.mu.Unlock()
		ev, err := r.verifyStep(ctx, h)
		if err != nil {
			return r.missed(i, fmt.Sprintf("%s: whether it is in force cannot be read: %v", s.Do, err))
		}
		if !ev.InForce {
			return r.missed(i, fmt.Sprintf("%s: %s", s.Do, ev.What))
		}
	}
	return nil
}

// verifyStep asks the step whether it is in force, and writes down the answer.
func (r *runner) verifyStep(ctx context.Context, h heldStep) (experiment.Evidence, error) {
	ev, err := readBack(ctx, h.Do)
	if _, ok := h.Do.(experiment.Verifier); ok && err == nil {
		r.log(experiment.Event{Kind: experiment.EventVerified, Step: h.N, Action: h.action + 1, Evidence: &ev})
	}
	return ev, err
}

// readBack asks a change whether it is in force. One that cannot tell is taken
// at its word, which is that Apply gave no error.
func readBack(ctx context.Context, do experiment.Op) (experiment.Evidence, error) {
	v, ok := do.(experiment.Verifier)
	if !ok {
		return experiment.Evidence{InForce: true}, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), verifyTimeout)
	defer cancel()
	return v.Verify(ctx)
}

// verifyHeld asks again before action i lets go of what it holds: was it in
// force all along, and was it felt? It returns why it was not, the first time.
func (r *runner) verifyHeld(ctx context.Context, i int) error {
	var missed error
	felt := r.feltOf(i)
	for _, h := range r.takeHeld(i) {
		ev, err := r.verifyStep(ctx, h)
		felt.add(h, ev, err)
		switch {
		case errors.Is(err, experiment.ErrGone):
			r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: fmt.Sprintf("%s: the target left while the fault was on", h.Do)})
		case err != nil:
			r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: fmt.Sprintf("%s: whether it was still in force cannot be read: %v", h.Do, err)})
		case !ev.InForce:
			missed = cmp.Or(missed, r.missed(i, fmt.Sprintf("%s: no longer in force at the end: %s", h.Do, ev.What)))
		}
	}
	return missed
}

// heldOf returns the steps that action i holds.
func (r *runner) heldOf(i int) []heldStep {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[i]
}

// takeHeld returns the steps that action i holds, which are let go of now.
func (r *runner) takeHeld(i int) []heldStep {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.held[i]
	r.held[i] = nil
	return held
}

// missed says that action i did not take, and returns why the run ends.
func (r *runner) missed(i int, why string) error {
	r.log(experiment.Event{Kind: experiment.EventMissed, Action: i + 1, Message: why})
	return &Stop{experiment.CauseNotInjected, why}
}
