package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
)

// attended is a fault that measures and is followed.
const attended = `
  method:
    - {fault: {type: set, before: {takes: 20ms}, during: {}, follow: {}}, target: {type: world, name: web-1}, for: 1s}
`

// done tells what the world's log says, in few words.
func (l *lab) did() []string {
	var lines []string
	for _, r := range must2(l.world.Log()) {
		lines = append(lines, r.Op+" "+string(r.Did))
	}
	return lines
}

// warned returns the messages of the warnings.
func (o *outcome) warned() []string {
	var all []string
	for _, e := range o.find(experiment.EventWarning) {
		all = append(all, e.Message)
	}
	return all
}

// measured returns what was measured in a phase.
func (o *outcome) measured(p experiment.Phase) []experiment.Measurement {
	var all []experiment.Measurement
	for _, e := range o.find(experiment.EventMeasured) {
		if e.Measured.Phase == p {
			all = append(all, *e.Measured)
		}
	}
	return all
}

// TestAttendedOrder: it measures before it is announced, and nothing goes on
// once it is taken back.
func TestAttendedOrder(t *testing.T) {
	t.Parallel()
	bubble(t, "to its end", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(attended)
		must(t, o.err)
		same(t, "events", o.tape(), []string{
			"begin", "phase before", "guardian", "measured 1 before", "plan 1 web-1", "announce 1: 1", "phase during", "applied 1", "verified 1 true",
			"injected 1", "measured 1 during", "verified 1 true", "takeback 1 end", "undone 1", "reverted 1", "takeback 0 end", "phase recovery", "end",
		})
		did := l.did()
		same(t, "first", did[:4], []string{"measure before begun", "measure before ended", "set begun", "set wrote"})
		same(t, "last", did[8:], []string{"reset begun", "reset wrote"})
		between := slices.Sorted(slices.Values(did[4:8]))
		same(t, "between", between, []string{"follow begun", "follow ended", "measure during begun", "measure during ended"})
		target := o.find(experiment.EventPlan)[0].Plan.Targets[0].ID
		same(t, "before", o.measured(experiment.PhaseBefore), []experiment.Measurement{{Target: target, Phase: "before", What: "settings of web-1", Sent: 1, Max: 0.02}})
		same(t, "during", o.measured(experiment.PhaseDuring), []experiment.Measurement{{Target: target, Phase: "during", What: "settings of web-1", Sent: 1, Max: 1}})
		same(t, "in the result", len(o.result.Faults[0].Measured), 2)
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "one that does not measure costs no time", func(t *testing.T) {
		o := newLab(t, "web-1").run(plain)
		must(t, o.err)
		guardian, announced := o.find(experiment.EventGuardian)[0], o.find(experiment.EventAnnounce)[0]
		if took := announced.Boot.Sub(guardian.Boot); took != 0 || o.has("measured") {
			t.Errorf("it took %s\n%s", took, strings.Join(o.tape(), "\n"))
		}
	})
	bubble(t, "eight targets at the most", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2", "web-3", "web-4", "web-5", "web-6", "web-7", "web-8", "web-9")
		o := l.run(strings.NewReplacer("web-1", `"*", mode: all`, "takes: 20ms", "takes: 20ms").Replace(attended))
		must(t, o.err)
		same(t, "before", len(o.measured(experiment.PhaseBefore)), 8)
		same(t, "during", len(o.measured(experiment.PhaseDuring)), 8)
		same(t, "followed", l.world.Count("follow", experimenttest.Ended), 9)
		if took := o.find(experiment.EventAnnounce)[0].Boot.Sub(o.find(experiment.EventGuardian)[0].Boot); took != 20*time.Millisecond {
			t.Errorf("they were measured one after the other: %s", took)
		}
		o.tidy(t)
	})
	bubble(t, "struck again and again it is measured once", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(`
  method:
    - {fault: {type: set, before: {}, during: {}, follow: {}, every: 100ms, noUndo: true}, target: {type: world, name: web-1}, for: 350ms, irreversible: true}
`)
		must(t, o.err)
		same(t, "strikes", len(o.find(experiment.EventInjected)), 4)
		same(t, "measured", len(o.find(experiment.EventMeasured)), 2)
		same(t, "ended", l.world.Count("follow", experimenttest.Ended), 4)
	})
	bubble(t, "not those that left before the change", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		l.once("announce 1: 1 2", func(*experiment.Event) { must(t, l.world.Replace("web-1")) })
		o := l.run(strings.Replace(attended, "name: web-1", `name: "*-1", mode: all`, 1) + "  seed: 1\n")
		must(t, o.err)
		same(t, "measured before", len(o.measured(experiment.PhaseBefore)), 2)
		same(t, "measured during", len(o.measured(experiment.PhaseDuring)), 2)
		same(t, "followed", l.world.Count("follow", experimenttest.Begun), 2)
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
}

// TestAttendedTrouble has what measures and follows not do as it should: the
// fault is injected and taken back all the same.
func TestAttendedTrouble(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name, fault   string
		first, last   time.Duration // until it is announced; from its end until it is taken back
		before, after string        // What was measured
		warning       string
	}{
		{name: "measuring fails", fault: "before: {takes: 1ms, fail: no route}, during: {fail: refused}", first: ms, before: "not measured: no route", after: "not measured: refused"},
		{name: "measuring takes too long before", fault: "before: {takes: 1h}, during: {takes: 1h}", first: 100 * ms, before: "settings of web-1", after: "settings of web-1"},
		{name: "and is deaf", fault: "before: {takes: 1h, deaf: true}", first: 150 * ms, warning: "what follows or measures it did not end within 50ms, and was left to itself"},
		{name: "measuring ends by itself", fault: "during: {takes: 10ms}", after: "settings of web-1"},
		{name: "deaf during", fault: "during: {takes: 1h, deaf: true}", last: 2 * time.Second, warning: "what follows or measures it did not end within 2s, and was left to itself"},
		{name: "a little deaf during", fault: "during: {takes: 1500ms, deaf: true}", last: 500 * ms, after: "settings of web-1"},
		{name: "a deaf follower", fault: "follow: {takes: 1h, deaf: true}", last: 2 * time.Second, warning: "did not end within 2s"},
		{name: "following fails", fault: "follow: {takes: 300ms, fail: no such name}", warning: `to "broken": its names are no longer followed: no such name`},
		{name: "following fails as it ends", fault: "follow: {fail: canceled}"},
		{name: "following ends by itself", fault: "follow: {takes: 300ms}"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1")
			o := l.run("\n  method:\n    - {fault: {type: set, " + c.fault + "}, target: {type: world, name: web-1}, for: 1s}\n")
			must(t, o.err)
			first := o.find(experiment.EventAnnounce)[0].Boot.Sub(o.find(experiment.EventGuardian)[0].Boot)
			last := o.find(experiment.EventTakeBack)[0].Boot.Sub(o.find(experiment.EventInjected)[0].Boot) - time.Second
			same(t, "until it is announced", first, c.first)
			same(t, "until it is taken back", last, c.last)
			for phase, want := range map[experiment.Phase]string{experiment.PhaseBefore: c.before, experiment.PhaseDuring: c.after} {
				got := ""
				for _, m := range o.measured(phase) {
					got += m.What
				}
				same(t, string(phase), got, want)
			}
			if w := o.warned(); len(w) > 1 || (len(w) == 1) != (c.warning != "") || !strings.Contains(strings.Join(w, ""), c.warning) {
				t.Errorf("warnings %q, want %q", w, c.warning)
			}
			o.verdict(t, experiment.Pass)
			o.tidy(t)
			time.Sleep(2 * time.Hour) // what was left to itself ends, and is not heard of
			same(t, "events", len(l.read(o.run).events), len(o.events))
		})
	}
	bubble(t, "the fault cannot be applied", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(strings.Replace(attended, "type: set", "type: set, do: {fail: true}", 1))
		must(t, o.err)
		same(t, "followed", l.world.Count("follow", experimenttest.Begun), 0)
		same(t, "measured", len(o.measured(experiment.PhaseDuring)), 0)
		o.verdict(t, experiment.Errored)
		o.tidy(t)
	})
}

// TestAttendedCutShort ends actions early while they are attended.
func TestAttendedCutShort(t *testing.T) {
	t.Parallel()
	// In this order, whatever else there is.
	inOrder := func(t *testing.T, lines []string, want ...string) {
		t.Helper()
		at := -1
		for _, w := range want {
			next := slices.Index(lines, w)
			if next <= at {
				t.Fatalf("%q is not where it belongs in\n%s", w, strings.Join(lines, "\n"))
			}
			at = next
		}
	}
	bubble(t, "interrupted", func(t *testing.T) {
		l := newLab(t, "web-1")
		ctx, cancel := context.WithCancelCause(context.Background())
		l.after("injected 1", 300*time.Millisecond, func() {
			cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGINT"})
		})
		o := l.runIn(ctx, attended)
		must(t, o.err)
		inOrder(t, o.tape(), "injected 1", "measured 1 during", "takeback 1 interrupted", "undone 1", "takeback 0 interrupted", "end")
		inOrder(t, l.did(), "follow begun", "follow ended", "reset begun")
		same(t, "measured for", o.measured(experiment.PhaseDuring)[0].Max, 0.3)
		o.verdict(t, experiment.Aborted)
		o.tidy(t)
	})
	bubble(t, "interrupted while it measures before", func(t *testing.T) {
		l := newLab(t, "web-1")
		ctx, cancel := context.WithCancelCause(context.Background())
		l.after("guardian", 10*time.Millisecond, func() {
			cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGINT"})
		})
		o := l.runIn(ctx, attended)
		must(t, o.err)
		if o.has("announce") || o.has("plan") || l.injected() > 0 || !o.has("takeback 0 interrupted") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Aborted)
		o.tidy(t)
	})
	bubble(t, "abort.after", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(strings.Replace(script("1, 1, 1, 0, 0, 1", "  abort: {after: 2}\n"), "type: set", "type: set, during: {}, follow: {}", 1))
		must(t, o.err)
		inOrder(t, o.tape(), "injected 1", "measured 1 during", "takeback 1 abort-after", "undone 1")
		inOrder(t, l.did(), "follow begun", "follow ended", "reset begun")
		o.verdict(t, experiment.Fail)
		o.tidy(t)
	})
	bubble(t, "the guardian dies", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 300*time.Millisecond, l.guardian.die)
		o := l.run(attended)
		must(t, o.err)
		inOrder(t, o.tape(), "injected 1", "measured 1 during", "takeback 1 guardian", "undone 1")
		o.tidy(t)
	})
	bubble(t, "beside others", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		o := l.run(`
  method:
    - {name: a, fault: {type: set, during: {}, follow: {}}, target: {type: world, name: web-1}, for: 100ms}
    - {name: b, fault: {type: set, during: {}, follow: {}}, target: {type: world, name: web-2}, for: 300ms, after: 50ms, parallel: true}
`)
		must(t, o.err)
		same(t, "events", o.at(experiment.EventInjected, experiment.EventMeasured, experiment.EventTakeBack), []string{
			"injected 1 @0s", "injected 2 @50ms", "measured 1 during @100ms", "takeback 1 end @100ms",
			"measured 2 during @350ms", "takeback 2 end @350ms", "takeback 0 end @350ms",
		})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "one beside it fails", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		o := l.run(`
  method:
    - {name: a, fault: {type: set, during: {}, follow: {}}, target: {type: world, name: web-1}, for: 1s}
    - {name: b, fault: {type: set, do: {fail: true}}, target: {type: world, name: web-2}, for: 1s, after: 50ms, parallel: true}
`)
		must(t, o.err)
		same(t, "measured for", o.measured(experiment.PhaseDuring)[0].Max, 0.05)
		did := l.did()
		inOrder(t, did[len(did)-4:], "follow ended", "reset begun", "reset wrote")
		o.verdict(t, experiment.Errored)
		o.tidy(t)
	})
}

// TestAttendedCrash dies at each write, and sweeps: what is followed is data,
// as its steps are.
func TestAttendedCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "web-1")
		for n, c := range l.crashes(attended) {
			l.revive(c)
			if _, err := l.engine.Sweep(t.Context()); err != nil {
				t.Errorf("crash %d: %v", n, err)
			}
			l.allOK(t)
			if open := l.open(); len(open) > 0 || l.world.Count("follow", "") > 0 {
				t.Errorf("crash %d: open %v, log %v", n, open, l.did())
			}
		}
	})
}

// TestAttendedJournalFails fails at each write of the journal.
func TestAttendedJournalFails(t *testing.T) {
	t.Parallel()
	bubble(t, "each", func(t *testing.T) {
		for n := 1; ; n++ {
			l := newLab(t, "web-1")
			b := &broken{Store: l.store, n: n}
			l.engine = l.newEngine(b)
			o := l.run(attended)
			if b.kind == "" {
				return
			}
			l.afterFailure(t, o, b)
			if l.world.Count("follow", experimenttest.Begun) != l.world.Count("follow", experimenttest.Ended) {
				t.Errorf("%s: it is followed still", b.kind)
			}
		}
	})
}

// TestFelt asks what comes of what the targets felt.
func TestFelt(t *testing.T) {
	t.Parallel()
	const idle = `is "broken"; nobody has read it`
	for _, c := range []struct {
		name, felt string
		feels      string // a target that runs into it, after 500 ms
		leaves     string // a target that is gone by then
		want       experiment.Verdict
		missed     string
		warnings   []string // what each says
	}{
		{name: "cannot be told", felt: "", want: experiment.Pass},
		{name: "yes", felt: `"*": "yes"`, want: experiment.Pass},
		{name: "nothing anywhere", felt: `"*": nothing`, want: experiment.NotInjected, missed: "web-1: "},
		{name: "nothing at first", felt: `"*": nothing`, feels: "*", want: experiment.Pass},
		{name: "one of two targets", felt: `web-1: "yes", web-2: nothing`, want: experiment.Pass, warnings: []string{"nothing ran into it at web-2: "}},
		{name: "one of two, at last", felt: `"*": nothing`, feels: "web-2", want: experiment.Pass, warnings: []string{"nothing ran into it at web-1: "}},
		{name: "one cannot tell", felt: `web-2: nothing`, want: experiment.NotInjected, missed: "web-2: "},
		{name: "one of several steps is enough", felt: `"*": nothing, web-1/2: "yes", web-2/1: "yes"`, want: experiment.Pass},
		{name: "one of several steps of one target", felt: `"*": nothing, web-1/2: "yes"`, want: experiment.Pass, warnings: []string{"nothing ran into it at web-2: "}},
		{name: "one left, and the other felt nothing", felt: `"*": nothing`, leaves: "web-2", want: experiment.Residue, warnings: []string{"the target left", "the target left", "nothing ran into it at web-1: "}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "web-2")
			l.after("injected 1", 500*time.Millisecond, func() {
				for _, name := range []string{"web-1", "web-2"} {
					if c.feels == "*" || c.feels == name {
						must(t, l.world.Feel(name))
					}
				}
				if c.leaves != "" {
					l.leave(c.leaves)
				}
			})
			o := l.run("\n  method:\n    - {fault: {type: set, steps: 2, felt: {" + c.felt + "}}, target: {type: world, mode: all}, for: 1s}\n  recovery: {within: 1s}\n")
			must(t, o.err)
			o.verdict(t, c.want)
			same(t, "exit code 5", o.result.Verdict.ExitCode() == 5, c.missed != "")
			missed := o.find(experiment.EventMissed)
			if (len(missed) == 1) != (c.missed != "") || len(missed) == 1 && (!strings.HasPrefix(missed[0].Message, "nothing ran into it: ") || !strings.Contains(missed[0].Message, c.missed) || !strings.HasSuffix(missed[0].Message, idle)) {
				t.Errorf("missed %v", missed)
			}
			if len(missed) == 1 && !slices.ContainsFunc(o.result.Reasons, func(s string) bool { return strings.Contains(s, "nobody has read it") }) {
				t.Errorf("the reasons %q give no hint", o.result.Reasons)
			}
			same(t, "warnings", len(o.warned()), len(c.warnings))
			for i, w := range o.warned() {
				if i < len(c.warnings) && !strings.Contains(w, c.warnings[i]) {
					t.Errorf("warning %q, want %q", w, c.warnings[i])
				}
			}
			l.allOK(t)
		})
	}
	bubble(t, "many targets", func(t *testing.T) {
		names := []string{"web-1", "web-2", "web-3", "web-4", "web-5", "web-6"}
		const spec = "\n  method:\n    - {fault: {type: set, felt: {\"*\": nothing}}, target: {type: world, mode: all}, for: 1s}\n"
		o := newLab(t, names...).run(spec)
		must(t, o.err)
		if m := o.find(experiment.EventMissed); len(m) != 1 || strings.Count(m[0].Message, "nobody has read it") != 3 || !strings.HasSuffix(m[0].Message, " | 3 more targets") {
			t.Errorf("missed %v", m)
		}
		o = newLab(t, append(names, "db-1")...).run(strings.Replace(spec, `"*": nothing`, `"*": nothing, db-1: "yes"`, 1))
		must(t, o.err)
		if w := o.warned(); len(w) != 4 || w[3] != "nothing ran into it at 3 more targets" {
			t.Errorf("warnings %q", w)
		}
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "the next action goes on", func(t *testing.T) {
		o := newLab(t, "web-1", "db-1").run(`
  method:
    - {name: a, fault: {type: set, felt: {"*": nothing}}, target: {type: world, name: web-1}, for: 1s}
    - {name: b, fault: {type: set, felt: {"*": "yes"}}, target: {type: world, name: db-1}, for: 1s}
`)
		must(t, o.err)
		if !o.has("missed 1") || o.has("missed 2") || !o.has("injected 2") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.NotInjected)
		o.tidy(t)
	})
	bubble(t, "an interrupted one is not judged", func(t *testing.T) {
		l := newLab(t, "web-1")
		ctx, cancel := context.WithCancelCause(context.Background())
		l.after("injected 1", 300*time.Millisecond, func() { cancel(errors.New("SIGINT")) })
		o := l.runIn(ctx, "\n  method:\n    - {fault: {type: set, felt: {\"*\": nothing}}, target: {type: world, name: web-1}, for: 1s}\n")
		must(t, o.err)
		if o.has("missed") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Aborted)
		o.tidy(t)
	})
}

// base is the name of the target that a record of the log is of.
func base(r experimenttest.Record) string { return filepath.Base(filepath.Dir(r.Path)) }
