package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// arm starts the guardian, before the first change. Once it stands by, there
// is nothing more to do.
func (r *runner) arm(ctx context.Context) error {
	if r.armed != nil {
		return interrupted(ctx)
	}
	slack := r.engine.Slack
	if slack == 0 {
		slack = DefaultSlack
	}
	deadline := r.engine.Boot().Add(r.allowed() + slack)
	start := time.Now()
	armed, err := r.engine.Guardian.Arm(context.WithoutCancel(ctx), r.run, deadline)
	if err != nil {
		return fmt.Errorf("arm the guardian, so nothing was injected: %w", err)
	}
	r.armed = armed
	mark := armed.Mark()
	r.log(experiment.Event{Kind: experiment.EventGuardian, Guardian: &mark, Seconds: time.Since(start).Seconds()})
	go func() {
		select {
		case <-armed.Died():
			r.stop(&Stop{experiment.CauseGuardian, "the guardian died"})
		case <-ctx.Done():
		}
	}()
	return interrupted(ctx)
}

// disarm sends the guardian away: nothing is left for it to do, or nothing that
// it could do better. What is still unfinished is left to the next sweep.
func (r *runner) disarm() error {
	if r.armed == nil {
		return nil
	}
	return r.armed.Disarm()
}

// allowed is how long the run may last from now by what the file says.
func (r *runner) allowed() time.Duration {
	switch {
	case r.up != nil:
		return forEver
	case r.engine.Lab != nil:
		return r.x.Spec.Lab.Within.D() + r.x.Spec.Steady.Within.D() + allowed(r.x)
	}
	return allowed(r.x)
}

// allowed is how long a run may last from its first action by what the file
// says: the longest of each group of actions, and the recovery.
func allowed(x *experiment.Experiment) time.Duration {
	total := x.Spec.Recovery.Within.D() + x.Spec.Steady.For.D()
	for _, group := range groups(x.Spec.Method) {
		var longest time.Duration
		for _, i := range group {
			a := x.Spec.Method[i]
			longest = max(longest, a.After.D()+a.For.D())
		}
		total += longest
	}
	return total
}
