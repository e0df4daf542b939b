package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// watches tells whether the targets of action i are looked after while its
// fault is on: not those of a fault that strikes and holds nothing. In the place
// of one that is named by its identity nobody comes, but it can leave.
func (r *runner) watches(i int) bool {
	a := r.x.Spec.Method[i]
	_, apart := countsApart(a.Target.Selector)
	return !a.Instant() && !(apart && a.OnRestart == experiment.RestartReinject)
}

// lasting tells which of the targets that steps hold, by ID, something else than
// the fault must end, and which the fault itself does.
func lasting(steps []experiment.PlannedStep) (stays, ended map[string]bool) {
	stays, ended = map[string]bool{}, map[string]bool{}
	held := map[string]bool{}
	for _, s := range steps {
		e, ok := s.Do.(experiment.Ending)
		ended[s.Target] = ended[s.Target] || ok && e.Ends()
		held[s.Target] = held[s.Target] || s.Undo != nil
	}
	for id := range held {
		stays[id], ended[id] = held[id] && !ended[id], held[id] && ended[id]
	}
	return stays, ended
}

// lookAfter does what action i is to do about targets that have left, unless
// an action beside this one strikes just now: this one's end must not wait for
// it. It tells whether the action is over, since no target is left.
func (r *runner) lookAfter(ctx context.Context, i int, y *rhythm) (over bool, err error) {
	if !r.watches(i) || !r.planning.TryLock() {
		return false, nil
	}
	gone, ended := r.plan.lost(i)
	switch r.x.Spec.Method[i].OnRestart {
	case experiment.RestartStop:
		over = r.plan.drop(i, gone)
	case experiment.RestartFail:
		err = r.failOn(i, gone)
	default:
		ended, gone = append(ended, gone...), nil
	}
	if err == nil && (y.repeat == nil || y.holds) {
		err = r.reinject(ctx, i, ended, y.until)
	}
	r.planning.Unlock() // others need not wait for what is taken back
	if err == nil {
		r.stopOn(i, gone)
	}
	return over, err
}

// stopOn takes back what was done to targets that have left.
func (r *runner) stopOn(i int, gone []experiment.Target) {
	for _, t := range gone {
		r.attendanceOf(i).forget(t)
		r.drop(i, t)
		takeBack(context.Background(), r.log, onTarget(r.remainingOf(i), t.ID)) // what is left of it is tried again at the end
		r.log(experiment.Event{Kind: experiment.EventLeft, Action: i + 1, Message: t.Name + " left while the fault was on, and was left alone from then on (onRestart: stop)"})
	}
}

// drop forgets the steps that action i holds on t.
func (r *runner) drop(i int, t experiment.Target) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[i] = slices.DeleteFunc(slices.Clone(r.held[i]), func(h heldStep) bool { return h.Target == t.ID })
}

// onTarget returns those of steps that were done to a target.
func onTarget(steps []experiment.PlannedStep, id string) []experiment.PlannedStep {
	return slices.DeleteFunc(slices.Clone(steps), func(s experiment.PlannedStep) bool { return s.Target != id })
}

// failOn ends the run where a target has left.
func (r *runner) failOn(i int, gone []experiment.Target) error {
	if len(gone) == 0 {
		return nil
	}
	return &Stop{experiment.CauseRestarted, fmt.Sprintf("%s left while %s was on (onRestart: fail)", gone[0].Name, r.x.Spec.Method[i].Name)}
}
