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
	// mostMeasured is how many targets of a plan are measured.
	mostMeasured = 8
	// firstPatience is how long what measures then may take to end, and
	// attendPatience what measures or follows while the fault is on: what is
	// broken is put back then, whatever still goes on.
	firstPatience  = 50 * time.Millisecond
	attendPatience = 2 * time.Second
)

// attendance is what goes on beside an action: names are followed, and its
// effect is measured.
type attendance struct {
	runner *runner
	action int
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
	over   bool // guarded by runner.mu: what comes from now on is not written down

	// Of the action's own goroutine:
	measured map[string]context.CancelFunc // by target
	followed map[string]context.CancelFunc // by target
	told     map[string]bool               // reasons that were warned of
	rests    time.Time                     // nobody is looked for before
}

func (r *runner) newAttendance(ctx context.Context, i int) *attendance {
	a := &attendance{runner: r, action: i, measured: map[string]context.CancelFunc{}, followed: map[string]context.CancelFunc{}, told: map[string]bool{}}
	a.ctx, a.stop = context.WithCancel(ctx)
	return a
}

// attend opens the attendance of action i, unless one is open. It must be ended
// before anything of the action is taken back.
func (r *runner) attend(ctx context.Context, i int) {
	a := r.newAttendance(context.WithoutCancel(ctx), i)
	r.mu.Lock()
	defer r.mu.Unlock()
	if before := r.attending[i]; before != nil {
		if !before.over {
			return
		}
		a.told, a.rests = before.told, before.rests
	}
	r.attending[i] = a
}

// attendanceOf returns that of action i.
func (r *runner) attendanceOf(i int) *attendance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attending[i]
}

// end stops what goes on beside the action, and waits for it.
func (a *attendance) end() { a.endAfter(0, attendPatience) }

// endAfter ends the attendance once nothing goes on any more, or d is over.
// What does not heed its end is left to itself: what it finds is not written
// down, and what is broken does not wait for it.
func (a *attendance) endAfter(d, patience time.Duration) {
	a.once.Do(func() {
		ended := make(chan struct{})
		go func() { a.wg.Wait(); close(ended) }()
		if d > 0 {
			await(ended, d)
		}
		a.stop()
		late := !await(ended, patience)
		a.runner.mu.Lock()
		defer a.runner.mu.Unlock()
		if a.over = true; late {
			a.runner.write(&experiment.Event{Kind: experiment.EventWarning, Action: a.action + 1, Message: fmt.Sprintf("what follows or measures it did not end within %s, and was left to itself", patience)})
		}
	})
}

// await waits until c is closed, and tells whether it was within d.
func await(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// log writes an event, unless the attendance is over.
func (a *attendance) log(ev experiment.Event) {
	a.runner.mu.Lock()
	defer a.runner.mu.Unlock()
	if !a.over {
		ev.Action = a.action + 1
		a.runner.write(&ev)
	}
}

// measureBefore measures what the plan is about to change.
func (r *runner) measureBefore(ctx context.Context, i int, plan *ActionPlan) {
	if _, ok := r.x.Spec.Method[i].Fault.(experiment.Measurer); !ok {
		return
	}
	a := r.newAttendance(ctx, i)
	for _, t := range plan.Targets[:min(mostMeasured, len(plan.Targets))] {
		a.measure(t, experiment.PhaseBefore)
	}
	a.endAfter(measureFirst, firstPatience)
}

// measure has the action's fault measure t, and writes down what it found.
func (a *attendance) measure(t experiment.Target, p experiment.Phase) {
	f, ok := a.runner.x.Spec.Method[a.action].Fault.(experiment.Measurer)
	if _, measured := a.measured[t.ID]; !ok || measured { // struck again, it is measured still
		return
	}
	ctx, stop := context.WithCancel(a.ctx)
	a.measured[t.ID] = stop
	a.wg.Go(func() {
		defer stop()
		m, err := f.Measure(ctx, t, p)
		if err != nil {
			m = &experiment.Measurement{What: "not measured: " + err.Error()}
		}
		if m == nil {
			return
		}
		m.Target, m.Phase = t.ID, p
		a.log(experiment.Event{Kind: experiment.EventMeasured, Measured: m})
	})
}

// left ends the measuring of a target that has left: from where it stood,
// nothing is to be seen any more.
func (a *attendance) left(t experiment.Target) {
	if stop, ok := a.measured[t.ID]; ok {
		stop()
	}
}

// forget ends all that goes on for a target: what was done to it is taken back.
func (a *attendance) forget(t experiment.Target) {
	a.left(t)
	if stop, ok := a.followed[t.ID]; ok {
		stop()
	}
}

// following is the context of what follows the steps of a target.
func (a *attendance) following(id string) context.Context {
	ctx, stop := context.WithCancel(a.ctx)
	if before, ok := a.followed[id]; ok {
		a.followed[id] = func() { before(); stop() }
	} else {
		a.followed[id] = stop
	}
	return ctx
}

// accompany follows and measures what plan has just put in force, but on the
// targets that had left before it was.
func (r *runner) accompany(i int, plan *ActionPlan, left map[string]bool) {
	a := r.attendanceOf(i)
	for _, s := range plan.Steps {
		if f, ok := s.Do.(experiment.Follower); ok && !left[s.Target] {
			ctx := a.following(s.Target)
			a.wg.Go(func() { a.follow(ctx, s, f) })
		}
	}
	for _, t := range plan.Targets[:min(mostMeasured, len(plan.Targets))] {
		if !left[t.ID] {
			a.measure(t, experiment.PhaseDuring)
		}
	}
}

// follow says why a step could not be followed to the action's end.
func (a *attendance) follow(ctx context.Context, s experiment.PlannedStep, f experiment.Follower) {
	err := f.Follow(ctx)
	if err == nil || ctx.Err() != nil || errors.Is(err, experiment.ErrGone) {
		return
	}
	a.log(experiment.Event{Kind: experiment.EventWarning, Message: fmt.Sprintf("%s: its names are no longer followed: %v", s.Do, err)})
}
