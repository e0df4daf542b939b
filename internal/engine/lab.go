package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Lab is the containers that a run launches, and takes down at its end.
type Lab interface {
	// Prepare gets what launching needs, such as images. Nothing of it has to
	// be taken back.
	Prepare(ctx context.Context, run experiment.RunID) error
	// Steps returns what launching takes, not numbered yet. Those without a
	// target are of the lab as a whole: they are taken back last.
	Steps(run experiment.RunID) ([]experiment.PlannedStep, error)
	// Up applies the steps in the order of their dependencies, and returns
	// once every container is up, and healthy where that is to be had. From
	// then on it starts again what its policy says. What becomes of a
	// container is told to note, before it is launched and after.
	Up(ctx context.Context, steps []experiment.PlannedStep, apply func(context.Context, experiment.PlannedStep) error, note func(experiment.ContainerMark)) error
	// Rest starts nothing from now on.
	Rest()
}

// forEver is the deadline of a lab that stands until it is taken down.
const forEver = 100 * 365 * 24 * time.Hour

// Stand launches the lab of x and keeps it until ctx ends; then it takes it
// down. It is journaled and guarded as a run is. Up is called with the run's
// name once the lab is up.
func (e *Engine) Stand(ctx context.Context, x *experiment.Experiment, up func(experiment.RunID)) (experiment.RunID, error) {
	return e.begin(ctx, x, up)
}

// launch brings the lab up, with the guardian armed before.
func (r *runner) launch(ctx context.Context) error {
	lab := r.engine.Lab
	if lab == nil {
		return nil
	}
	if err := r.arm(ctx); err != nil {
		return err
	}
	steps, err := lab.Steps(r.run)
	if err != nil {
		return fmt.Errorf("plan the lab: %w", err)
	}
	for i := range steps {
		r.plan.steps++
		steps[i].N = r.plan.steps
	}
	if err := r.announceLab(steps); err != nil {
		return err
	}
	start := time.Now()
	within := r.x.Spec.Lab.Within
	upBy, cancel := context.WithTimeout(ctx, within.D())
	defer cancel()
	if err := lab.Up(upBy, steps, r.applyStep, r.note); err != nil {
		if upBy.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("launch the lab: not up and healthy within %s: %w", within, err)
		}
		return cut(ctx, fmt.Errorf("launch the lab: %w", err))
	}
	r.log(experiment.Event{Kind: experiment.EventLabUp, Seconds: time.Since(start).Seconds(), Containers: containers(steps)})
	return interrupted(ctx)
}

func containers(steps []experiment.PlannedStep) int {
	n := 0
	for _, s := range steps {
		if s.Target != "" {
			n++
		}
	}
	return n
}

// announceLab writes the lab's steps down. Once it has returned, they are on
// disk.
func (r *runner) announceLab(steps []experiment.PlannedStep) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(&experiment.Event{Kind: experiment.EventAnnounce, Steps: steps})
	if r.failed != nil {
		return &Stop{experiment.CauseError, "write journal, so the lab was not launched: " + r.failed.Error()}
	}
	return nil
}

// note writes down what became of a container.
func (r *runner) note(m experiment.ContainerMark) {
	r.log(experiment.Event{Kind: experiment.EventContain, Container: &m})
}

// stopper is an ability of a lab: it asks its containers to end, and gives
// them the time they may take.
type stopper interface{ Stop(ctx context.Context) }

// stand keeps the lab until ctx ends, and then has its containers stopped.
func (r *runner) stand(ctx context.Context) error {
	r.up(r.run)
	<-ctx.Done()
	if s, ok := r.engine.Lab.(stopper); ok {
		s.Stop(context.WithoutCancel(ctx))
	}
	return interrupted(ctx)
}

// dismantle takes the lab down, and returns the steps that could not be taken
// back.
func (r *runner) dismantle() []experiment.PlannedStep {
	if r.engine.Lab == nil {
		return nil
	}
	r.engine.Lab.Rest()
	_, lab := r.remaining()
	return takeBackLab(context.Background(), r.log, lab)
}

// takeBackLab takes the containers back, side by side, and then what they
// stood on.
func takeBackLab(ctx context.Context, log logger, steps []experiment.PlannedStep) []experiment.PlannedStep {
	var ground, standing []experiment.PlannedStep
	for _, s := range steps {
		if s.Target == "" {
			ground = append(ground, s)
		} else {
			standing = append(standing, s)
		}
	}
	left := takeBack(ctx, log, standing)
	return append(left, takeBack(ctx, log, ground)...)
}

// ofLab splits steps into those of actions and those of the lab.
func (p *past) ofLab(steps []experiment.PlannedStep) (actions, lab []experiment.PlannedStep) {
	for _, s := range steps {
		if p.action[s.N] == 0 {
			lab = append(lab, s)
		} else {
			actions = append(actions, s)
		}
	}
	return actions, lab
}

// inLab tells whether the targets of s are containers of the lab.
func inLab(s experiment.Selector) bool {
	l, ok := s.(experiment.InLab)
	return ok && l.InLab()
}

// ownLab tells whether the run that h begins launched a lab of its own.
func ownLab(h *experiment.Header) bool {
	return h != nil && h.Experiment.Lab != nil && h.Experiment.Lab.Struck == ""
}

// pending tells whether t is not there yet: it is a container of a lab that is
// not up.
func pending(a experiment.Action, t experiment.Target) bool {
	return len(t.PIDs) == 0 && inLab(a.Target.Selector)
}

// PlanLab returns the steps that launching the lab would take.
func (e *Engine) PlanLab(run experiment.RunID) ([]experiment.PlannedStep, error) {
	if e.Lab == nil {
		return nil, nil
	}
	steps, err := e.Lab.Steps(run)
	for i := range steps {
		steps[i].N = i + 1
	}
	return steps, err
}

// labOf returns what the journal says of the lab.
func (e *Engine) labOf(x *experiment.Experiment, standing bool) *experiment.LabSummary {
	if x.Spec.Lab == nil {
		return nil
	}
	s := e.LabSummary
	s.Standing = standing
	return &s
}
