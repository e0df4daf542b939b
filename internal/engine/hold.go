package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// hold keeps action i going until its end: it lets go and strikes again as its
// file says, and looks after targets that leave. It returns why it ended early.
func (r *runner) hold(ctx context.Context, i int) error {
	y := newRhythm(r.x.Spec.Method[i], time.Now())
	y.holds = len(r.remainingOf(i)) > 0
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	if !r.watches(i) {
		look.Stop()
	}
	at, what := y.next()
	next := time.NewTimer(time.Until(at))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return interrupted(ctx)
		case s := <-r.watch.broken:
			r.watch.broken <- s // for the actions beside this one, and those to come
			return s
		case <-look.C:
			if over, err := r.lookAfter(ctx, i, y); over || err != nil {
				return err
			}
		case <-next.C:
			if what == beatEnd {
				_, err := r.lookAfter(ctx, i, y)
				return err
			}
			if err := r.beat(ctx, i, y, what); err != nil {
				return err
			}
			at, what = y.next()
			next.Reset(time.Until(at))
		}
	}
}

// beat lets go of action i, or has it strike once more.
func (r *runner) beat(ctx context.Context, i int, y *rhythm, what beat) error {
	if err := r.over(ctx); err != nil {
		return err
	}
	var err error
	if what == beatRelease {
		err = r.release(ctx, i)
		y.holds = false
	} else {
		err = r.again(ctx, i, y)
	}
	for late := y.skip(time.Now()); late > 0; late-- {
		r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: fmt.Sprintf("strike %d was left out: the one before took too long to be put in force and taken back", y.n-late+1)})
	}
	return err
}

// again strikes once more. That nothing is left to strike just now is no
// reason to end.
func (r *runner) again(ctx context.Context, i int, y *rhythm) error {
	y.n++
	r.attend(ctx, i)
	err := r.strike(ctx, i, y.n)
	var unborne *ActionError
	if errors.As(err, &unborne) {
		r.log(experiment.Event{Kind: experiment.EventWarning, Action: i + 1, Message: fmt.Sprintf("strike %d was left out: %v", y.n, err)})
		return nil
	}
	y.since, y.holds = time.Now(), len(r.remainingOf(i)) > 0
	return err
}

// release takes back what action i holds, between two strikes: by the way that
// everything is taken back, after it was verified once more.
func (r *runner) release(ctx context.Context, i int) error {
	r.attendanceOf(i).end()
	if err := r.verifyHeld(ctx, i); err != nil {
		return err
	}
	if left := r.takeBackSteps(r.remainingOf(i)); len(left) > 0 {
		return fmt.Errorf("%s: %d steps could not be taken back", r.x.Spec.Method[i].Name, len(left))
	}
	return nil
}
