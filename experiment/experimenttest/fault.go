package experimenttest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// run is the run in whose name the suites plan.
const run experiment.RunID = "abcd23"

// FaultCase is a fault, and something to break with it.
type FaultCase struct {
	Fault experiment.Fault
	// Ops decodes the fault's ops, as the guardian does.
	Ops experiment.Catalog[experiment.Op]
	// Target makes a target for each part of the suite. It cleans up by
	// t.Cleanup.
	Target func(t testing.TB) experiment.Target
	// Snapshot reads, from the system, all that the fault might change of the
	// target. It must differ while the fault is in force.
	Snapshot func(experiment.Target) string
	// Gone, where given, makes the target go, and perhaps another one come
	// that looks like it: every op must give ErrGone then.
	Gone func(t testing.TB, target experiment.Target)
	// NoUndo says that the fault cannot be taken back. All Undo must be nil.
	NoUndo bool
	// Settle is how long the system may take, after an undo, until it is as it
	// was (2 s): a kernel takes some things apart a while after they were dropped.
	Settle time.Duration
}

// Fault asks of a fault what every fault must do: its plan changes nothing and
// is the same each time; its ops survive the journal, describe themselves, can
// be applied twice, verify, and no longer follow once told to end; its undos put
// everything back, also twice, and where nothing was done.
func Fault(t testing.TB, c FaultCase) {
	t.Helper()
	part(t, "plan", func(t testing.TB) {
		target := c.Target(t)
		before := c.Snapshot(target)
		first := c.plan(t, target)
		sameSteps(t, "planned twice", first, c.plan(t, target))
		same(t, "after Plan", before, func() string { return c.Snapshot(target) }, 0)
	})
	checkSteps(t, stepsCase{c.Ops, c.NoUndo, c.Gone != nil, cmp.Or(c.Settle, settling), func(t testing.TB) attempt {
		target := c.Target(t)
		return attempt{
			steps:    c.plan(t, target),
			snapshot: func() string { return c.Snapshot(target) },
			gone:     func() { c.Gone(t, target) },
		}
	}})
}

func (c FaultCase) plan(t testing.TB, target experiment.Target) []experiment.Step {
	t.Helper()
	steps, err := c.Fault.Plan(bounded(t), run, target)
	if err != nil {
		t.Fatalf("Plan: %v", err)
	}
	if len(steps) == 0 {
		t.Fatalf("Plan gives no steps, and no error")
	}
	return steps
}

// OpCase is an op, and its undo.
type OpCase struct {
	// Ops decodes the op, as the guardian does.
	Ops experiment.Catalog[experiment.Op]
	// Step makes the op, and something for it to change, for each part of the
	// suite.
	Step func(t testing.TB) experiment.Step
	// Snapshot reads, from the system, all that the op might change.
	Snapshot func() string
	// Gone, where given, makes the object of the latest step go.
	Gone func(t testing.TB)
	// NoUndo says that the op cannot be taken back. Undo must be nil.
	NoUndo bool
	// Settle is how long the system may take, after an undo, until it is as it
	// was (2 s).
	Settle time.Duration
}

// Op asks of an op and its undo what Fault asks of a fault's.
func Op(t testing.TB, c OpCase) {
	t.Helper()
	checkSteps(t, stepsCase{c.Ops, c.NoUndo, c.Gone != nil, cmp.Or(c.Settle, settling), func(t testing.TB) attempt {
		return attempt{
			steps:    []experiment.Step{c.Step(t)},
			snapshot: c.Snapshot,
			gone:     func() { c.Gone(t) },
		}
	}})
}

// attempt is steps that were planned, on an object of their own.
type attempt struct {
	steps    []experiment.Step
	snapshot func() string
	gone     func()
}

type stepsCase struct {
	ops     experiment.Catalog[experiment.Op]
	noUndo  bool
	canGo   bool // attempt.gone may be called
	settle  time.Duration
	attempt func(t testing.TB) attempt
}

func checkSteps(t testing.TB, c stepsCase) {
	t.Helper()
	part(t, "ops are data", c.data)
	part(t, "do twice", c.doTwice)
	if c.canGo {
		part(t, "gone", c.gone)
	}
	if c.noUndo {
		return
	}
	part(t, "do and undo", c.doAndUndo)
	part(t, "follow", c.follow)
	part(t, "undo without do", c.undoWithoutDo)
	part(t, "undo after each part of do", c.undoPartly)
}

// codec reads steps back. Targets are not in them.
func (c stepsCase) codec() experiment.Codec { return experiment.Codec{Ops: c.ops} }

// planned returns steps that have an undo, or none, as the case says.
func (c stepsCase) planned(t testing.TB) attempt {
	t.Helper()
	a := c.attempt(t)
	for _, s := range a.steps {
		switch {
		case s.Do == nil:
			t.Fatalf("a step has no Do")
		case c.noUndo && s.Undo != nil:
			t.Fatalf("%s has an undo (%s), but the case says that there is none", s.Do, s.Undo)
		case !c.noUndo && s.Undo == nil:
			t.Fatalf("%s has no undo (say NoUndo where it can have none)", s.Do)
		}
	}
	return a
}

// begin plans, and returns the steps as the journal gives them back.
func (c stepsCase) begin(t testing.TB) (attempt, string) {
	t.Helper()
	a := c.planned(t)
	a.steps = survive(t, c.codec(), a.steps)
	return a, a.snapshot()
}

func (c stepsCase) data(t testing.TB) {
	a := c.planned(t)
	before := a.snapshot()
	sameSteps(t, "read from the journal", a.steps, survive(t, c.codec(), a.steps))
	describesItself(t, a.steps)
	for _, s := range a.steps {
		inForce(t, "before it is done", s.Do, false)
	}
	same(t, "after String, Handles and Verify", before, a.snapshot, 0)
}

func (c stepsCase) doTwice(t testing.TB) {
	a, before := c.begin(t)
	if !c.noUndo {
		t.Cleanup(func() { undo(t, "cleaning up", a.steps) })
	}
	do(t, a.steps)
	for _, s := range a.steps {
		inForce(t, "after it is done", s.Do, true)
	}
	once := a.snapshot()
	if once == before {
		t.Errorf("after it is done the world is as before: either it does nothing, or Snapshot does not see it:\n%s", before)
	}
	for _, s := range a.steps {
		// What is done may have made its own object go: then nothing is left to do.
		if err := s.Do.Apply(bounded(t)); err != nil && !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s, the second time: %v", s.Do, err)
		}
	}
	same(t, "after it is done twice, compared with once,", once, a.snapshot, 0)
}

func (c stepsCase) doAndUndo(t testing.TB) {
	a, before := c.begin(t)
	do(t, a.steps)
	for _, s := range a.steps {
		inForce(t, "after it is done", s.Do, true)
		inForce(t, "before it is taken back", s.Undo, false)
	}
	undo(t, "undo", a.steps)
	same(t, "after do and undo", before, a.snapshot, c.settle)
	for _, s := range a.steps {
		inForce(t, "after it is taken back", s.Undo, true)
	}
	undo(t, "the second undo", a.steps)
	same(t, "after do, undo and undo", before, a.snapshot, c.settle)
}

// follow asks of an op that can follow the world that it ends when it is told
// to, and that nothing of it is left after the undo.
func (c stepsCase) follow(t testing.TB) {
	a, before := c.begin(t)
	followers := slices.DeleteFunc(slices.Clone(a.steps), func(s experiment.Step) bool { _, ok := s.Do.(experiment.Follower); return !ok })
	if len(followers) == 0 {
		return
	}
	do(t, a.steps)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, len(followers))
	for _, s := range followers {
		go func() { ended <- s.Do.(experiment.Follower).Follow(ctx) }()
	}
	stop()
	for range followers {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, experiment.ErrGone) {
				t.Errorf("Follow gives %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Follow does not end within %s of its context", patience)
		}
	}
	undo(t, "undo after following", a.steps)
	same(t, "after do, follow and undo", before, a.snapshot, c.settle)
}

// undoWithoutDo is the crash between the announcement and the change.
func (c stepsCase) undoWithoutDo(t testing.TB) {
	a, before := c.begin(t)
	undo(t, "undo without do", a.steps)
	same(t, "after undo without do", before, a.snapshot, c.settle)
}

// undoPartly is the crash after each of the changes.
func (c stepsCase) undoPartly(t testing.TB) {
	for n := 1; ; n++ {
		a, before := c.begin(t)
		if n >= len(a.steps) {
			return
		}
		do(t, a.steps[:n])
		undo(t, "undo of all after a part was done", a.steps)
		same(t, "after a part was done, and all undone,", before, a.snapshot, c.settle)
	}
}

func (c stepsCase) gone(t testing.TB) {
	a, _ := c.begin(t)
	a.gone()
	before := a.snapshot()
	for _, s := range a.steps {
		if err := s.Do.Apply(bounded(t)); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s, when its object is gone, gives %v, not ErrGone", s.Do, err)
		}
	}
	if !c.noUndo {
		undo(t, "undo of what is gone", a.steps)
	}
	same(t, "after ops on what is gone", before, a.snapshot, 0)
}
