package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/simianhq/simian/experiment"
)

// applied is a fault on a container of the lab.
type applied struct {
	run         experiment.RunID
	target      experiment.Target
	steps       []experiment.Step
	felt        string        // what the last Verify read
	plan, force time.Duration // Plan alone; from Plan until all is in force
}

// apply plans and applies a fault, and waits until all of it is in force.
func (l *lab) apply(ctx context.Context, service, section string) (*applied, error) {
	a, err := l.action(service, section)
	if err != nil {
		return nil, err
	}
	target, err := l.target(ctx, a)
	if err != nil {
		return nil, err
	}
	f := &applied{run: l.newRun(), target: target}
	start := time.Now()
	if f.steps, err = a.Fault.Plan(ctx, f.run, target); err != nil {
		return nil, err
	}
	f.plan = time.Since(start)
	for _, s := range f.steps {
		if err := s.Do.Apply(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", s.Do, err), f.undo(ctx))
		}
	}
	for _, s := range f.steps {
		if err := f.verify(ctx, s.Do); err != nil {
			return nil, errors.Join(err, f.undo(ctx))
		}
	}
	f.force = time.Since(start)
	return f, nil
}

// back takes the fault back, and returns how long it took until the system
// says so.
func (f *applied) back(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	if err := f.undo(ctx); err != nil {
		return 0, err
	}
	for _, s := range f.steps {
		if s.Undo == nil {
			continue
		}
		if err := f.verify(ctx, s.Undo); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

func (f *applied) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var errs []error
	for _, s := range slices.Backward(f.steps) {
		if s.Undo == nil {
			continue
		}
		if err := s.Undo.Apply(ctx); err != nil && !errors.Is(err, experiment.ErrGone) {
			errs = append(errs, fmt.Errorf("%s: %w", s.Undo, err))
		}
	}
	return errors.Join(errs...)
}

// verify waits until an op is in force. What is gone needs no more.
func (f *applied) verify(ctx context.Context, o experiment.Op) error {
	v, ok := o.(experiment.Verifier)
	if !ok {
		return nil
	}
	for end := time.Now().Add(patience); ; {
		e, err := v.Verify(ctx)
		switch {
		case errors.Is(err, experiment.ErrGone):
			return nil
		case err != nil:
			return fmt.Errorf("verify %s: %w", o, err)
		case e.InForce:
			f.felt = e.What
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%s is not in force: %s; %s", o, e.What, e.Hint)
		}
		if err := wait(ctx, 200*time.Microsecond); err != nil {
			return err
		}
	}
}

// irreversible tells whether nothing of it can be taken back.
func (f *applied) irreversible() bool {
	return !slices.ContainsFunc(f.steps, func(s experiment.Step) bool { return s.Undo != nil })
}
