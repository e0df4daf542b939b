package faults

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
)

// faultCase is one form of a fault: what a file says, and what a target feels.
type faultCase struct {
	Name    string // of the fault
	Form    string // tells its cases apart; "" where it has one
	Section string // as a file has it; subject.words are replaced: $PEER …

	// Feel asks the subject, and sums up in a word or two what it is like.
	// Its words must be Well before, Ill while the fault is in force, and Well
	// again once that is taken back.
	Feel      func(s *subject) string
	Well, Ill string

	// Sees reads what Observe does not know of: files, what is in them.
	Sees func(s *subject) string

	// Refused gives the error with which this kind of subject is refused on
	// this kernel, "" where it can be broken. NAME, PID, DIR and CGROUP stand
	// for the subject's own.
	Refused func(k kind) string

	Net      bool   // it is of the network, and subjects that have one of their own are others
	Restarts bool   // a container is started again, and is another process then
	NoUndo   []kind // of these it can't be taken back: each part gets another
	Secret   bool   // what it does is not in the journal, only how it is undone: who has planned it does it
}

// id is the case's name in tests and in testdata/support.json.
func (c *faultCase) id() string { return c.Name + "/" + c.form() }

func (c *faultCase) form() string {
	if c.Form == "" {
		return "plain"
	}
	return strings.ReplaceAll(c.Form, " ", "-")
}

// kinds are those on which the case is tested: a network of its own is nothing
// to a fault that does not touch it.
func (c *faultCase) kinds() []kind {
	if c.Net {
		return kinds()
	}
	return slices.DeleteFunc(kinds(), func(k kind) bool { return k == networked })
}

// cell is a case on one kind of subject.
type cell struct {
	*faultCase
	kind    kind
	subject *subject // shared by its parts; nil where each has its own
	parts   int      // that passed
	backend string   // by which it was broken
}

// run tests the cell, and returns what came of it: "yes", "yes: BACKEND",
// "no: WHY", or "" where it failed or was not tested in full.
func (x *cell) run(t *testing.T) string {
	if !x.noUndo() {
		x.subject = newSubject(t, x.kind)
	}
	if x.Refused != nil && x.Refused(x.kind) != "" {
		if t.Run("refused", x.refused) && x.parts == 1 {
			return "no: " + x.Refused(x.kind)
		}
		return ""
	}
	want := 2
	x.part(t, "effect", x.effect)
	x.part(t, "residue", x.residue)
	if !x.brief() {
		want++
		x.part(t, "conformance", x.conformance)
	}
	switch {
	case t.Failed() || x.parts != want:
		return ""
	case x.backend != "":
		return "yes: " + x.backend
	}
	return "yes"
}

// brief tells whether less is asked of raw processes: an emulated processor
// takes seconds for what starts a process.
func (x *cell) brief() bool {
	return testing.Short() && (x.kind == service || x.kind == process)
}

func (x *cell) part(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		test(t)
		if !t.Failed() {
			x.parts++
		}
	})
}

// on returns the subject for a part.
func (x *cell) on(t testing.TB) *subject {
	t.Helper()
	if x.subject != nil {
		x.subject.answers(t) // it may have just been started again
		return x.subject
	}
	return newSubject(t, x.kind)
}

// refused wants the plan to say that it can't, and why, and to change nothing.
func (x *cell) refused(t *testing.T) {
	s := x.on(t)
	target := s.target(t)
	before := x.state(s, target)
	_, err := s.fault(t, x.Section).Plan(t.Context(), newRun(), target)
	switch {
	case err == nil:
		t.Fatal("it is not refused")
	case !errors.Is(err, experiment.ErrUnsupported) && !errors.Is(err, experiment.ErrProtected):
		t.Errorf("it is refused with an error of no such kind: %v", err)
	}
	if got, want := s.normal(target, err.Error()), x.Refused(x.kind); got != want {
		t.Errorf("it is refused with\n%s\nand not\n%s", got, want)
	}
	s.same(t, "after it was refused", before, func() string { return x.state(s, target) })
	x.parts++
}

// conformance is the suite that every fault must pass.
func (x *cell) conformance(t *testing.T) {
	s := x.on(t)
	if x.Secret {
		return // it is asked for where the fault is: only there its ops can be read back
	}
	experimenttest.Fault(t, experimenttest.FaultCase{
		Fault: s.fault(t, x.Section), Ops: codec().Ops, NoUndo: x.noUndo(), Settle: patience,
		Target: func(t testing.TB) experiment.Target {
			s = x.on(t)
			return s.target(t)
		},
		Snapshot: func(target experiment.Target) string { return x.state(s, target) },
	})
}

// effect wants the subject to feel it as long as it is in force, and no longer.
func (x *cell) effect(t *testing.T) {
	s := x.on(t)
	target := s.target(t)
	s.feels(t, "before", x.Feel, x.Well)
	j := x.plan(t, s, target)
	j.apply(t)
	x.backend = j.backend()
	stop := j.follow(t)
	s.feels(t, "while it is in force", x.Feel, x.Ill)
	j.inForce(t)
	stop()
	if !x.noUndo() {
		j.takeBack(t)
		s.feels(t, "afterwards", x.Feel, x.Well)
	}
}

func (x *cell) noUndo() bool { return slices.Contains(x.NoUndo, x.kind) }

// residue wants nothing to be left, whoever takes it back.
func (x *cell) residue(t *testing.T) {
	for _, how := range []struct {
		name  string
		apply func(j *journal, t *testing.T)
	}{
		{"taken back", func(j *journal, t *testing.T) { j.apply(t) }},
		{"killed after it", func(j *journal, t *testing.T) { j.applyElsewhere(t, "applied") }},
		{"killed in the midst", func(j *journal, t *testing.T) { j.applyElsewhere(t, "begins") }},
	} {
		if testing.Short() && how.name == "killed in the midst" || x.brief() && how.name != "taken back" {
			continue
		}
		if x.Secret && how.name != "taken back" {
			continue // no other process can apply it
		}
		t.Run(how.name, func(t *testing.T) {
			s := x.on(t)
			target := s.target(t)
			before := x.state(s, target)
			j := x.plan(t, s, target)
			how.apply(j, t)
			if !x.noUndo() {
				j.takeBack(t)
				s.same(t, "after it was taken back", before, func() string { return x.state(s, target) })
			}
			eventually(t, func() string { return strings.Join(leftOf(j.run, s), "\n") })
		})
	}
}

// plan returns the steps as they stand in the journal of a run of its own.
func (x *cell) plan(t testing.TB, s *subject, target experiment.Target) *journal {
	t.Helper()
	run := newRun()
	steps, err := s.fault(t, x.Section).Plan(t.Context(), run, target)
	must(t, err)
	j := newJournal(t, run, steps)
	for i := range j.steps {
		if x.Secret {
			j.steps[i].Do = steps[i].Do
		}
	}
	return j
}

// state is all that a fault may change of a subject.
func (x *cell) state(s *subject, target experiment.Target) string {
	text := s.observe(target)
	if x.Restarts && s.kind.contained() {
		text = s.observeAgain(text)
	}
	if x.Sees != nil {
		text += "\n" + x.Sees(s)
	}
	return text
}

var runs atomic.Uint64

// newRun names a run as no other on this host is called.
func newRun() experiment.RunID {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	n := uint64(os.Getpid())<<16 ^ uint64(time.Now().UnixNano())<<8 + runs.Add(1)
	id := make([]byte, 6)
	for i := range id {
		id[i] = letters[n%32]
		n /= 32
	}
	return experiment.RunID(id)
}
