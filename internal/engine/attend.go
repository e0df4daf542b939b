package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

const (
	// measureFirst is how long a fault may measure before it is injected.
	measureFirst = 100 * time.Millisecond
	// mostMeasured is how many targets of an action are measured.
	mostMeasured = 8
)

// attendance is what goes on beside an action while it is in force: names are
// followed, and its effect is measured.
type attendance struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// attend opens the attendance of action i. It must be ended before anything of
// the action is taken back.
func (r *runner) attend(ctx context.Context, i int) *attendance {
	a := &attendance{}
	a.ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attending[i] = a
	return a
}

// end stops what goes on beside the action, and waits for it.
func (a *attendance) end() {
	a.stop()
	a.wg.Wait()
}

// measureBefore measures what the plan is about to change.
func (r *runner) measureBefore(ctx context.Context, i int, plan *ActionPlan) {
	ctx, cancel := context.WithTimeout(ctx, measureFirst)
	defer cancel()
	var wg sync.WaitGroup
	for _, t := range plan.Targets[:min(mostMeasured, len(plan.Targets))] {
		wg.Go(func() { r.measure(ctx, i, t, experiment.PhaseBefore) })
	}
	wg.Wait()
}

// measure asks the fault of action i to measure t, and writes down what it
// found.
func (r *runner) measure(ctx context.Context, i int, t experiment.Target, p experiment.Phase) {
	f, ok := r.x.Spec.Method[i].Fault.(experiment.Measurer)
	if !ok {
		return
	}
	m, err := f.Measure(ctx, t, p)
	if err != nil {
		m = &experiment.Measurement{What: "not measured: " + err.Error()}
	}
	if m == nil {
		return
	}
	m.Target, m.Phase = t.ID, p
	r.log(experiment.Event{Kind: experiment.EventMeasured, Action: i + 1, Measured: m})
}

// accompany follows and measures what plan has just put in force.
func (r *runner) accompany(i int, plan *ActionPlan) {
	r.mu.Lock()
	a := r.attending[i]
	r.mu.Unlock()
	if a == nil {
		return
	}
	for _, s := range plan.Steps {
		if f, ok := s.Do.(experiment.Follower); ok {
			a.wg.Go(func() { r.follow(a.ctx, i, s, f) })
		}
	}
	for _, t := range plan.Targets[:min(mostMeasured, len(plan.Targets))] {
		a.wg.Go(func() { r.measure(a.ctx, i, t, experiment.PhaseDuring) })
	}
}

// follow says why a step could not be followed to the action's end.
func (r *runner) follow(ctx context.Context, i int, s experiment.PlannedStep, f experiment.Follower) {
	err := f.Follow(ctx)
	if err == nil || ctx.Err() != nil || errors.Is(err, experiment.ErrGone) {
		return
	}
	r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: fmt.Sprintf("%s: its names are no longer followed: %v", s.Do, err)})
}
