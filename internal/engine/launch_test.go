package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
)

// boxes is a lab whose containers are settings of the world: up is "up", gone
// is "ok".
type boxes struct {
	lab      *lab
	names    []string
	prepared error
	fails    string // the container that cannot be launched
	hangs    bool   // it never comes up

	mu     sync.Mutex
	rested bool
}

func (b *boxes) Prepare(context.Context, experiment.RunID) error { return b.prepared }

func (b *boxes) Steps(experiment.RunID) ([]experiment.PlannedStep, error) {
	ground := b.step("ground", "ground")
	ground.Target = ""
	steps := []experiment.PlannedStep{ground}
	for _, name := range b.names {
		steps = append(steps, b.step(name, name))
	}
	return steps, nil
}

func (b *boxes) step(target, setting string) experiment.PlannedStep {
	f := &experimenttest.SetFault{World: b.lab.world, Value: "up"}
	found, err := (&experimenttest.Find{World: b.lab.world, Name: setting}).Select(context.Background())
	must(b.lab.t, err)
	steps, err := f.Plan(context.Background(), "lab", found[0])
	must(b.lab.t, err)
	return experiment.PlannedStep{Target: target, Step: steps[0]}
}

func (b *boxes) Up(ctx context.Context, steps []experiment.PlannedStep, apply func(context.Context, experiment.PlannedStep) error, note func(experiment.ContainerMark)) error {
	for _, s := range steps {
		if s.Target == b.fails && b.fails != "" {
			return errors.New("no such command")
		}
		if err := apply(ctx, s); err != nil {
			return err
		}
		if s.Target != "" {
			note(experiment.ContainerMark{Name: s.Target, State: experiment.ContainerRunning})
		}
	}
	if b.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (b *boxes) Rest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rested = true
}

// launching is a lab of the containers box-1 and box-2, and something to break
// besides.
func launching(t *testing.T) (*lab, *boxes) {
	l := newLab(t, "web-1", "ground", "box-1", "box-2")
	b := &boxes{lab: l, names: []string{"box-1", "box-2"}}
	l.engine.Lab, l.engine.LabSummary = b, experiment.LabSummary{Name: "shop"}
	return l, b
}

const inLab = `
  lab: {compose: compose.yaml}
  method:
    - {fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
`

func TestLabComesFirstAndGoesLast(t *testing.T) {
	t.Parallel()
	bubble(t, "pass", func(t *testing.T) {
		l, b := launching(t)
		o := l.run(inLab)
		must(t, o.err)
		same(t, "events", o.tape(), strings.Split(`begin
guardian
announce 0: 1 2 3
applied 1
applied 2
contain
applied 3
contain
labup
phase before
plan 1 web-1
announce 1: 4
phase during
applied 4
verified 4 true
injected 1
verified 4 true
takeback 1 end
undone 4
reverted 1
takeback 0 end
phase recovery
undone 1
undone 2
undone 3
end`, "\n"))
		o.verdict(t, experiment.Pass)
		o.tidy(t)
		undone := o.find(experiment.EventUndone)
		same(t, "what the lab stands on goes last", undone[len(undone)-1].Step, 1)
		if !b.rested {
			t.Error("the lab was not told to rest")
		}
		same(t, "containers", o.result.Lab.Containers, 2)
	})
}

func TestLabThatDoesNotComeUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*boxes)
		want  string
	}{
		"a container that cannot be launched": {func(b *boxes) { b.fails = "box-2" }, "launch the lab: no such command"},
		"one that is never healthy":           {func(b *boxes) { b.hangs = true }, "launch the lab: not up and healthy within 1m0s: context deadline exceeded"},
	} {
		bubble(t, name, func(t *testing.T) {
			l, b := launching(t)
			c.spoil(b)
			o := l.run(inLab)
			must(t, o.err)
			o.verdict(t, experiment.Errored)
			same(t, "error", o.result.Error, c.want)
			o.tidy(t)
			if o.has("plan") {
				t.Error("a fault was planned")
			}
		})
	}
	bubble(t, "an image that cannot be had touches nothing", func(t *testing.T) {
		l, b := launching(t)
		b.prepared = errors.New("no such image")
		o := l.run(inLab)
		same(t, "error", o.err.Error(), "no such image")
		same(t, "changes", l.injected(), 0)
		same(t, "runs", len(l.open()), 0)
	})
}

// A runner that is killed at any write leaves a lab that the rollback takes
// down.
func TestLabOfADeadRunner(t *testing.T) {
	t.Parallel()
	bubble(t, "at every write", func(t *testing.T) {
		l, _ := launching(t)
		crashes := l.crashes(inLab)
		for _, c := range crashes {
			l.revive(c)
			_, err := l.engine.Sweep(t.Context())
			must(t, err)
			l.allOK(t)
			same(t, "unfinished runs", len(l.open()), 0)
		}
	})
}

// A lab that stands does so until it is told to end.
func TestStand(t *testing.T) {
	t.Parallel()
	bubble(t, "until it is interrupted", func(t *testing.T) {
		l, _ := launching(t)
		x := l.load(inLab)
		x.Spec.Method = nil
		ctx, cancel := context.WithCancelCause(context.Background())
		var upAt experiment.BootTime
		run, err := l.engine.Stand(ctx, x, func(experiment.RunID) {
			upAt = l.boot()
			time.AfterFunc(1000*time.Hour, func() { cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGTERM"}) })
		})
		must(t, err)
		o := l.read(run)
		o.tidy(t)
		same(t, "stood for", l.boot().Sub(upAt), 1000*time.Hour)
		same(t, "standing", o.find(experiment.EventBegin)[0].Header.Experiment.Lab.Standing, true)
	})
}
