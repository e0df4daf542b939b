package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// logger appends an event to the run's journal, and shows it. It keeps going
// where the journal cannot be written: what is broken is put back first.
type logger func(e experiment.Event)

// takeBack undoes steps in reverse, targets side by side, and returns those
// that could not be taken back. It is the one way back: for success, failure,
// Ctrl-C, the guardian and the sweep. It does not heed a cancelled context.
func takeBack(ctx context.Context, log logger, steps []experiment.PlannedStep) []experiment.PlannedStep {
	ctx = context.WithoutCancel(ctx)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		left []experiment.PlannedStep
	)
	for _, of := range byTarget(steps) {
		wg.Go(func() {
			failed := takeBackTarget(ctx, log, of)
			mu.Lock()
			defer mu.Unlock()
			left = append(left, failed...)
		})
	}
	wg.Wait()
	return left
}

// byTarget groups steps by target, each group in reverse.
func byTarget(steps []experiment.PlannedStep) map[string][]experiment.PlannedStep {
	groups := map[string][]experiment.PlannedStep{}
	for _, s := range slices.Backward(steps) {
		if s.Undo != nil {
			groups[s.Target] = append(groups[s.Target], s)
		}
	}
	return groups
}

// takeBackTarget undoes the steps of one target. One that fails is tried
// again after the others, with back-off, for undoPatience.
func takeBackTarget(ctx context.Context, log logger, steps []experiment.PlannedStep) []experiment.PlannedStep {
	deadline := time.Now().Add(undoPatience)
	pending := map[int]chan error{} // undos that have not answered yet
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		var failed []experiment.PlannedStep
		for _, s := range steps {
			if !undo(ctx, log, s, pending) {
				failed = append(failed, s)
			}
		}
		if len(failed) == 0 || time.Now().Add(wait).After(deadline) {
			return failed
		}
		steps = failed
		time.Sleep(wait)
	}
}

// undo takes one step back and tells whether nothing is left to take back. It
// alone takes "gone" and "already so" as done.
func undo(ctx context.Context, log logger, s experiment.PlannedStep, pending map[int]chan error) bool {
	start := time.Now()
	err := within(ctx, patience(s.Undo), s, pending)
	e := experiment.Event{Kind: experiment.EventUndone, Step: s.N, Seconds: time.Since(start).Seconds()}
	var superseded *experiment.SupersededError
	switch {
	case err == nil:
	case errors.Is(err, experiment.ErrGone):
		e.Message = "gone"
	case errors.As(err, &superseded):
		e.Superseded = superseded
	default:
		e.Kind, e.Error = experiment.EventUndoFail, err.Error()
	}
	log(e)
	return e.Kind == experiment.EventUndone
}

// patience is how long one try at an undo may take.
func patience(undo experiment.Op) time.Duration {
	if p, ok := undo.(experiment.Patient); ok {
		return max(undoTimeout, p.Patience())
	}
	return undoTimeout
}

// within applies the undo of s, and gives up waiting for it after d even where
// it does not heed its context. One that has not answered is not begun again
// beside itself: it is waited for.
func within(ctx context.Context, d time.Duration, s experiment.PlannedStep, pending map[int]chan error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	done := pending[s.N]
	if done == nil {
		done = make(chan error, 1)
		pending[s.N] = done
		go func() { done <- s.Undo.Apply(ctx) }()
	}
	select {
	case err := <-done:
		delete(pending, s.N)
		return err
	case <-time.After(d + 50*time.Millisecond): // it may be about to answer
		return fmt.Errorf("no answer within %s: %w", d, context.DeadlineExceeded)
	}
}

// past is what the journal of a run says, folded for a rollback.
type past struct {
	header     *experiment.Header
	steps      []experiment.PlannedStep          // announced, and not taken back yet
	all        []experiment.PlannedStep          // announced ever
	before     map[string]experiment.Observation // by object
	targets    map[string]experiment.Target      // by ID
	normal     []map[string]int                  // by action: its workloads before
	action     map[int]int                       // by step: its action, from 1
	superseded map[int]bool                      // steps whose undo left somebody else's value alone
	ended      bool
}

func fold(events []experiment.Event) *past {
	p := &past{before: map[string]experiment.Observation{}, targets: map[string]experiment.Target{}, superseded: map[int]bool{}, action: map[int]int{}}
	for i := range events {
		p.add(&events[i])
	}
	return p
}

func (p *past) add(e *experiment.Event) {
	switch e.Kind {
	case experiment.EventBegin:
		p.header = e.Header
		if e.Header != nil {
			p.normal = make([]map[string]int, len(e.Header.Experiment.Actions))
		}
	case experiment.EventPlan:
		p.plan(e)
	case experiment.EventObserved:
		if e.Observed != nil {
			p.before[e.Observed.Object] = *e.Observed
		}
	case experiment.EventAnnounce:
		p.steps = append(p.steps, e.Steps...)
		p.all = append(p.all, e.Steps...)
		for _, s := range e.Steps {
			p.action[s.N] = e.Action
		}
	case experiment.EventUndone:
		p.superseded[e.Step] = e.Superseded != nil
		p.steps = slices.DeleteFunc(p.steps, func(s experiment.PlannedStep) bool { return s.N == e.Step })
	case experiment.EventEnd:
		p.ended = true
	}
}

func (p *past) plan(e *experiment.Event) {
	if e.Plan == nil {
		return
	}
	for _, t := range e.Plan.Targets {
		p.targets[t.ID] = t
	}
	if i := e.Action - 1; i >= 0 && i < len(p.normal) && p.normal[i] == nil {
		p.normal[i] = e.Plan.Workloads
	}
}

// Rollback takes back a run whose process is gone. It waits for the run's lock
// until ctx ends; with patient it gives the workloads as long as the file
// allows to be whole again.
func (e *Engine) Rollback(ctx context.Context, run experiment.RunID, cause experiment.Cause, patient bool) error {
	if err := e.Journals.Lock(ctx, run); err != nil {
		return err
	}
	return e.rollbackLocked(ctx, run, cause, patient)
}

// Sweep takes back every run whose lock is free, and returns those it took.
func (e *Engine) Sweep(ctx context.Context) ([]experiment.RunID, error) {
	open, err := e.Journals.Open(ctx)
	if err != nil {
		return nil, err
	}
	var swept []experiment.RunID
	var errs []error
	for _, run := range open {
		if err := e.Journals.TryLock(run); err != nil {
			if !errors.Is(err, experiment.ErrBusy) && e.isOpen(ctx, run) {
				errs = append(errs, fmt.Errorf("take back run %s: %w", run, err))
			}
			continue
		}
		err := e.rollbackLocked(ctx, run, experiment.CauseRunnerDied, false)
		if errors.Is(err, errElsewhere) {
			continue
		}
		swept = append(swept, run)
		if err != nil {
			errs = append(errs, fmt.Errorf("take back run %s: %w", run, err))
		}
	}
	return swept, errors.Join(errs...)
}

// isOpen tells whether run is unfinished still: another may have finished it
// since it was listed.
func (e *Engine) isOpen(ctx context.Context, run experiment.RunID) bool {
	open, err := e.Journals.Open(ctx)
	return err != nil || slices.Contains(open, run)
}

// errElsewhere says that a run is to be taken back elsewhere, and not touched.
var errElsewhere = errors.New("it is of another machine, or of another PID namespace whose pids mean other processes here: take it back there")

// rollbackLocked takes run back. It holds the run's lock, and gives it up.
func (e *Engine) rollbackLocked(ctx context.Context, run experiment.RunID, cause experiment.Cause, patient bool) error {
	events, damage := e.Journals.Events(context.WithoutCancel(ctx), run)
	p := fold(events)
	if p.header == nil && len(events) == 0 && damage == nil {
		return errors.Join(e.Handles.Release(run), e.Journals.Finish(run)) // it died before it wrote its first line
	}
	here, err := e.System.Header()
	if err == nil && p.header != nil && p.header.Machine != here.Machine {
		err = errElsewhere
	} else if err == nil {
		err = p.header.CheckHeader(here.Machine)
	}
	if err == nil && p.header.BootID == here.BootID && p.header.PIDNamespace != here.PIDNamespace {
		err = errElsewhere
	}
	if err != nil {
		e.Journals.Release(run)
		return errors.Join(fmt.Errorf("read journal: %w", err), damage)
	}
	t := &tail{engine: e, run: run, ctx: context.WithoutCancel(ctx), past: p, rebooted: p.header.BootID != here.BootID}
	return t.finish(cause, patient, damage)
}

// tail ends a run that another process began.
type tail struct {
	engine   *Engine
	run      experiment.RunID
	ctx      context.Context
	past     *past
	rebooted bool
	mu       sync.Mutex
	failed   error // of the journal
}

func (t *tail) log(ev experiment.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ev.Run = t.run
	err := t.engine.append(t.ctx, &ev)
	t.past.add(&ev)
	if err != nil && t.failed == nil {
		t.failed = err
	}
}

func (t *tail) finish(cause experiment.Cause, patient bool, damage error) error {
	p := t.past
	if lab := p.header.Experiment.Lab; lab != nil && lab.Struck != "" && t.engine.Struck != nil {
		t.engine.Struck(lab.Struck)
	}
	if !p.ended {
		t.log(experiment.Event{Kind: experiment.EventTakeBack, Cause: cause})
	}
	actions, lab := p.ofLab(t.remaining())
	left := takeBack(t.ctx, t.log, actions)
	left = append(left, takeBackLab(t.ctx, t.log, lab)...)
	end := &ending{engine: t.engine, run: t.run, log: t.log, past: p, rebooted: t.rebooted, gone: ownLab(p.header)}
	if damage != nil {
		end.lines = append(end.lines, "the journal is damaged, so what it no longer says is not taken back: "+damage.Error())
	}
	end.drift(t.ctx)
	if !t.rebooted {
		end.verifyUndone(t.ctx, left, false)
	}
	end.residue(t.ctx, left)
	wait := p.header.Experiment.RecoveryWithin.D()
	if !patient {
		wait = min(wait, sweepPatience)
	}
	end.whole(t.ctx, time.Now().Add(wait))
	t.log(experiment.Event{Kind: experiment.EventEnd})
	return errors.Join(end.close(len(left) == 0 && (len(end.lines) == 0 || damage != nil), t.failed))
}

// remaining returns the steps to take back. After a reboot those that are not
// durable went with the kernel.
func (t *tail) remaining() []experiment.PlannedStep {
	steps := slices.Clone(t.past.steps)
	if !t.rebooted {
		return steps
	}
	var lasting []experiment.PlannedStep
	for _, s := range steps {
		switch {
		case durable(s.Undo):
			lasting = append(lasting, s)
		case s.Undo != nil:
			t.log(experiment.Event{Kind: experiment.EventUndone, Step: s.N, Message: "gone with the reboot"})
		}
	}
	return lasting
}

func durable(op experiment.Op) bool {
	d, ok := op.(experiment.Durable)
	return ok && d.Durable()
}

// append writes ev to the journal and shows it.
func (e *Engine) append(ctx context.Context, ev *experiment.Event) error {
	ev.Wall, ev.Boot = time.Now(), e.Boot()
	err := e.Journals.Append(ctx, *ev)
	if e.Notify != nil {
		e.Notify(ev)
	}
	return err
}
