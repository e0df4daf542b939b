package experimenttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/simianhq/simian/experiment"
)

type brokenSelector struct {
	Find
	n    int
	flaw func(n int, targets []experiment.Target) ([]experiment.Target, error)
}

func (s *brokenSelector) Select(ctx context.Context) ([]experiment.Target, error) {
	targets, err := s.Find.Select(ctx)
	if err != nil {
		targets = nil
	}
	s.n++
	return s.flaw(s.n, targets)
}

func TestSelectorCatches(t *testing.T) {
	t.Parallel()
	type flaw = func(int, []experiment.Target) ([]experiment.Target, error)
	change := func(fn func(t *experiment.Target)) flaw {
		return func(_ int, targets []experiment.Target) ([]experiment.Target, error) {
			for i := range targets {
				fn(&targets[i])
			}
			return targets, nil
		}
	}
	for name, c := range map[string]struct {
		flaw flaw
		want string
	}{
		"unsteady": {func(n int, targets []experiment.Target) ([]experiment.Target, error) {
			if n%2 == 0 {
				slices.Reverse(targets)
			}
			return targets, nil
		}, "it found"},
		"finds too few":    {func(_ int, l []experiment.Target) ([]experiment.Target, error) { return l[:1], nil }, "want"},
		"silent on none":   {change(func(*experiment.Target) {}), "not ErrNoMatch"},
		"one ID for all":   {change(func(t *experiment.Target) { t.ID = "x" }), "two targets have the ID"},
		"no name":          {change(func(t *experiment.Target) { t.Name = "" }), "the name of a target"},
		"no handle":        {change(func(t *experiment.Target) { t.Root = "" }), "no handle at all"},
		"a dead process":   {change(func(t *experiment.Target) { t.PIDs = []experiment.ProcessID{{PID: 1 << 30, Start: 1}} }), "not alive"},
		"a reused pid":     {change(func(t *experiment.Target) { t.PIDs = []experiment.ProcessID{{PID: os.Getpid(), Start: 1}} }), "another one"},
		"half a namespace": {change(func(t *experiment.Target) { t.Net.Inode = 7 }), "half of its net namespace"},
		"half a cgroup":    {change(func(t *experiment.Target) { t.Cgroup.V2.Path = "/a" }), "not whole"},
		"half a runtime":   {change(func(t *experiment.Target) { t.Runtime = &experiment.RuntimeRef{ID: "a"} }), "a part of its runtime"},
		"fails":            {func(int, []experiment.Target) ([]experiment.Target, error) { return nil, experiment.ErrBusy }, "Select: busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := NewWorld(t, "a", "b")
			broken := func(pattern string) experiment.Selector {
				return &brokenSelector{Find: Find{World: w, Name: pattern}, flaw: c.flaw}
			}
			if name == "finds too few" {
				expect(t, failures(t, func(t testing.TB) {
					Selector(t, SelectorCase{Selector: broken("*"), Want: []string{"a", "b"}, Targets: w.Targets()})
				}), c.want)
				return
			}
			targets := w.Targets()
			targets["broken"] = func() experiment.Selector { return broken("*") }
			expect(t, failures(t, func(t testing.TB) {
				Selector(t, SelectorCase{Selector: broken("*"), Want: nil, None: broken("none"), Targets: targets})
			}), c.want)
		})
	}
}

type probeFunc func(ctx context.Context) (float64, error)

func (f probeFunc) Measure(ctx context.Context) (float64, error) { return f(ctx) }

type oddUnit struct{ probeFunc }

func (oddUnit) Unit() string { return "parsec" }

func TestProbeCatches(t *testing.T) {
	t.Parallel()
	heedless := probeFunc(func(context.Context) (float64, error) { return 1, nil })
	stuck := probeFunc(func(context.Context) (float64, error) { select {} })
	broken := probeFunc(func(context.Context) (float64, error) { return 0, errors.New("refused") })
	good := &Script{Values: []float64{1}}
	for name, c := range map[string]struct {
		probe ProbeCase
		want  string
	}{
		"heedless":       {ProbeCase{Probe: heedless}, "gives no error"},
		"stuck":          {ProbeCase{Probe: good, Blocked: stuck}, "does not end"},
		"cannot measure": {ProbeCase{Probe: broken}, "it measures 0, refused"},
		"measures gone":  {ProbeCase{Probe: good, Gone: heedless}, "is gone, and it measures 1"},
		"odd unit":       {ProbeCase{Probe: oddUnit{heedless}}, "none that reports know"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expect(t, failures(t, func(t testing.TB) { Probe(t, c.probe) }), c.want)
		})
	}
}

type brokenInspector struct {
	Broken
	n    int
	flaw string
}

func (b *brokenInspector) Inspect(ctx context.Context, t experiment.Target) ([]experiment.Finding, error) {
	b.n++
	found, err := b.Broken.Inspect(ctx, t)
	switch {
	case b.flaw == "blind":
		return nil, err
	case b.flaw == "sees ghosts" && len(found) == 0:
		return []experiment.Finding{{Rule: "ghost", Message: "boo"}}, err
	case b.flaw == "meddles":
		return found, b.World.Set(t.Name+"/3", fmt.Sprint(b.n))
	}
	for i := range found {
		switch b.flaw {
		case "no rule":
			found[i].Rule = ""
		case "never content":
			found[i].Mend[0].Do.(*SetOp).Pretend = true
		case "unsteady":
			found[i].Message += fmt.Sprint(b.n)
		}
	}
	return found, err
}

func TestInspectorCatches(t *testing.T) {
	t.Parallel()
	for flaw, want := range map[string]string{
		"blind": "finds nothing", "sees ghosts": "nothing is wrong, and it finds", "meddles": "after Inspect the world",
		"no rule": "the rule of a finding", "never content": "it is mended, and found again", "unsteady": "then",
	} {
		t.Run(flaw, func(t *testing.T) {
			t.Parallel()
			w := NewWorld(t)
			expect(t, failures(t, func(t testing.TB) {
				Inspector(t, InspectorCase{
					Inspector: &brokenInspector{Broken: Broken{w}, flaw: flaw}, Ops: w.Ops(),
					Snapshot: func(experiment.Target) string { return w.Snapshot() },
					Wrong:    func(t testing.TB) experiment.Target { return add(t, w, "wrong", "broken") },
					Right:    func(t testing.TB) experiment.Target { return add(t, w, "right", "ok") },
				})
			}), want)
		})
	}
}
