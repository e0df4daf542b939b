package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
)

// plain breaks one target by two steps.
const plain = `
  method:
    - {fault: {type: set, steps: 2}, target: {type: world, name: web-1}, for: 1s}
`

// tapes are the orders of events that everything else hangs on.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, spec string
		want       string
	}{
		{"plain", plain, `begin
phase before
guardian
observed
plan 1 web-1
announce 1: 1 2
phase during
applied 1
applied 2
verified 1 true
verified 2 true
injected 1
verified 1 true
verified 2 true
takeback 1 end
undone 2
undone 1
reverted 1
takeback 0 end
phase recovery
end`},
		{"one after the other", `
  method:
    - {name: a, fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
    - {name: b, fault: {type: set}, target: {type: world, name: db-1}, for: 1s}
`, `begin
phase before
guardian
observed
plan 1 web-1
announce 1: 1
phase during
applied 1
verified 1 true
injected 1
verified 1 true
takeback 1 end
undone 1
reverted 1
plan 2 db-1
announce 2: 2
applied 2
verified 2 true
injected 2
verified 2 true
takeback 2 end
undone 2
reverted 2
takeback 0 end
phase recovery
end`},
		{"several targets", `
  method:
    - {fault: {type: set}, target: {type: world, name: "*-1", mode: all}, for: 1s}
  seed: 1
`, `begin
phase before
guardian
observed
plan 1 web-1 db-1
announce 1: 1 2
phase during
applied 1
applied 2
verified 1 true
verified 2 true
injected 1
verified 1 true
verified 2 true
takeback 1 end
undone 1
undone 2
reverted 1
takeback 0 end
phase recovery
end`},
		{"nothing to take back", `
  method:
    - {fault: {type: set, noUndo: true, once: true, value: ok}, target: {type: world, name: web-1}, irreversible: true}
`, `begin
phase before
guardian
observed
plan 1 web-1
announce 1: 1
phase during
applied 1
verified 1 true
injected 1
verified 1 true
takeback 1 end
takeback 0 end
phase recovery
end`},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "db-1")
			l.system.set("web-1", "as ever")
			o := l.run(c.spec)
			must(t, o.err)
			same(t, "events", o.tape(), strings.Split(c.want, "\n"))
			o.verdict(t, experiment.Pass)
			o.tidy(t)
		})
	}
}

// TestWhen asks when actions begin and end.
func TestWhen(t *testing.T) {
	t.Parallel()
	kinds := []experiment.EventKind{experiment.EventInjected, experiment.EventTakeBack}
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"parallel, after and the next group", `
  method:
    - {name: a, fault: {type: set}, target: {type: world, name: web-1}, for: 100ms}
    - {name: b, fault: {type: set}, target: {type: world, name: web-2}, for: 100ms, after: 50ms, parallel: true}
    - {name: c, fault: {type: set}, target: {type: world, name: web-3}, for: 50ms, after: 10ms}
`, []string{"injected 1 @0s", "injected 2 @50ms", "takeback 1 end @100ms", "takeback 2 end @150ms", "injected 3 @160ms", "takeback 3 end @210ms", "takeback 0 end @210ms"}},
		{"two on one target, the second inside the first", `
  method:
    - {name: a, fault: {type: set, steps: 2}, target: {type: world, name: web-1}, for: 100ms}
    - {name: b, fault: {type: set}, target: {type: world, name: web-2}, for: 10ms, after: 20ms, parallel: true}
`, []string{"injected 1 @0s", "injected 2 @20ms", "takeback 2 end @30ms", "takeback 1 end @100ms", "takeback 0 end @100ms"}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			o := newLab(t, "web-1", "web-2", "web-3").run(c.spec)
			must(t, o.err)
			same(t, "events", o.at(kinds...), c.want)
			o.verdict(t, experiment.Pass)
			o.tidy(t)
		})
	}
}

func TestRepeat(t *testing.T) {
	t.Parallel()
	bubble(t, "each strike is planned anew", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(`
  method:
    - {fault: {type: set, every: 40ms, noUndo: true}, target: {type: world, name: web-1}, for: 100ms, irreversible: true}
`)
		must(t, o.err)
		same(t, "strikes", o.at(experiment.EventInjected, experiment.EventTakeBack),
			[]string{"injected 1 @0s", "injected 1 @40ms", "injected 1 @80ms", "takeback 1 end @100ms", "takeback 0 end @100ms"})
		var strikes []int
		for _, e := range o.find(experiment.EventPlan) {
			strikes = append(strikes, e.Plan.Strike)
		}
		same(t, "numbers of strikes", strikes, []int{0, 2, 3})
		o.verdict(t, experiment.Pass)
	})
	bubble(t, "killed and replaced do not count", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.on = append(l.on, func(e *experiment.Event) {
			if e.Kind == experiment.EventInjected {
				must(t, l.world.Replace("web-1"))
			}
		})
		o := l.run(`
  method:
    - {fault: {type: set, every: 40ms, noUndo: true}, target: {type: world, name: web-1}, for: 100ms, irreversible: true}
  blastRadius: {targets: 1}
`)
		must(t, o.err)
		same(t, "strikes", len(o.find(experiment.EventInjected)), 3)
		same(t, "changes", l.injected(), 3)
	})
	bubble(t, "killed and not replaced count", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.once("injected 1", func(*experiment.Event) {
			records, _ := l.world.Log()
			for _, name := range []string{"web-1", "web-2"} {
				if strings.Contains(records[0].Path, name) {
					must(t, l.world.Remove(name))
				}
			}
		})
		o := l.run(`
  method:
    - {fault: {type: set, every: 60ms, noUndo: true}, target: {type: world, name: "web-*"}, for: 100ms, irreversible: true}
  blastRadius: {targets: 1}
  recovery: {within: 1s}
`)
		must(t, o.err)
		same(t, "strikes", len(o.find(experiment.EventInjected)), 1)
		if w := o.find(experiment.EventWarning); len(w) == 0 || !strings.Contains(w[0].Message, "strike 2 was left out") {
			t.Errorf("warnings %v", w)
		}
		same(t, "gaps", o.find(experiment.EventGaps)[0].Gaps, []experiment.Gap{{Workload: "web", Before: 2, Now: 1}})
		o.verdict(t, experiment.Residue)
	})
	bubble(t, "never at the action's end or after it", func(t *testing.T) {
		for range 30 {
			l := newLab(t, "web-1")
			o := l.run(`
  method:
    - {fault: {type: set, every: 50ms, noUndo: true}, target: {type: world, name: web-1}, for: 100ms, irreversible: true}
`)
			if n := len(o.find(experiment.EventInjected)); n != 2 {
				t.Fatalf("%d strikes in 100ms, every 50ms, want 2", n)
			}
		}
	})
}

// TestGone lets targets leave between the plan and the change.
func TestGone(t *testing.T) {
	t.Parallel()
	bubble(t, "planned again, once", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.once("announce 1: 1", func(*experiment.Event) { must(t, l.world.Replace("web-1")) })
		o := l.run(`
  method:
    - {fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
`)
		must(t, o.err)
		same(t, "events", o.tape()[3:], []string{
			"plan 1 web-1", "announce 1: 1", "phase during", "applied 1 failed", "plan 1 web-1", "announce 1: 2",
			"applied 2", "verified 2 true", "injected 1", "verified 2 true", "takeback 1 end", "undone 1 gone", "undone 2", "reverted 1",
			"takeback 0 end", "phase recovery", "end",
		})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	for name, leave := range map[string]func(w experimenttest.World) error{
		"left twice":   func(w experimenttest.World) error { return w.Replace("web-1") },
		"none instead": func(w experimenttest.World) error { return w.Remove("web-1") },
	} {
		bubble(t, name, func(t *testing.T) {
			l := newLab(t, "web-1", "db-1")
			l.on = append(l.on, func(e *experiment.Event) {
				if e.Kind == experiment.EventAnnounce {
					must(t, leave(l.world))
				}
			})
			o := l.run(`
  method:
    - {fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
    - {name: never, fault: {type: set}, target: {type: world, name: db-1}, for: 1s}
  recovery: {within: 1s}
`)
			must(t, o.err)
			if !o.has("missed 1") || !o.has("takeback 0 not-injected") || l.injected() != 0 {
				t.Errorf("%d changes\n%s", l.injected(), strings.Join(o.tape(), "\n"))
			}
			if name == "left twice" {
				o.verdict(t, experiment.NotInjected)
				o.tidy(t)
			}
		})
	}
	bubble(t, "before it was planned anew", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		l.once("takeback 1 end", func(*experiment.Event) { must(t, l.world.Remove("db-1")) })
		o := l.run(`
  method:
    - {name: a, fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
    - {name: b, fault: {type: set}, target: {type: world, name: db-1}, for: 1s}
`)
		must(t, o.err)
		if !o.has("missed 2") {
			t.Errorf("not missed\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.NotInjected)
		o.tidy(t)
	})
}

// TestTrouble has ops that do not do as they should.
func TestTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, fault string
		on          string // at this event
		set         string // a setting becomes "theirs", or "ok" where it ends in =ok
		want        experiment.Verdict
		has         []string
		kept        bool // settings are not all "ok" in the end
	}{
		{name: "do fails", fault: "steps: 3, do: {fail: true}", want: experiment.Errored, has: []string{"applied 3 failed", "takeback 0 error", "undone 3", "undone 2", "undone 1", "reverted 1", "end failed"}},
		{name: "do takes too long", fault: "do: {slow: 1h}", want: experiment.Errored, has: []string{"applied 1 failed", "undone 1"}},
		{name: "do pretends", fault: "steps: 2, do: {pretend: true}", want: experiment.NotInjected, has: []string{"verified 1 true", "verified 2 false", "missed 1", "takeback 0 not-injected", "undone 1"}},
		{name: "not in force at the end", on: "injected 1", set: "web-1/1=ok", want: experiment.NotInjected, has: []string{"injected 1", "verified 1 false", "missed 1", "undone 1"}},
		{name: "undo fails at first", fault: "undo: {failFor: 3}", want: experiment.Pass, has: []string{"undofail 1", "undone 1", "reverted 1"}},
		{name: "undo is slow", fault: "undo: {slow: 4s}", want: experiment.Pass, has: []string{"undone 1", "reverted 1"}},
		{name: "superseded", on: "takeback 1 end", set: "web-1/1=theirs", want: experiment.Pass, has: []string{"undone 1 superseded", "reverted 1"}, kept: true},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1")
			if setting, value, ok := strings.Cut(c.set, "="); ok {
				l.once(c.on, func(*experiment.Event) { must(t, l.world.Set(setting, value)) })
			}
			o := l.run("\n  method:\n    - {fault: {type: set, " + c.fault + "}, target: {type: world, name: web-1}, for: 1s}\n")
			must(t, o.err)
			for _, want := range c.has {
				if !slices.Contains(o.tape(), want) {
					t.Errorf("no %q in\n%s", want, strings.Join(o.tape(), "\n"))
				}
			}
			o.verdict(t, c.want)
			if !c.kept {
				o.tidy(t)
			} else if l.world.Value("web-1/1") != "theirs" || len(o.result.Residue) > 0 || len(o.result.Superseded) != 1 {
				t.Errorf("it is %q now, residue %q, superseded %v", l.world.Value("web-1/1"), o.result.Residue, o.result.Superseded)
			}
		})
	}
}

// TestResidue cannot take back: it says so, and how to do it by hand, and
// leaves the journal to those who come after.
func TestResidue(t *testing.T) {
	t.Parallel()
	bubble(t, "an undo never works", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		o := l.run(`
  method:
    - {name: a, fault: {type: set, undo: {fail: true}}, target: {type: world, name: web-1}, for: 1s}
    - {name: never, fault: {type: set}, target: {type: world, name: db-1}, for: 1s}
`)
		if o.err != nil {
			t.Errorf("Run: %v", o.err)
		}
		o.verdict(t, experiment.Residue)
		same(t, "open", l.open(), []experiment.RunID{o.run})
		if n := len(o.result.Residue); n != 1 || !strings.Contains(o.result.Residue[0], "by hand") || o.has("announce 2") {
			t.Errorf("residue %q\n%s", o.result.Residue, strings.Join(o.tape(), "\n"))
		}
		if n := len(o.find(experiment.EventUndoFail)); n < 10 || n > 60 {
			t.Errorf("it was tried %d times in two minutes", n)
		}
		if err := l.engine.Rollback(context.Background(), o.run, experiment.CauseRunnerDied, false); err != nil {
			t.Errorf("Rollback: %v", err)
		}
		same(t, "still open", l.open(), []experiment.RunID{o.run})
	})
	bubble(t, "handles stay locked", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.run("\n  method:\n    - {fault: {type: set, undo: {fail: true}}, target: {type: world, name: web-1}, for: 1s}\n")
		if l.handles.count() == 0 {
			t.Error("another run may change what this run's undo will be applied to")
		}
	})
	bubble(t, "an undo pretends", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run("\n  method:\n    - {fault: {type: set, undo: {pretend: true}}, target: {type: world, name: web-1}, for: 1s}\n")
		o.verdict(t, experiment.Residue)
		if len(o.result.Residue) != 1 || !strings.Contains(o.result.Residue[0], "still in force") {
			t.Errorf("residue %q", o.result.Residue)
		}
	})
	bubble(t, "an undo that pretends is not done", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run("\n  method:\n    - {fault: {type: set, undo: {pretend: true}}, target: {type: world, name: web-1}, for: 1s}\n")
		same(t, "open", l.open(), []experiment.RunID{o.run})
	})
	bubble(t, "leftovers", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.system.left = []string{"cgroup simian-xyz; by hand: rmdir it"}
		o := l.run(plain)
		o.verdict(t, experiment.Residue)
		same(t, "residue", o.result.Residue, l.system.left)
	})
	bubble(t, "a deaf undo comes late", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run("\n  method:\n    - {fault: {type: set, undo: {slow: 6s, deaf: true}}, target: {type: world, name: web-1}, for: 1s}\n")
		o.verdict(t, experiment.Pass)
		same(t, "undos begun", l.world.Count("reset", experimenttest.Begun), 1)
		o.tidy(t)
	})
}

func TestDrift(t *testing.T) {
	t.Parallel()
	bubble(t, "drift", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.system.set("web-1", "a", "b", "b")
		l.once("injected 1", func(*experiment.Event) { l.system.set("web-1", "b", "c") })
		o := l.run(plain)
		must(t, o.err)
		same(t, "drift", o.result.Drift, []experiment.Drift{{Object: "state:web-1", Gone: []string{"a", "b"}, New: []string{"c"}}})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "not of a target that was replaced", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.system.set("web-1", "a")
		l.once("takeback 1 end", func(*experiment.Event) {
			l.system.set("web-1", "z")
			must(t, l.world.Replace("web-1"))
		})
		o := l.run(plain)
		must(t, o.err)
		same(t, "drift", len(o.result.Drift), 0)
		o.tidy(t)
	})
}

// TestBusy is refused a handle: nothing of the action is changed.
func TestBusy(t *testing.T) {
	t.Parallel()
	bubble(t, "the second target's", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.handles.busy = []string{"web-2"}
		o := l.run("\n  method:\n    - {fault: {type: set}, target: {type: world, name: \"web-*\", mode: all}, for: 1s}\n")
		if l.injected() != 0 || o.has("announce") || o.has("applied") {
			t.Errorf("%d changes\n%s", l.injected(), strings.Join(o.tape(), "\n"))
		}
		if !strings.Contains(o.result.Error, "held by run zzzzzz") {
			t.Errorf("error %q does not say who", o.result.Error)
		}
		o.verdict(t, experiment.Errored)
		o.tidy(t)
	})
	bubble(t, "the second action's", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		l.handles.busy = []string{"db-1"}
		o := l.run(`
  method:
    - {name: a, fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
    - {name: b, fault: {type: set}, target: {type: world, name: db-1}, for: 1s, parallel: true, after: 100ms}
`)
		same(t, "changes", l.injected(), 1)
		if !o.has("takeback 1") || o.has("announce 2") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Errored)
		o.tidy(t)
	})
}

// TestRefused asks for what cannot be borne: nothing is touched or written.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, spec, want string }{
		{"no such target", "{fault: {type: set}, target: {type: world, name: none}, for: 1s}", "no target matches"},
		{"a selector fails", "{fault: {type: set}, target: {type: world, fail: broken pipe}, for: 1s}", "broken pipe"},
		{"a fault cannot be planned", "{fault: {type: set, refuse: no way}, target: {type: world, name: web-1}, for: 1s}", "plan set of web-1: no way"},
		{"protected", "{fault: {type: set}, target: {type: world, name: db-1}, for: 1s}", "protected"},
		{"irreversible", "{fault: {type: set, noUndo: true}, target: {type: world, name: web-1}, for: 1s}", "irreversible: true"},
		{"the second action", "{name: a, fault: {type: set}, target: {type: world, name: web-1}, for: 1s}\n    - {name: b, fault: {type: set}, target: {type: world, name: none}, for: 1s}", "no target matches"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "db-1")
			l.system.refuse["db-1"] = fmt.Errorf("pid 1 is the host's init: %w", experiment.ErrProtected)
			o := l.run("\n  method:\n    - " + c.spec + "\n")
			var action *engine.ActionError
			if o.run != "" || !errors.As(o.err, &action) || !strings.Contains(o.err.Error(), c.want) {
				t.Errorf("run %q, error %v, want %q", o.run, o.err, c.want)
			}
			o.tidy(t)
			if done, _ := l.store.Done(t.Context()); len(done) > 0 || l.injected() > 0 || len(l.guardian.armed) > 0 {
				t.Errorf("journals %v, %d changes, %d guardians", done, l.injected(), len(l.guardian.armed))
			}
		})
	}
	bubble(t, "the guardian cannot be armed", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.guardian.refuse = errors.New("no more processes")
		o := l.run(plain)
		same(t, "changes", l.injected(), 0)
		if !strings.Contains(o.result.Error, "nothing was injected: no more processes") {
			t.Errorf("error %q", o.result.Error)
		}
		o.verdict(t, experiment.Errored)
		o.tidy(t)
	})
	bubble(t, "the host cannot be told", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.system.fails = errors.New("no machine id")
		run, err := l.engine.Run(t.Context(), l.load(plain))
		if done, _ := l.store.Done(t.Context()); run != "" || err == nil || len(done) > 0 {
			t.Errorf("run %q, error %v, done %v", run, err, done)
		}
	})
}

// TestWorkloads waits until each has as many running targets as before.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	const spec = `
  method:
    - {fault: {type: set, noUndo: true, once: true}, target: {type: world, name: "web-*"}, irreversible: true, for: 100ms}
  seed: 4
  recovery: {within: 10s}
`
	bubble(t, "one comes back", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.once("injected 1", func(*experiment.Event) { must(t, l.world.Remove("web-1")) })
		go func() {
			time.Sleep(5 * time.Second)
			if err := l.world.Add("web-3"); err != nil {
				t.Error(err)
			}
		}()
		o := l.run(spec)
		must(t, o.err)
		if o.has("gaps") {
			t.Errorf("gaps: %v", o.find(experiment.EventGaps))
		}
	})
	bubble(t, "none comes back", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.once("injected 1", func(*experiment.Event) { must(t, l.world.Remove("web-1")) })
		o := l.run(spec)
		must(t, o.err)
		same(t, "gaps", o.find(experiment.EventGaps)[0].Gaps, []experiment.Gap{{Workload: "web", Before: 2, Now: 1}})
		o.verdict(t, experiment.Residue)
	})
	bubble(t, "no later than the guardian's deadline", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.once("injected 1", func(*experiment.Event) { must(t, l.world.Remove("web-1")) })
		o := l.run(`
  hypothesis: {every: 1s, checks: [{name: c, probe: {type: script, values: [1, 1, 1, 0]}, min: 1}]}
  method:
    - {fault: {type: set, noUndo: true, once: true}, target: {type: world, name: "web-*"}, irreversible: true, for: 2s}
  recovery: {within: 60s}
`)
		if end := o.find(experiment.EventEnd)[0]; end.Boot > l.guardian.armed[0].deadline {
			t.Errorf("it ends %s after the guardian's deadline", end.Boot.Sub(l.guardian.armed[0].deadline))
		}
	})
}

// TestGuardianDies takes everything back at once.
func TestGuardianDies(t *testing.T) {
	t.Parallel()
	bubble(t, "while the fault is on", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.once("injected 1", func(*experiment.Event) { l.guardian.die() })
		o := l.run(strings.Replace(plain, "1s", "1h", 1))
		must(t, o.err)
		same(t, "events", o.at(experiment.EventTakeBack), []string{"takeback 1 guardian @0s", "takeback 0 guardian @0s"})
		o.verdict(t, experiment.Aborted)
		o.tidy(t)
	})
}

// checked is a run with all phases.
const checked = `
  hypothesis: {every: 100ms, checks: [{name: c, probe: {type: script, values: [1]}, min: 1}]}
  steady: {for: 300ms}
  method:
    - {name: a, fault: {type: set, steps: 2}, target: {type: world, name: web-1}, for: 500ms}
    - {name: b, fault: {type: set}, target: {type: world, name: db-1}, for: 500ms, after: 100ms}
`

// TestInterrupted cancels the run at each of its events.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		whole := newLab(t, "web-1", "db-1").run(checked)
		must(t, whole.err)
		whole.verdict(t, experiment.Pass)
		events := len(whole.events)
		if events < 30 {
			t.Fatalf("%d events only", events)
		}
		for n := 1; n < events; n++ {
			interruptAt(t, checked, n)
		}
		for n := range newLab(t, "web-1").run(attended).events[1:] {
			interruptAt(t, attended, n+1)
		}
	})
}

func interruptAt(t *testing.T, spec string, n int) {
	t.Helper()
	l := newLab(t, "web-1", "db-1")
	ctx, cancel := context.WithCancelCause(context.Background())
	seen, recovering := 0, false
	l.on = append(l.on, func(e *experiment.Event) {
		if seen++; seen == n {
			cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGINT"})
		} else if seen < n {
			recovering = recovering || line(e) == "takeback 0 end"
		}
		if e.Kind == experiment.EventApplied && seen > n+1 {
			t.Errorf("interrupted at event %d: step %d is applied at event %d", n, e.Step, seen)
		}
	})
	o := l.runIn(ctx, spec)
	must(t, o.err)
	o.tidy(t)
	switch last := o.tape(); {
	case recovering || slices.Contains(last, "takeback 0 end"):
		// the method was over: TestInterruptedRecovery
	case !slices.Contains(last, "takeback 0 interrupted"):
		t.Errorf("interrupted at event %d:\n%s", n, strings.Join(last, "\n"))
	default:
		o.verdict(t, experiment.Aborted)
	}
}

func TestInterruptedRecovery(t *testing.T) {
	t.Parallel()
	bubble(t, "recovery", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		ctx, cancel := context.WithCancelCause(context.Background())
		l.once("phase recovery", func(*experiment.Event) {
			cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGINT"})
		})
		o := l.runIn(ctx, checked)
		must(t, o.err)
		o.verdict(t, experiment.Aborted)
		same(t, "cause", o.result.Cause, experiment.CauseInterrupted)
		o.tidy(t)
	})
}
