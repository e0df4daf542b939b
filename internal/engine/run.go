package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Stop is the cause of a cancelled context: why a run is to end early.
type Stop struct {
	Cause   experiment.Cause
	Message string
}

// Error implements error.
func (s *Stop) Error() string { return s.Message }

// runner is one run of this process.
type runner struct {
	engine *Engine
	run    experiment.RunID
	x      *experiment.Experiment
	plan   *planner
	watch  *watch
	stop   context.CancelCauseFunc // ends the method early
	armed  Armed                   // nil until then
	up     func(experiment.RunID)  // of a lab that stands: called once it is up; nil for an experiment

	mu      sync.Mutex // orders events, and guards what follows
	past    *past
	failed  error // of the journal
	firstIn experiment.BootTime
	held    map[int][]heldStep // by action: what verifies before it is taken back
	felt    map[int]*feltBy    // by action

	attending map[int]*attendance // by action

	planning sync.Mutex // one action is planned and applied at a time
}

// heldStep is a step that was applied, and may be verified.
type heldStep struct {
	experiment.PlannedStep
	action int
}

// Run runs x to its end and returns the run's name, or "" where x could not be
// borne and nothing was touched or written. A context that is cancelled takes
// everything back first; its cause may be a *Stop.
func (e *Engine) Run(ctx context.Context, x *experiment.Experiment) (experiment.RunID, error) {
	return e.begin(ctx, x, nil)
}

// begin runs x, or with up lets its lab stand.
func (e *Engine) begin(ctx context.Context, x *experiment.Experiment, up func(experiment.RunID)) (experiment.RunID, error) {
	run := NewRunID()
	if _, err := e.Plan(ctx, x, run); err != nil { // early, before anybody waits for a steady state
		return "", cut(ctx, err)
	}
	if e.Lab != nil {
		if err := e.Lab.Prepare(ctx, run); err != nil {
			return "", cut(ctx, err)
		}
	}
	header, err := e.System.Header()
	if err != nil {
		return "", fmt.Errorf("read the host's identity: %w", err)
	}
	if err := e.Journals.Create(context.WithoutCancel(ctx), run); err != nil {
		return "", err
	}
	r := &runner{
		engine: e, run: run, x: x, up: up, past: fold(nil), held: map[int][]heldStep{}, felt: map[int]*feltBy{}, attending: map[int]*attendance{},
		plan: e.newPlanner(x, run, Seed(x, run)),
	}
	r.plan.held = r.heldTargets
	return run, r.whole(ctx, header)
}

// log writes an event and folds it. Where the journal cannot be written, the
// run goes on only to put back what it broke.
func (r *runner) log(ev experiment.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(&ev)
}

func (r *runner) write(ev *experiment.Event) {
	ev.Run = r.run
	err := r.engine.append(context.Background(), ev)
	r.past.add(ev)
	if err != nil && r.failed == nil {
		r.failed = err
		if r.stop != nil {
			r.stop(&Stop{experiment.CauseError, "write journal: " + err.Error()})
		}
	}
}

// whole is the run from its first line to its last.
func (r *runner) whole(outer context.Context, header experiment.Header) error {
	header.Format, header.Version = experiment.JournalFormat, r.engine.Version
	header.Seed, header.Experiment = r.plan.seed, r.x.Summarise()
	header.Experiment.Lab = r.engine.labOf(r.x, r.up != nil)
	ctx, stop := context.WithCancelCause(outer)
	r.stop = stop
	defer stop(nil)
	r.log(experiment.Event{Kind: experiment.EventBegin, Header: &header})
	if r.failed != nil { // nothing is broken yet, and nothing could be written down
		r.engine.Journals.Release(r.run)
		return fmt.Errorf("write journal, so nothing was injected: %w", r.failed)
	}
	return r.body(ctx)
}

// body is all between the first line and the last.
func (r *runner) body(ctx context.Context) error {
	r.watch = newWatch(r)
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var load Load
	err := r.launch(ctx)
	if err == nil {
		load, err = r.startLoad(watching)
	}
	if err == nil {
		r.watch.start(watching, load)
		err = r.method(ctx)
	}
	r.takeBackAll(ctx, err)
	actions, _ := r.remaining()
	left := r.takeBackSteps(actions)
	back := time.Now()
	end := &ending{engine: r.engine, run: r.run, log: r.log, past: r.past}
	if r.recovers(ctx, err) {
		r.recover(ctx)
		if stop := stopOf(ctx); stop != nil {
			r.log(experiment.Event{Kind: experiment.EventTakeBack, Cause: stop.Cause, Message: stop.Message})
		}
	}
	end.drift(context.WithoutCancel(ctx))
	unwatch()
	r.watch.wait()
	if load != nil {
		load.Stop()
	}
	if err == nil || r.engine.Lab == nil { // a lab that goes now need not be whole
		end.whole(context.WithoutCancel(ctx), back.Add(r.x.Spec.Recovery.Within.D()))
	}
	end.verifyUndone(context.WithoutCancel(ctx), left, false)
	left = append(left, r.dismantle()...)
	end.residue(context.WithoutCancel(ctx), left)
	if failure := r.failure(ctx, err); failure != "" {
		r.log(experiment.Event{Kind: experiment.EventEnd, Error: failure})
	} else {
		r.log(experiment.Event{Kind: experiment.EventEnd})
	}
	return errors.Join(end.close(len(left) == 0 && len(end.lines) == 0, r.failed), r.disarm())
}

// recovers tells whether there is a recovery to watch: a fault was in force,
// and the run was not told to end.
func (r *runner) recovers(ctx context.Context, err error) bool {
	var s *Stop
	early := errors.As(err, &s) && (s.Cause == experiment.CauseAbortAfter || s.Cause == experiment.CauseRestarted)
	return ctx.Err() == nil && r.firstIn != 0 && (err == nil || early)
}

// failure gives the words for an error that ended the run, "" where it ended
// in a way that has a verdict of its own.
func (r *runner) failure(ctx context.Context, err error) string {
	if cause := stopOf(ctx); cause != nil && cause.Cause == experiment.CauseError {
		return cause.Message
	}
	var stop *Stop
	if err == nil || errors.As(err, &stop) && stop.Cause != experiment.CauseError {
		return ""
	}
	return err.Error()
}

func stopOf(ctx context.Context) *Stop {
	if ctx.Err() == nil {
		return nil
	}
	var s *Stop
	if errors.As(context.Cause(ctx), &s) {
		return s
	}
	return &Stop{experiment.CauseInterrupted, "interrupted"}
}

func (r *runner) startLoad(ctx context.Context) (Load, error) {
	if len(r.x.Spec.Traffic) == 0 {
		return nil, nil
	}
	load, err := r.engine.Load(r.x.Spec.Traffic)
	if err != nil {
		return nil, fmt.Errorf("make traffic: %w", err)
	}
	return load, load.Start(ctx)
}

// method is what the run is there for.
func (r *runner) method(ctx context.Context) error {
	if r.up != nil {
		return r.stand(ctx)
	}
	return r.inject(ctx)
}

// inject is the steady state, the plan, the guardian and the method.
func (r *runner) inject(ctx context.Context) error {
	if err := r.steady(ctx); err != nil {
		return err
	}
	everything := r.engine.newPlanner(r.x, r.run, r.plan.seed)
	if _, err := everything.all(ctx); err != nil {
		return cut(ctx, fmt.Errorf("plan everything: %w", err))
	}
	r.plan.whole = everything.whole // a percentage is of what ran before the first fault
	if err := r.arm(ctx); err != nil {
		return err
	}
	for _, group := range groups(r.x.Spec.Method) {
		if err := r.group(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

// steady waits until every check holds.
func (r *runner) steady(ctx context.Context) error {
	spec := r.x.Spec.Steady
	if len(r.x.Spec.Hypothesis.Checks) == 0 {
		r.log(experiment.Event{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseBefore, Since: r.engine.Boot()}})
		return interrupted(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Within.D(), &Stop{
		experiment.CauseNotSteady,
		fmt.Sprintf("not steady for %s within %s", spec.For, spec.Within),
	})
	defer cancel()
	began := r.engine.Boot()
	since, err := r.watch.steady(ctx, spec.For.D())
	if err != nil {
		since = began // all that was measured shows what was not steady
	}
	r.log(experiment.Event{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseBefore, Since: since}})
	return err
}

func interrupted(ctx context.Context) error {
	if s := stopOf(ctx); s != nil {
		return s
	}
	return nil
}

// cut returns why ctx ended in the place of an error that only says that it
// has.
func cut(ctx context.Context, err error) error {
	if s := stopOf(ctx); s != nil && errors.Is(err, context.Canceled) {
		return s
	}
	return err
}

// group runs actions that start together, and waits for all of them. Where
// one ends early, so do the others.
func (r *runner) group(ctx context.Context, actions []int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(actions))
	var wg sync.WaitGroup
	for n, i := range actions {
		wg.Go(func() {
			if errs[n] = r.action(ctx, i); errs[n] != nil {
				cancel(errs[n])
			}
		})
	}
	wg.Wait()
	for _, err := range errs { // the first of them is why; the others were cancelled by it
		var s *Stop
		if err != nil && !(errors.As(err, &s) && s.Cause == experiment.CauseInterrupted) {
			return err
		}
	}
	return errors.Join(errs...)
}

// recover waits until every check holds again, and then watches for as long
// as it did before.
func (r *runner) recover(ctx context.Context) {
	back := r.engine.Boot()
	r.log(experiment.Event{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseRecovery, Since: back}})
	if len(r.x.Spec.Hypothesis.Checks) == 0 {
		return
	}
	within, cancel := context.WithTimeout(ctx, r.x.Spec.Recovery.Within.D())
	defer cancel()
	since, err := r.watch.recovered(within, back)
	if err != nil {
		return // the journal has no mark of an after phase: it is not steady again
	}
	r.log(experiment.Event{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseAfter, Since: since}})
	sleep(ctx, r.x.Spec.Steady.For.D()-r.engine.Boot().Sub(since))
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(max(0, d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// takeBackAll says in the journal that nothing is injected from now on.
func (r *runner) takeBackAll(ctx context.Context, err error) {
	ev := experiment.Event{Kind: experiment.EventTakeBack, Cause: experiment.CauseEnd}
	var s *Stop
	switch {
	case errors.As(err, &s):
		ev.Cause, ev.Message = s.Cause, s.Message
	case stopOf(ctx) != nil:
		ev.Cause, ev.Message = stopOf(ctx).Cause, stopOf(ctx).Message
	case err != nil:
		ev.Cause, ev.Message = experiment.CauseError, err.Error()
	}
	r.log(ev)
}

// remaining returns the steps that are not taken back yet.
func (r *runner) remaining() (actions, lab []experiment.PlannedStep) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.past.ofLab(r.past.steps)
}

// remainingOf returns those of action i.
func (r *runner) remainingOf(i int) []experiment.PlannedStep {
	actions, _ := r.remaining()
	return r.of(i, actions)
}

// heldTargets returns the identities of all targets that a fault is on.
func (r *runner) heldTargets() map[string]bool {
	actions, _ := r.remaining()
	r.mu.Lock()
	defer r.mu.Unlock()
	held := map[string]bool{}
	for _, s := range actions {
		if t, ok := r.past.targets[s.Target]; ok && s.Undo != nil {
			held[identity(t)] = true
			for _, now := range r.plan.struck[r.past.action[s.N]-1] { // what came in its place, where the fault is on still
				held[identity(now.Target)] = true
			}
		}
	}
	return held
}

// takeBackSteps takes steps back and says of each action when all of it was.
func (r *runner) takeBackSteps(steps []experiment.PlannedStep) []experiment.PlannedStep {
	start := time.Now()
	left := takeBack(context.Background(), r.log, steps)
	for i := range r.x.Spec.Method {
		if mine := r.of(i, steps); len(mine) > 0 && len(r.of(i, left)) == 0 {
			r.log(experiment.Event{Kind: experiment.EventReverted, Action: i + 1, Seconds: time.Since(start).Seconds()})
		}
	}
	return left
}

// of returns those of steps that can be taken back and belong to action i.
func (r *runner) of(i int, steps []experiment.PlannedStep) []experiment.PlannedStep {
	r.mu.Lock()
	defer r.mu.Unlock()
	var mine []experiment.PlannedStep
	for _, s := range steps {
		if s.Undo != nil && r.past.action[s.N] == i+1 {
			mine = append(mine, s)
		}
	}
	return mine
}
