package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// action waits, strikes, holds the fault for as long as it should, and takes
// it back.
func (r *runner) action(ctx context.Context, i int) error {
	a := r.x.Spec.Method[i]
	if err := r.wait(ctx, a.After.D()); err != nil {
		return err
	}
	r.attend(ctx, i)
	defer func() { r.attendanceOf(i).end() }()
	err := cut(ctx, r.strike(ctx, i, 1))
	if errors.Is(err, experiment.ErrNoMatch) || errors.Is(err, experiment.ErrGone) {
		err = r.missed(i, err.Error())
	}
	if err != nil { // what was applied of it does not wait for the actions beside it
		r.attendanceOf(i).end()
		r.closeAction(i, err)
		r.takeBackSteps(r.remainingOf(i))
		return err
	}
	early := r.hold(ctx, i)
	r.attendanceOf(i).end()
	if ctx.Err() == nil {
		_ = r.verifyHeld(ctx, i) // it is written down
		r.judgeFelt(i)
	}
	r.closeAction(i, early)
	var s *Stop
	if left := r.takeBackSteps(r.remainingOf(i)); len(left) > 0 && early == nil {
		early = fmt.Errorf("%s: %d steps could not be taken back", a.Name, len(left))
	} else if errors.As(early, &s) && s.Cause == experiment.CauseEnd {
		early = nil
	}
	return early
}

// wait waits for d, and returns why the method ends meanwhile, if it does.
func (r *runner) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case s := <-r.watch.broken:
		r.watch.broken <- s
		return s
	}
	return r.over(ctx)
}

// over returns why nothing more is to be injected, nil where it may be.
func (r *runner) over(ctx context.Context) error {
	select {
	case s := <-r.watch.broken:
		r.watch.broken <- s // for the actions beside this one, and those to come
		return s
	default:
		return interrupted(ctx)
	}
}

// closeAction says in the journal that nothing is injected for i from now on.
func (r *runner) closeAction(i int, early error) {
	ev := experiment.Event{Kind: experiment.EventTakeBack, Action: i + 1, Cause: experiment.CauseEnd}
	var s *Stop
	if errors.As(early, &s) {
		ev.Cause, ev.Message = s.Cause, s.Message
	}
	r.log(ev)
}

// strike plans action i anew and makes it so.
func (r *runner) strike(ctx context.Context, i, n int) error {
	r.planning.Lock()
	defer r.planning.Unlock()
	plan, err := r.plan.strike(ctx, i, n)
	if err != nil {
		return err
	}
	if n == 1 {
		r.measureBefore(ctx, i, plan)
		if err := r.over(ctx); err != nil {
			return err
		}
	}
	if err := r.announce(ctx, i, plan); err != nil {
		return err
	}
	r.plan.strikes(i, plan)
	r.markDuring()
	start := time.Now()
	if err := r.apply(ctx, i, plan, r.instead); err != nil {
		return err
	}
	r.log(experiment.Event{Kind: experiment.EventInjected, Action: i + 1, Seconds: time.Since(start).Seconds()})
	return nil
}

// announce locks what the steps change, notes the state before, and writes the
// steps down. Once it has returned, they are on disk.
func (r *runner) announce(ctx context.Context, i int, plan *ActionPlan) error {
	if err := r.standsAlone(i, plan); err != nil {
		return err
	}
	if err := r.lock(plan); err != nil {
		return err
	}
	r.observe(ctx, plan.Targets)
	r.plan.touch(plan.Targets)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(&experiment.Event{Kind: experiment.EventPlan, Action: i + 1, Plan: &plan.Plan})
	r.write(&experiment.Event{Kind: experiment.EventAnnounce, Action: i + 1, Steps: plan.Steps})
	if r.failed != nil {
		return &Stop{experiment.CauseError, "write journal, so the fault was not injected: " + r.failed.Error()}
	}
	return nil
}

// standsAlone refuses what another action holds still, though by the file it
// should not any more.
func (r *runner) standsAlone(i int, plan *ActionPlan) error {
	for j := range r.x.Spec.Method {
		if j == i {
			continue
		}
		if h := shared(r.run, r.remainingOf(j), plan.Steps); h != "" {
			return r.plan.conflict(i, j, h)
		}
	}
	return nil
}

// lock takes the handles of the targets and of what the steps change.
func (r *runner) lock(plan *ActionPlan) error {
	var handles []string
	for _, t := range plan.Targets {
		for _, p := range t.PIDs {
			handles = append(handles, p.Handle())
		}
	}
	for _, s := range plan.Steps {
		if h, ok := s.Do.(experiment.Handled); ok {
			handles = append(handles, h.Handles()...)
		}
	}
	for _, h := range handles {
		if err := r.engine.Handles.Acquire(r.run, h); err != nil {
			return err
		}
	}
	return nil
}

// observe writes down the state of targets that were not seen before.
func (r *runner) observe(ctx context.Context, targets []experiment.Target) {
	for _, t := range targets {
		seen, err := r.engine.System.Observe(ctx, t)
		if err != nil {
			r.log(experiment.Event{Kind: experiment.EventWarning, Message: "read the state of " + t.Name + ": " + err.Error()})
		}
		r.mu.Lock()
		for _, o := range seen {
			if _, known := r.past.before[o.Object]; !known {
				r.write(&experiment.Event{Kind: experiment.EventObserved, Observed: &o})
			}
		}
		r.mu.Unlock()
	}
}

// markDuring notes when the first fault came.
func (r *runner) markDuring() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.firstIn == 0 {
		r.firstIn = r.engine.Boot()
		r.write(&experiment.Event{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseDuring, Since: r.firstIn}})
		r.watch.during(r.firstIn)
	}
}

// apply makes the announced steps so, and verifies them. Where a target has
// left meanwhile, the rest of its steps is left out, and gone is asked to make
// up for it.
func (r *runner) apply(ctx context.Context, i int, plan *ActionPlan, gone func(context.Context, int, experiment.Target, error) error) error {
	byID := map[string]experiment.Target{}
	for _, t := range plan.Targets {
		byID[t.ID] = t
	}
	skip := map[string]bool{}
	for _, s := range plan.Steps {
		if skip[s.Target] {
			continue
		}
		err := r.applyStep(ctx, s)
		if errors.Is(err, experiment.ErrGone) {
			skip[s.Target] = true
			err = gone(ctx, i, byID[s.Target], err)
		}
		if err != nil {
			return err
		}
	}
	if err := r.verify(ctx, i, plan, skip); err != nil {
		return err
	}
	r.accompany(i, plan, skip)
	return nil
}

// instead strikes a target in the place of one that is gone, once.
func (r *runner) instead(ctx context.Context, i int, gone experiment.Target, _ error) error {
	plan, err := r.plan.replan(ctx, i, gone)
	if err != nil {
		return r.missed(i, err.Error())
	}
	if err := r.announce(ctx, i, plan); err != nil {
		return err
	}
	r.plan.replace(i, gone, plan)
	return r.apply(ctx, i, plan, func(_ context.Context, i int, _ experiment.Target, err error) error {
		return r.missed(i, fmt.Sprintf("%v: the target left before the change, twice", err))
	})
}

// applyStep makes one change, unless rollback has begun.
func (r *runner) applyStep(ctx context.Context, s experiment.PlannedStep) error {
	if err := interrupted(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
	defer cancel()
	start := time.Now()
	err := s.Do.Apply(ctx)
	ev := experiment.Event{Kind: experiment.EventApplied, Step: s.N, Seconds: time.Since(start).Seconds()}
	if err != nil {
		ev.Error = err.Error()
		err = fmt.Errorf("%s: %w", s.Do, err)
	}
	r.log(ev)
	return err
}
