package engine_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
)

// again is a fault on a target that repeats.
func again(fault, target, action string) string {
	return "\n  method:\n    - {fault: {type: set" + fault + "}, target: {type: aged, " + target + "}, " + action + "}\n  recovery: {within: 1s}\n"
}

// TestPulses asks when pulses begin and end, and what is done in each.
func TestPulses(t *testing.T) {
	t.Parallel()
	kinds := []experiment.EventKind{experiment.EventInjected, experiment.EventReverted, experiment.EventTakeBack}
	bubble(t, "each is announced, verified and taken back", func(t *testing.T) {
		o := newLab(t, "web-1").run(again("", "name: web-1", "repeat: {pulse: {on: 100ms, off: 200ms}, times: 2}"))
		must(t, o.err)
		same(t, "events", o.tape()[3:], []string{
			"plan 1 web-1", "announce 1: 1", "phase during", "applied 1", "verified 1 true", "injected 1", "verified 1 true", "undone 1", "reverted 1",
			"plan 1 web-1", "announce 1: 2", "applied 2", "verified 2 true", "injected 1", "verified 2 true", "takeback 1 end", "undone 2", "reverted 1",
			"takeback 0 end", "phase recovery", "end",
		})
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	for _, c := range []struct {
		name, fault, action string
		want                []string // what, and when
		strikes             int
		held                float64
		warned              string
	}{
		{
			name: "within for", action: "for: 1s, repeat: {pulse: {on: 100ms, off: 300ms}}", strikes: 3, held: 0.3,
			want: []string{"injected 1 @0s", "reverted 1 @100ms", "injected 1 @400ms", "reverted 1 @500ms", "injected 1 @800ms", "reverted 1 @900ms", "takeback 1 end @1s", "takeback 0 end @1s"},
		},
		{
			name: "the last one is cut short by for", action: "for: 450ms, repeat: {pulse: {on: 100ms, off: 300ms}}", strikes: 2, held: 0.15,
			want: []string{"injected 1 @0s", "reverted 1 @100ms", "injected 1 @400ms", "takeback 1 end @450ms", "reverted 1 @450ms", "takeback 0 end @450ms"},
		},
		{
			name: "times, and no for", action: "repeat: {pulse: {on: 100ms, off: 300ms}, times: 2}", strikes: 2, held: 0.2,
			want: []string{"injected 1 @0s", "reverted 1 @100ms", "injected 1 @400ms", "takeback 1 end @500ms", "reverted 1 @500ms", "takeback 0 end @500ms"},
		},
		{
			name: "times, and then nothing until for", action: "for: 1s, repeat: {pulse: {on: 100ms, off: 100ms}, times: 2}", strikes: 2, held: 0.2,
			want: []string{"injected 1 @0s", "reverted 1 @100ms", "injected 1 @200ms", "reverted 1 @300ms", "takeback 1 end @1s", "takeback 0 end @1s"},
		},
		{
			name: "the next comes at the end: none", action: "for: 800ms, repeat: {pulse: {on: 100ms, off: 300ms}}", strikes: 2, held: 0.2,
			want: []string{"injected 1 @0s", "reverted 1 @100ms", "injected 1 @400ms", "reverted 1 @500ms", "takeback 1 end @800ms", "takeback 0 end @800ms"},
		},
		{
			name: "it takes longer than off: one is left out", fault: ", undo: {slow: 250ms}", action: "for: 700ms, repeat: {pulse: {on: 100ms, off: 100ms}}", strikes: 2, held: 0.2,
			want:   []string{"injected 1 @0s", "reverted 1 @350ms", "injected 1 @400ms", "takeback 0 end @750ms"},
			warned: "strike 2 was left out: the one before took too long",
		},
		{
			name: "every, of what is held", action: "for: 500ms, repeat: {every: 200ms}", strikes: 3, held: 0.5,
			want: []string{"injected 1 @0s", "reverted 1 @200ms", "injected 1 @200ms", "reverted 1 @400ms", "injected 1 @400ms", "takeback 1 end @500ms", "reverted 1 @500ms", "takeback 0 end @500ms"},
		},
		{
			name: "every, so many times", action: "repeat: {every: 200ms, times: 2}", strikes: 2, held: 0.4,
			want: []string{"injected 1 @0s", "reverted 1 @200ms", "injected 1 @200ms", "takeback 1 end @400ms", "reverted 1 @400ms", "takeback 0 end @400ms"},
		},
		{
			name: "every, of what holds nothing", fault: ", once: true, noUndo: true, value: ok", action: "irreversible: true, repeat: {every: 200ms, times: 3}", strikes: 3,
			want: []string{"injected 1 @0s", "injected 1 @200ms", "injected 1 @400ms", "takeback 1 end @600ms", "takeback 0 end @600ms"},
		},
	} {
		bubble(t, c.name, func(t *testing.T) {
			o := newLab(t, "web-1").run(again(c.fault, "name: web-1", c.action))
			must(t, o.err)
			got := o.at(kinds...)
			if c.warned != "" { // when the last is taken back is not what is asked
				got = append(got[:3], got[len(got)-1])
				if w := o.warned(); len(w) == 0 || !strings.Contains(w[0], c.warned) {
					t.Errorf("warnings %q", w)
				}
			}
			same(t, "events", got, c.want)
			f := o.result.Faults[0]
			if f.Strikes != c.strikes || f.Held < c.held-1e-6 || f.Held > c.held+0.051 {
				t.Errorf("struck %d times, held for %vs, want %d and %v", f.Strikes, f.Held, c.strikes, c.held)
			}
			o.verdict(t, experiment.Pass)
			o.tidy(t)
		})
	}
}

// TestEveryDrawsAnew, and pulses do not.
func TestEveryDrawsAnew(t *testing.T) {
	t.Parallel()
	for repeat, anew := range map[string]bool{"every: 100ms": true, "pulse: {on: 50ms, off: 50ms}": false} {
		bubble(t, repeat, func(t *testing.T) {
			o := newLab(t, fleet...).run(again("", `name: "web-*"`, "for: 2s, repeat: {"+repeat+"}") + "  seed: 7\n")
			must(t, o.err)
			seen := map[string]bool{}
			for _, names := range o.targetsOf() {
				seen[strings.Join(names, " ")] = true
			}
			if anew != (len(seen) > 2) || !anew && len(seen) != 1 || len(o.targetsOf()) != 20 {
				t.Errorf("%d strikes at %v", len(o.targetsOf()), seen)
			}
			o.verdict(t, experiment.Pass)
			o.tidy(t)
		})
	}
	bubble(t, "within the blast radius", func(t *testing.T) {
		o := newLab(t, fleet...).run(again("", `name: "web-*"`, "for: 2s, repeat: {every: 100ms}") + "  blastRadius: {targets: 2}\n  seed: 7\n")
		must(t, o.err)
		seen := map[string]bool{}
		for _, names := range o.targetsOf() {
			seen[names[0]] = true
		}
		if len(seen) != 2 {
			t.Errorf("it touched %v", seen)
		}
		o.tidy(t)
	})
}

// TestPulseTargets: pulses keep to their targets, and to what comes in their
// place.
func TestPulseTargets(t *testing.T) {
	t.Parallel()
	const spec = "for: 2s, repeat: {pulse: {on: 300ms, off: 300ms}}"
	for _, c := range []struct {
		name, fault, target string
		at                  map[time.Duration]func(l *lab)
		strikes             string // who is struck in each
		again               int    // reinjected
		warned              string
	}{
		{name: "restarted while off", target: "name: web-1", at: map[time.Duration]func(l *lab){
			450 * ms: func(l *lab) { l.restart("web-1") },
		}, strikes: "web-1 | web-1 | web-1 | web-1"},
		{name: "restarted while on", target: "name: web-1", at: map[time.Duration]func(l *lab){
			750 * ms: func(l *lab) { l.restart("web-1") },
		}, strikes: "web-1 | web-1 | web-1 | web-1 | web-1", again: 1},
		{name: "away for a pulse", target: "name: web-1", at: map[time.Duration]func(l *lab){
			450 * ms:  func(l *lab) { l.leave("web-1") },
			1050 * ms: func(l *lab) { l.come("web-1") },
		}, strikes: "web-1 | web-1 | web-1", warned: "strike 2 was left out: select web-1: no target matches"},
		{name: "one of two is away for a pulse", target: "mode: all", at: map[time.Duration]func(l *lab){
			450 * ms:  func(l *lab) { l.leave("web-1") },
			1050 * ms: func(l *lab) { l.come("web-1") },
		}, strikes: "web-1 web-2 | web-2 | web-1 web-2 | web-1 web-2"},
		{name: "one that the fault itself ends", fault: ", ends: true", target: "name: web-1", at: map[time.Duration]func(l *lab){
			150 * ms: func(l *lab) { l.restart("web-1") },
			750 * ms: func(l *lab) { l.restart("web-1") },
		}, strikes: "web-1 | web-1 | web-1 | web-1"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "web-2")
			for d, fn := range c.at {
				l.after("injected 1", d, func() { fn(l) })
			}
			o := l.run(again(c.fault, c.target, spec))
			must(t, o.err)
			var strikes []string
			for _, names := range o.targetsOf() {
				strikes = append(strikes, strings.Join(sorted(names), " "))
			}
			same(t, "strikes", strings.Join(strikes, " | "), c.strikes)
			same(t, "reinjected", o.result.Faults[0].Again, c.again)
			if w := o.warned(); c.warned != "" && (len(w) == 0 || w[0] != c.warned) {
				t.Errorf("warnings %q", w)
			}
			o.verdict(t, experiment.Pass)
			l.allOK(t)
		})
	}
}

// TestPulseFelt: felt in any pulse counts.
func TestPulseFelt(t *testing.T) {
	t.Parallel()
	spec := again(`, steps: 2, felt: {"*": nothing}`, "name: web-1", "repeat: {pulse: {on: 100ms, off: 100ms}, times: 3}")
	bubble(t, "in none", func(t *testing.T) {
		o := newLab(t, "web-1").run(spec)
		must(t, o.err)
		o.verdict(t, experiment.NotInjected)
		o.tidy(t)
	})
	bubble(t, "in the second", func(t *testing.T) {
		l := newLab(t, "web-1")
		l.after("injected 1", 250*ms, func() { must(t, l.world.Feel("web-1")) })
		l.after("injected 1", 350*ms, func() { must(t, l.world.Numb("web-1")) })
		o := l.run(spec)
		must(t, o.err)
		o.verdict(t, experiment.Pass)
		evidence := o.result.Faults[0].Evidence
		if len(evidence) != 2 || evidence[0].Felt != experiment.FeltYes || evidence[0].Times != 3 || evidence[1].Times != 3 {
			t.Errorf("evidence %+v", evidence)
		}
		o.tidy(t)
	})
}

// TestPulseTrouble has a pulse go wrong.
func TestPulseTrouble(t *testing.T) {
	t.Parallel()
	const pulses = "for: 1s, repeat: {pulse: {on: 100ms, off: 100ms}}"
	for _, c := range []struct {
		name, fault string
		at          string
		then        func(l *lab)
		want        experiment.Verdict
		strikes     int
	}{
		{name: "no longer in force at its end", at: "injected 1", then: func(l *lab) { must(l.t, l.world.Set("web-1/1", "ok")) }, want: experiment.NotInjected, strikes: 1},
		{name: "it cannot be taken back", fault: ", undo: {fail: true}", want: experiment.Residue, strikes: 1},
		{name: "it is taken back at the third try", fault: ", undo: {failFor: 2}", want: experiment.Pass, strikes: 5},
		{name: "the next cannot be applied", at: "announce 1: 2", then: func(l *lab) { must(l.t, l.world.Set("web-1/1", "theirs")) }, want: experiment.Errored, strikes: 1},
		{name: "the next cannot be planned", at: "reverted 1", then: func(l *lab) { l.system.refuses("web-1", experiment.ErrProtected) }, want: experiment.Pass, strikes: 1},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1")
			if c.at != "" {
				l.once(c.at, func(*experiment.Event) { c.then(l) })
			}
			o := l.run(again(c.fault, "name: web-1", pulses))
			must(t, o.err)
			o.verdict(t, c.want)
			same(t, "strikes", o.result.Faults[0].Strikes, c.strikes)
			if c.want == experiment.Errored {
				must(t, l.world.Set("web-1/1", "ok"))
			}
			if c.want != experiment.Residue {
				o.tidy(t)
			}
		})
	}
	bubble(t, "interrupted while it is off", func(t *testing.T) {
		l := newLab(t, "web-1")
		ctx, cancel := context.WithCancelCause(context.Background())
		l.after("injected 1", 150*ms, func() {
			cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: "SIGINT"})
		})
		o := l.runIn(ctx, again("", "name: web-1", pulses))
		must(t, o.err)
		same(t, "changes", l.injected(), 1)
		o.verdict(t, experiment.Aborted)
		o.tidy(t)
	})
	bubble(t, "followed and measured anew in each", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(again(", during: {}, follow: {}", "name: web-1", pulses))
		must(t, o.err)
		same(t, "measured", len(o.measured(experiment.PhaseDuring)), 5)
		same(t, "followed", l.world.Count("follow", experimenttest.Ended), 5)
		o.tidy(t)
	})
}

// TestDeadline: the guardian waits for all that the file allows.
func TestRepeatDeadline(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]time.Duration{
		"repeat: {pulse: {on: 2s, off: 8s}, times: 4}":           32 * time.Second,
		"for: 50s, repeat: {pulse: {on: 2s, off: 8s}, times: 4}": 50 * time.Second,
		"after: 5s, repeat: {every: 10s, times: 3}":              35 * time.Second,
	} {
		bubble(t, action, func(t *testing.T) {
			l := newLab(t, "web-1")
			o := l.run(again("", "name: web-1", action))
			must(t, o.err)
			armed := o.find(experiment.EventGuardian)[0]
			rest := time.Second + 2*time.Second + engine.DefaultSlack // recovery, after, slack
			same(t, "deadline", armed.Guardian.Deadline.Sub(armed.Boot), want+rest)
			if last := o.find(experiment.EventEnd)[0].Boot.Sub(armed.Boot); last > want+rest {
				t.Errorf("it took %s", last)
			}
		})
	}
}

// TestPulseCrash dies at each write, and has another process take it back.
func TestPulseCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "web-1")
		crashes := l.crashes(again(", steps: 2", "name: web-1", "repeat: {pulse: {on: 100ms, off: 100ms}, times: 2}"))
		for n, c := range crashes {
			l.revive(c)
			if _, err := l.engine.Sweep(t.Context()); err != nil {
				t.Errorf("crash %d: %v", n, err)
			}
			l.allOK(t)
			if open := l.open(); len(open) > 0 || l.handles.count() > 0 {
				t.Errorf("crash %d: open %v, %d handles", n, open, l.handles.count())
			}
			if !strings.Contains(strings.Join(c.lines, ""), "announce") {
				continue
			}
			if o := l.read(c.run); len(o.result.Residue) > 0 {
				t.Errorf("crash %d: residue %q\n%s", n, o.result.Residue, strings.Join(o.tape(), "\n"))
			}
		}
		if len(crashes) < 20 {
			t.Errorf("%d crashes", len(crashes))
		}
	})
	bubble(t, "each write of the journal fails", func(t *testing.T) {
		for n := 1; ; n++ {
			l := newLab(t, "web-1")
			b := &broken{Store: l.store, n: n}
			l.engine = l.newEngine(b)
			o := l.run(again("", "name: web-1", "repeat: {pulse: {on: 100ms, off: 100ms}, times: 2}"))
			time.Sleep(time.Second)
			if b.kind == "" {
				return
			}
			l.afterFailure(t, o, b)
		}
	})
}
