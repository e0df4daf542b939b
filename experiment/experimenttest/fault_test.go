package experimenttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simianhq/simian/experiment"
)

// brokenFault plans as SetFault does, and spoils the plan.
type brokenFault struct {
	SetFault
	spoil func(n int, t experiment.Target, steps []experiment.Step) ([]experiment.Step, error)
	plans int
}

func (f *brokenFault) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	steps, err := f.SetFault.Plan(ctx, run, t)
	if err != nil {
		return nil, err
	}
	f.plans++
	return f.spoil(f.plans, t, steps)
}

// brokenOp is a SetOp with a flaw.
type brokenOp struct {
	SetOp
	Flaw   string `json:"flaw"`
	hidden int
}

func (o *brokenOp) String() string {
	switch o.Flaw {
	case "two lines":
		return "a\nb"
	case "says nothing":
		return " "
	}
	return o.SetOp.String()
}

func (o *brokenOp) Handles() []string {
	switch o.Flaw {
	case "no handles":
		return nil
	case "bare handle":
		return []string{"web"}
	}
	return o.SetOp.Handles()
}

func (o *brokenOp) Apply(ctx context.Context) error {
	present, err := o.present()
	switch {
	case o.Flaw == "does not look":
		return os.WriteFile(o.Path, []byte(o.Wrote), 0o600)
	case err == nil && o.Flaw == "adds up":
		return os.WriteFile(o.Path, []byte(present+"+"), 0o600)
	case err == nil && o.Flaw == "fails twice" && present == o.Wrote:
		return errors.New("it is so already")
	}
	return o.SetOp.Apply(ctx)
}

func (o *brokenOp) Verify(ctx context.Context) (experiment.Evidence, error) {
	e, err := o.SetOp.Verify(ctx)
	switch o.Flaw {
	case "always in force":
		e.InForce = true
	case "never in force":
		e.InForce = false
	}
	return e, err
}

// brokenUndo is a ResetOp with a flaw.
type brokenUndo struct {
	ResetOp
	Flaw string `json:"flaw"`
}

func (o *brokenUndo) Handles() []string {
	if o.Flaw == "other handle" {
		return []string{"setting:0:/etc/passwd"}
	}
	return o.ResetOp.Handles()
}

func (o *brokenUndo) Apply(ctx context.Context) error {
	present, err := o.present()
	switch {
	case err == nil && o.Flaw == "undoes nothing":
		return nil
	case err == nil && o.Flaw == "undoes too much":
		return os.WriteFile(o.Path, []byte("default"), 0o600)
	case err == nil && o.Flaw == "fails when undone" && present == o.Read:
		return errors.New("nothing to undo")
	case err == nil && o.Flaw == "toggles":
		value := o.Read
		if present == o.Read {
			value = o.Wrote
		}
		return os.WriteFile(o.Path, []byte(value), 0o600)
	case err != nil && o.Flaw == "needs it":
		return errors.New("no such file")
	}
	return o.ResetOp.Apply(ctx)
}

func (o *brokenUndo) Verify(ctx context.Context) (experiment.Evidence, error) {
	e, err := o.ResetOp.Verify(ctx)
	if o.Flaw == "undo never in force" {
		e.InForce = false
	}
	return e, err
}

func (f *brokenFault) cannotUndo() bool { return f.NoUndo }

func TestFaultCatches(t *testing.T) {
	t.Parallel()
	flaw := func(name string) func(int, experiment.Target, []experiment.Step) ([]experiment.Step, error) {
		return func(_ int, _ experiment.Target, steps []experiment.Step) ([]experiment.Step, error) {
			do, undo := *steps[0].Do.(*SetOp), *steps[0].Undo.(*ResetOp)
			return []experiment.Step{{Do: &brokenOp{SetOp: do, Flaw: name}, Undo: &brokenUndo{ResetOp: undo, Flaw: name}}}, nil
		}
	}
	type spoil = func(int, experiment.Target, []experiment.Step) ([]experiment.Step, error)
	for name, c := range map[string]struct {
		spoil spoil
		want  string
	}{
		"nothing wrong": {flaw(""), ""},
		"plans nothing": {func(int, experiment.Target, []experiment.Step) ([]experiment.Step, error) { return nil, nil }, "no steps"},
		"plans otherwise": {func(n int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			s[0].Do.(*SetOp).Log += fmt.Sprint(n)
			return s, nil
		}, "planned twice: an op is not the same"},
		"plans and does": {func(_ int, t experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			return s, os.WriteFile(t.Root+"/2", []byte("planned"), 0o600)
		}, "after Plan the world is not as it was"},
		"cannot plan": {func(int, experiment.Target, []experiment.Step) ([]experiment.Step, error) {
			return nil, experiment.ErrBusy
		}, "Plan: busy"},
		"no undo": {func(_ int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			s[0].Undo = nil
			return s, nil
		}, "has no undo"},
		"no do": {func(_ int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			return []experiment.Step{{Undo: s[0].Undo}}, nil
		}, "has no Do"},
		"hides state": {func(_ int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			return []experiment.Step{{Do: &brokenOp{SetOp: *s[0].Do.(*SetOp), hidden: 7}, Undo: s[0].Undo}}, nil
		}, "read from the journal: an op is not the same"},
		"unknown op": {func(_ int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			return []experiment.Step{{Do: &strangeOp{*s[0].Do.(*SetOp)}, Undo: s[0].Undo}}, nil
		}, "cannot be written to the journal"},
		"does nothing": {func(_ int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			s[0].Do.(*SetOp).Pretend = true
			return s, nil
		}, "the world is as before"},
		"fails": {func(_ int, _ experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			s[0].Do.(*SetOp).Fail = true
			return s, nil
		}, "told to fail"},
		"second step alone": {func(_ int, t experiment.Target, s []experiment.Step) ([]experiment.Step, error) {
			undo := *s[1].Undo.(*ResetOp)
			undo.Read, undo.Wrote = "broken", "ok" // right only after the second do
			return []experiment.Step{s[0], {Do: s[1].Do, Undo: &undo}}, nil
		}, "the world is not as it was"},
		"two lines":           {flaw("two lines"), "not one line"},
		"says nothing":        {flaw("says nothing"), "not one line"},
		"no handles":          {flaw("no handles"), "does not name the handles"},
		"bare handle":         {flaw("bare handle"), "not KIND:OBJECT"},
		"other handle":        {flaw("other handle"), "which no step has locked"},
		"does not look":       {flaw("does not look"), "not ErrGone"},
		"adds up":             {flaw("adds up"), "after it is done twice"},
		"fails twice":         {flaw("fails twice"), "the second time: it is so already"},
		"always in force":     {flaw("always in force"), "before it is done: Verify"},
		"never in force":      {flaw("never in force"), "after it is done: Verify"},
		"undoes nothing":      {flaw("undoes nothing"), "after do and undo the world is not as it was"},
		"undoes too much":     {flaw("undoes too much"), "after undo without do the world is not as it was"},
		"fails when undone":   {flaw("fails when undone"), "the second undo"},
		"toggles":             {flaw("toggles"), "after do, undo and undo the world is not as it was"},
		"needs it":            {flaw("needs it"), "undo of what is gone"},
		"undo never in force": {flaw("undo never in force"), "after it is taken back: Verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := NewWorld(t)
			f := &brokenFault{SetFault: SetFault{World: w, Steps: 1}, spoil: c.spoil}
			if name == "second step alone" {
				f.Steps = 2
			}
			fc := worldCase(w, f)
			fc.Ops["broken"] = func() experiment.Op { return &brokenOp{} }
			fc.Ops["broken undo"] = func() experiment.Op { return &brokenUndo{} }
			expect(t, failures(t, func(t testing.TB) { Fault(t, fc) }), c.want)
		})
	}
}

// TestFollowIsAsked has ops follow as they should not.
func TestFollowIsAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		follow Attend
		want   string
	}{
		"as it should":      {Attend{}, ""},
		"ends by itself":    {Attend{Takes: 1}, ""},
		"fails":             {Attend{Fail: "no such name"}, "Follow gives no such name"},
		"deaf, for a while": {Attend{Deaf: true, Takes: experiment.Duration(patience / 2)}, ""},
		"deaf":              {Attend{Deaf: true, Takes: experiment.Duration(time.Hour)}, "Follow does not end within 10s of its context"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				fc := worldCase(NewWorld(t), &SetFault{Follow: &c.follow})
				expect(t, failures(t, func(t testing.TB) { Fault(t, fc) }), c.want)
				time.Sleep(time.Hour)
			})
		})
	}
}

// TestAttend measures, and names the far ends, as the fields say.
func TestAttend(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, "web", "db")
	text := "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: a}\nspec:\n  method:\n" +
		"    - {fault: {type: set, during: {takes: 1ms}, to: {type: world, name: db}}, target: {type: world, name: web}, for: 1s}\n"
	x, err := w.Loader().Load("a.yaml", []byte(text), nil)
	must(t, err)
	f := x.Spec.Method[0].Fault.(*SetFault)
	if far := f.Beyond(); len(far) != 1 || far[0].Selector.(*Find).Name != "db" || far[0].Selector.(*Find).World != w {
		t.Errorf("the far ends are %v", far)
	}
	target, err := w.Target("web")
	must(t, err)
	before, err := f.Measure(t.Context(), target, experiment.PhaseBefore)
	must(t, err)
	during, err := f.Measure(t.Context(), target, experiment.PhaseDuring)
	must(t, err)
	if before != nil || during.What != "settings of web" || w.Count("measure during", Ended) != 1 {
		t.Errorf("it measured %v, %v", before, during)
	}
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("the suite says\n%s\nwant %q", got, want)
	}
}

type strangeOp struct{ SetOp }

func TestNoUndoIsAsserted(t *testing.T) {
	t.Parallel()
	w := NewWorld(t)
	c := worldCase(w, &SetFault{})
	c.NoUndo = true
	expect(t, failures(t, func(t testing.TB) { Fault(t, c) }), "but the case says that there is none")
}
