package engine_test

import (
	"context"
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

// held is a fault on target for 2s.
func held(fault, target string) string {
	return "\n  method:\n    - {fault: {type: set" + fault + "}, target: {type: aged, " + target + "}, for: 2s}\n  recovery: {within: 1s}\n"
}

// struck returns the names of the targets that were really changed, in order.
func (l *lab) struck() []string {
	var names []string
	for _, r := range must2(l.world.Log()) {
		if r.Op == "set" && r.Did == experimenttest.Wrote {
			names = append(names, base(r))
		}
	}
	return names
}

const ms = time.Millisecond

// TestReinject has a target leave and come back while the fault is on.
func TestReinject(t *testing.T) {
	t.Parallel()
	kinds := []experiment.EventKind{experiment.EventInjected, experiment.EventReinjected, experiment.EventTakeBack}
	bubble(t, "restarted", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		during := make(chan string, 1)
		l.after("injected 1", 1900*ms, func() { during <- l.world.Value("web-1/1") })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		same(t, "events", o.tape()[3:], []string{
			"plan 1 web-1", "announce 1: 1", "phase during", "applied 1", "verified 1 true", "injected 1",
			"plan 1 web-1", "announce 1: 2", "applied 2", "verified 2 true", "reinjected 1",
			"warning", "verified 2 true", "takeback 1 end", "undone 1 gone", "undone 2", "reverted 1", "takeback 0 end", "phase recovery", "end",
		})
		same(t, "times", o.at(kinds...), []string{"injected 1 @0s", "reinjected 1 @500ms", "takeback 1 end @2s", "takeback 0 end @2s"})
		same(t, "while it was on", <-during, "broken")
		same(t, "notes", o.result.Faults[0].Notes, []string{"web-1 came back, and the fault is on it again"})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "twice", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		l.after("injected 1", 850*ms, func() { l.restart("web-1") })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		same(t, "times", o.at(kinds...), []string{"injected 1 @0s", "reinjected 1 @500ms", "reinjected 1 @900ms", "takeback 1 end @2s", "takeback 0 end @2s"})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "a while later", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.leave("web-1") })
		l.after("injected 1", 1450*ms, func() { l.come("web-1") })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		same(t, "times", o.at(kinds...)[1], "reinjected 1 @1.5s")
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "nobody comes", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.after("injected 1", 450*ms, func() { l.leave("web-1") })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		same(t, "times", o.at(kinds...), []string{"injected 1 @0s", "takeback 1 end @2s", "takeback 0 end @2s"})
		if w := o.warned(); len(w) != 1 || !strings.Contains(w[0], "the target left while the fault was on") {
			t.Errorf("warnings %q", w)
		}
		same(t, "changes", l.injected(), 1)
	})
	bubble(t, "it leaves again before the change", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		l.once("announce 1: 2", func(*experiment.Event) { l.restart("web-1") })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		if !slices.Contains(o.tape(), "applied 2 failed") || !slices.Contains(o.tape(), "applied 3") || o.has("missed") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		same(t, "times", o.at(kinds...)[1], "reinjected 1 @600ms")
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "what measures it and follows it", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		o := l.run(held(", before: {}, during: {}, follow: {}", "name: web-1"))
		must(t, o.err)
		same(t, "before", len(o.measured(experiment.PhaseBefore)), 1)
		during := o.measured(experiment.PhaseDuring)
		if len(during) != 2 || during[0].Max != 0.5 || during[1].Max != 1.5 || during[0].Target == during[1].Target {
			t.Errorf("measured %+v", during)
		}
		same(t, "followed", l.world.Count("follow", experimenttest.Ended), 2)
		o.tidy(t)
	})
	bubble(t, "not in force on it", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		l.once("applied 2", func(*experiment.Event) { must(t, l.world.Set("web-1/1", "ok")) })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		if !o.has("missed 1") || !o.has("takeback 1 not-injected") || o.has("reinjected") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.NotInjected)
		o.tidy(t)
	})
}

// TestReinjectWhom asks who is taken to have come in a target's place.
func TestReinjectWhom(t *testing.T) {
	t.Parallel()
	all := []string{"web-1", "web-2"}
	for _, c := range []struct {
		name, fault, target, more string
		at                        map[time.Duration]func(l *lab)
		want                      []string // who is struck, in order; those of the first strike are sorted
	}{
		{name: "not a sibling that was there", target: "name: web-1", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.leave("web-1") },
		}, want: []string{"web-1"}},
		{name: "one of another name", target: `mode: all`, at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.leave("web-1"); l.come("web-9") },
		}, want: append(all, "web-9")},
		{name: "one of another workload", target: `mode: all`, at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.leave("web-1"); l.come("db-1") },
		}, want: all},
		{name: "not a replica that was added", target: "mode: all", at: map[time.Duration]func(l *lab){
			300 * ms: func(l *lab) { l.come("web-3") },
		}, want: all},
		{name: "not one that was added before it left", target: "mode: all", at: map[time.Duration]func(l *lab){
			300 * ms: func(l *lab) { l.come("web-3") },
			900 * ms: func(l *lab) { l.leave("web-1") },
		}, want: all},
		{name: "the one that came after it left", target: "mode: all", at: map[time.Duration]func(l *lab){
			300 * ms: func(l *lab) { l.come("web-0") },
			900 * ms: func(l *lab) { l.restart("web-1") },
		}, want: append(all, "web-1")},
		{name: "all restarted", target: "mode: all", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1"); l.restart("web-2") },
		}, want: append(all, all...)},
		{name: "one for each that left", target: "mode: all", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1"); l.come("web-3") },
		}, want: append(all, "web-1")},
		{name: "named by its identity", target: "name: web-1, identity: true", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1") },
		}, want: []string{"web-1"}},
		{name: "of no workload", target: "name: web-1, loose: true", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1") },
		}, want: []string{"web-1"}},
		{name: "a fault that strikes", fault: ", once: true", target: "name: web-1", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1") },
		}, want: []string{"web-1"}},
		{name: "within the blast radius", target: "name: web-1", more: "  blastRadius: {targets: 1}\n", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1") },
		}, want: []string{"web-1", "web-1"}},
		{name: "a share of the running", target: "name: web-1", more: "  blastRadius: {percent: 100}\n", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1") },
		}, want: []string{"web-1", "web-1"}},
		{name: "no room until others are back", target: "name: \"web-*\"", more: "  blastRadius: {targets: 1}\n  seed: 3\n", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.leave("web-1"); l.leave("web-2"); l.come("web-3") },
		}, want: []string{"web-2"}},
		{name: "others are back", target: "name: \"web-*\"", more: "  blastRadius: {targets: 1}\n  seed: 3\n", at: map[time.Duration]func(l *lab){
			450 * ms:  func(l *lab) { l.leave("web-1"); l.leave("web-2"); l.come("web-3") },
			1100 * ms: func(l *lab) { l.come("web-4") },
		}, want: []string{"web-2", "web-3"}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, all...)
			for d, fn := range c.at {
				l.after("injected 1", d, func() { fn(l) })
			}
			o := l.run(held(c.fault, c.target) + c.more)
			must(t, o.err)
			got := l.struck()
			slices.Sort(got[:min(2, len(got), len(c.want))])
			same(t, "struck", got, c.want)
			same(t, "reinjected", len(o.find(experiment.EventReinjected)), len(c.want)-len(o.find(experiment.EventPlan)[0].Plan.Targets))
			if o.has("missed") || !o.has("takeback 0 end") {
				t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
			}
			l.allOK(t)
		})
	}
}

// TestReinjectTrouble: what comes back and cannot be struck is warned of once,
// tried again where nothing was changed, and ends nothing.
func TestReinjectTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		back    func(l *lab) // as it comes back, at 400ms
		later   func(l *lab) // at 1100ms
		again   bool
		warning string
	}{
		{
			"protected", func(l *lab) { l.system.refuses("web-1", experiment.ErrProtected) },
			func(l *lab) { l.system.refuses("web-1", nil) }, true, "web-1 came back, and could not be struck again: protected",
		},
		{"protected to the end", func(l *lab) { l.system.refuses("web-1", experiment.ErrProtected) }, func(*lab) {}, false, "could not be struck again: protected"},
		{"busy", func(l *lab) { l.handles.hold("web-1") }, func(l *lab) { l.handles.hold() }, true, "held by run zzzzzz"},
		{
			"it cannot be applied", func(l *lab) {
				must(l.t, l.world.Set("web-1/1", "theirs"))
			}, func(*lab) {}, false, `it is "ok": busy`,
		},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1")
			l.once("announce 1: 2", func(*experiment.Event) {
				if l.world.Value("web-1/1") == "theirs" {
					must(t, l.world.Set("web-1/1", "ok"))
				}
			})
			l.after("injected 1", 450*ms, func() { l.restart("web-1"); c.back(l) })
			l.after("injected 1", 1100*ms, func() { c.later(l) })
			o := l.run(held("", "name: web-1"))
			must(t, o.err)
			if w := o.warned(); len(w) < 1 || len(w) > 2 || !strings.Contains(w[0], c.warning) {
				t.Errorf("warnings %q", w)
			}
			same(t, "struck again", o.has("reinjected"), c.again)
			same(t, "ended", o.at(experiment.EventTakeBack), []string{"takeback 1 end @2s", "takeback 0 end @2s"})
			o.verdict(t, experiment.Pass)
			o.tidy(t)
		})
	}
	bubble(t, "the selector fails for a while", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1"); l.mu.Lock(); defer l.mu.Unlock(); l.broken = fmt.Errorf("no answer") })
		l.after("injected 1", 1100*ms, func() { l.mu.Lock(); defer l.mu.Unlock(); l.broken = nil })
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		if w := o.warned(); len(w) != 2 || w[0] != "what came in the place of web-1 cannot be read: no answer" || !o.has("reinjected") {
			t.Errorf("warnings %q\n%s", w, strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
}

// TestReinjectEnds: an action's end waits for nobody, and nobody is struck at
// it, or after it.
func TestReinjectEnds(t *testing.T) {
	t.Parallel()
	bubble(t, "at its end", func(t *testing.T) {
		for range 20 {
			l := newLab(t, "web-1")
			l.after("injected 1", 1999*ms, func() { l.restart("web-1") })
			o := l.run(held("", "name: web-1"))
			must(t, o.err)
			if l.injected() != 1 {
				t.Fatalf("\n%s", strings.Join(o.tape(), "\n"))
			}
			o.tidy(t)
		}
	})
	bubble(t, "a selector that stands still", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() {
			l.restart("web-1")
			l.mu.Lock()
			defer l.mu.Unlock()
			l.looking = func(ctx context.Context) {
				if _, ok := ctx.Deadline(); ok {
					<-ctx.Done()
				}
			}
		})
		o := l.run(held("", "name: web-1"))
		must(t, o.err)
		same(t, "ended", o.at(experiment.EventTakeBack), []string{"takeback 1 end @2s", "takeback 0 end @2s"})
		same(t, "changes", l.injected(), 1)
		o.tidy(t)
	})
	bubble(t, "a slow selector rests", func(t *testing.T) {
		l := newLab(t, "web-1")
		looks := 0
		l.after("injected 1", 450*ms, func() {
			l.leave("web-1")
			l.mu.Lock()
			defer l.mu.Unlock()
			l.looking = func(context.Context) { looks++; time.Sleep(100 * ms) }
		})
		o := l.run(strings.Replace(held("", "name: web-1"), "2s", "100s", 1))
		must(t, o.err)
		if looks < 100 || looks > 201+12 { // those at its end count the workloads
			t.Errorf("it looked %d times, 100ms each, in 100s", looks)
		}
	})
	bubble(t, "a slow strike beside it", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		o := l.run(`
  method:
    - {name: a, fault: {type: set}, target: {type: aged, name: web-1}, for: 1s}
    - {name: b, fault: {type: set, do: {slow: 5s}}, target: {type: aged, name: db-1}, for: 1s, after: 100ms, parallel: true}
`)
		must(t, o.err)
		same(t, "ended", o.at(experiment.EventTakeBack)[0], "takeback 1 end @1s")
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "interrupted", func(t *testing.T) {
		for name, at := range map[string]string{"before it is seen": "", "while it is looked for": "look", "as it is announced": "announce 1: 2", "as it is applied": "applied 2"} {
			l := newLab(t, "web-1")
			ctx, cancel := context.WithCancelCause(context.Background())
			stop := func() { cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGINT"}) }
			l.after("injected 1", 450*ms, func() {
				l.restart("web-1")
				switch at {
				case "":
					stop()
				case "look":
					l.mu.Lock()
					defer l.mu.Unlock()
					l.looking = func(context.Context) { stop() }
				}
			})
			l.once(at, func(*experiment.Event) { stop() })
			o := l.runIn(ctx, held("", "name: web-1"))
			must(t, o.err)
			if o.has("applied 2") != (at == "applied 2") || !o.has("takeback 1 interrupted") {
				t.Errorf("%s\n%s", name, strings.Join(o.tape(), "\n"))
			}
			o.verdict(t, experiment.Aborted)
			o.tidy(t)
		}
	})
	bubble(t, "abort.after", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.once("takeback 1 abort-after", func(*experiment.Event) { l.restart("web-1") })
		o := l.run(script("1, 1, 1, 0, 0, 1", "  abort: {after: 2}\n"))
		must(t, o.err)
		same(t, "changes", l.injected(), 1)
		o.tidy(t)
	})
}

// TestReinjectPlace: the fault was done to a place that outlives its processes,
// so one that is started anew there has it already.
func TestReinjectPlace(t *testing.T) {
	t.Parallel()
	spec := func(net int) string {
		return fmt.Sprintf("\n  method:\n    - {fault: {type: placed, during: {}}, target: {type: aged, name: web-1, net: %d}, for: 2s}\n  recovery: {within: 1s}\n", net)
	}
	for _, c := range []struct {
		name   string
		net    int
		at     func(l *lab)
		placed []string // how often the place was changed
		says   string
	}{
		{"in force still", 7, func(l *lab) { l.restart("web-1") }, []string{"place-1"}, "web-1 came back to where the fault is on still"},
		{"no longer in force", 7, func(l *lab) { l.restart("web-1"); l.restart("place-1") }, []string{"place-1", "place-1"}, "web-1 came back, and the fault is on it again"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "place-1")
			l.after("injected 1", 450*ms, func() { c.at(l) })
			o := l.run(spec(c.net))
			must(t, o.err)
			same(t, "changed", l.struck(), c.placed)
			same(t, "notes", o.result.Faults[0].Notes, []string{"web-1: others are there too", c.says})
			same(t, "measured", len(o.measured(experiment.PhaseDuring)), 2)
			o.verdict(t, experiment.Pass)
			o.tidy(t)
		})
	}
	bubble(t, "and leaves again", func(t *testing.T) {
		l := newLab(t, "web-1", "place-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		l.after("injected 1", 900*ms, func() { l.restart("web-1") })
		o := l.run(spec(7))
		must(t, o.err)
		same(t, "changed", l.struck(), []string{"place-1"})
		same(t, "came back", len(o.find(experiment.EventReinjected)), 2)
		o.tidy(t)
	})
}

// TestReinjectBeside has two actions lose their targets at once.
func TestReinjectBeside(t *testing.T) {
	t.Parallel()
	bubble(t, "each finds its own", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		l.after("injected 2", 450*ms, func() { l.restart("web-1"); l.restart("db-1") })
		o := l.run(`
  method:
    - {name: a, fault: {type: set}, target: {type: aged, name: web-1}, for: 2s}
    - {name: b, fault: {type: set}, target: {type: aged, name: db-1}, for: 2s, after: 100ms, parallel: true}
`)
		must(t, o.err)
		got := l.struck()
		slices.Sort(got)
		same(t, "struck", got, []string{"db-1", "db-1", "web-1", "web-1"})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
}

// TestReinjectCrash dies at each write after a target came back, and has
// another process take it back.
func TestReinjectCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		crashes := l.crashes(held(", steps: 2", "name: web-1"))
		announced := false
		for n, c := range crashes {
			// What is restored is the files of the one that came back.
			announced = announced || strings.Contains(strings.Join(c.lines, ""), `"n":3`)
			if !announced {
				continue
			}
			l.revive(c)
			if _, err := l.engine.Sweep(t.Context()); err != nil {
				t.Errorf("crash %d: %v", n, err)
			}
			l.allOK(t)
			if open := l.open(); len(open) > 0 || l.handles.count() > 0 || l.world.Count("set", "") > 0 {
				t.Errorf("crash %d: open %v, %d handles, log %v", n, open, l.handles.count(), l.did())
			}
			if o := l.read(c.run); len(o.result.Residue) > 0 || !slices.Contains(o.tape(), "undone 3") && !o.has("undone 3") {
				t.Errorf("crash %d: residue %q\n%s", n, o.result.Residue, strings.Join(o.tape(), "\n"))
			}
		}
		if !announced {
			t.Error("it was never announced again")
		}
	})
}

// TestReinjectJournalFails fails at each write of the journal.
func TestReinjectJournalFails(t *testing.T) {
	t.Parallel()
	bubble(t, "each", func(t *testing.T) {
		for n := 1; ; n++ {
			l := newLab(t, "web-1")
			l.after("injected 1", 450*ms, func() { l.restart("web-1") })
			b := &broken{Store: l.store, n: n}
			l.engine = l.newEngine(b)
			o := l.run(held(", during: {}", "name: web-1"))
			time.Sleep(time.Second)
			if b.kind == "" {
				return
			}
			l.afterFailure(t, o, b)
		}
	})
}
