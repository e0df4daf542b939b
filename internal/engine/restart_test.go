package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TestOnRestart has a target leave and come back while the fault is on.
func TestOnRestart(t *testing.T) {
	t.Parallel()
	kinds := []experiment.EventKind{experiment.EventInjected, experiment.EventReinjected, experiment.EventLeft, experiment.EventTakeBack}
	for _, c := range []struct {
		name, fault, target, action string
		at                          time.Duration // when web-1 is restarted
		want                        []string
		verdict                     experiment.Verdict
		note, reason                string
		warned                      bool
	}{
		{
			name: "reinject", target: "name: web-1", action: "for: 2s, onRestart: reinject", at: 450 * ms, verdict: experiment.Pass, warned: true,
			want: []string{"injected 1 @0s", "reinjected 1 @500ms", "takeback 1 end @2s", "takeback 0 end @2s"},
			note: "web-1 came back, and the fault is on it again",
		},
		{
			name: "stop", target: "name: web-1", action: "for: 2s, onRestart: stop", at: 450 * ms, verdict: experiment.Pass,
			want: []string{"injected 1 @0s", "left @500ms", "takeback 1 end @500ms", "takeback 0 end @500ms"},
			note: "web-1 left while the fault was on, and was left alone from then on (onRestart: stop)",
		},
		{
			name: "stop, and another target goes on", target: "mode: all", action: "for: 2s, onRestart: stop", at: 450 * ms, verdict: experiment.Pass,
			want: []string{"injected 1 @0s", "left @500ms", "takeback 1 end @2s", "takeback 0 end @2s"},
			note: "web-1 left while the fault was on, and was left alone from then on (onRestart: stop)",
		},
		{
			name: "stop, by its identity", target: "name: web-1, identity: true", action: "for: 2s, onRestart: stop", at: 450 * ms, verdict: experiment.Pass,
			want: []string{"injected 1 @0s", "left @500ms", "takeback 1 end @500ms", "takeback 0 end @500ms"},
			note: "web-1 left while the fault was on, and was left alone from then on (onRestart: stop)",
		},
		{
			name: "fail", target: "name: web-1", action: "for: 2s, onRestart: fail", at: 450 * ms, verdict: experiment.Fail, warned: true,
			want:   []string{"injected 1 @0s", "takeback 1 restarted @500ms", "takeback 0 restarted @500ms"},
			reason: "web-1 left while set was on (onRestart: fail)",
		},
		{
			name: "fail, of no workload", target: "name: web-1, loose: true", action: "for: 2s, onRestart: fail", at: 450 * ms, verdict: experiment.Fail, warned: true,
			want:   []string{"injected 1 @0s", "takeback 1 restarted @500ms", "takeback 0 restarted @500ms"},
			reason: "web-1 left while set was on (onRestart: fail)",
		},
		{
			name: "fail, right before the end", target: "name: web-1", action: "for: 2s, onRestart: fail", at: 1950 * ms, verdict: experiment.Fail, warned: true,
			want:   []string{"injected 1 @0s", "takeback 1 restarted @2s", "takeback 0 restarted @2s"},
			reason: "web-1 left while set was on (onRestart: fail)",
		},
		{
			name: "fail, while a pulse is off", target: "name: web-1", action: "for: 2s, onRestart: fail, repeat: {pulse: {on: 200ms, off: 400ms}}", at: 450 * ms, verdict: experiment.Fail,
			want:   []string{"injected 1 @0s", "takeback 1 restarted @500ms", "takeback 0 restarted @500ms"},
			reason: "web-1 left while set was on (onRestart: fail)",
		},
		{
			name: "the fault itself ends it", fault: ", ends: true", target: "name: web-1", action: "for: 2s, onRestart: fail", at: 450 * ms, verdict: experiment.Pass, warned: true,
			want: []string{"injected 1 @0s", "takeback 1 end @2s", "takeback 0 end @2s"},
		},
		{
			name: "the fault itself ends it: it is not struck again", fault: ", ends: true", target: "name: web-1", action: "for: 2s", at: 450 * ms, verdict: experiment.Pass, warned: true,
			want: []string{"injected 1 @0s", "takeback 1 end @2s", "takeback 0 end @2s"},
		},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "web-2")
			l.after("injected 1", c.at, func() { l.restart("web-1") })
			o := l.run(again(c.fault, c.target, c.action))
			must(t, o.err)
			same(t, "events", o.at(kinds...), c.want)
			if notes := strings.Join(o.result.Faults[0].Notes, "|"); notes != c.note {
				t.Errorf("notes %q", notes)
			}
			if reasons := strings.Join(o.result.Reasons, "|"); reasons != c.reason {
				t.Errorf("reasons %q", reasons)
			}
			if got := len(o.warned()) > 0; got != c.warned {
				t.Errorf("warnings %q", o.warned())
			}
			o.verdict(t, c.verdict)
			o.tidy(t)
		})
	}
	bubble(t, "stop takes back what outlives the target", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2", "place-1")
		l.after("injected 1", 450*ms, func() { l.restart("web-1") })
		value := make(chan string, 1)
		l.after("injected 1", 900*ms, func() { value <- l.world.Value("place-1/1") })
		o := l.run("\n  method:\n    - {fault: {type: placed, follow: {}}, target: {type: aged, name: web-1, net: 7}, for: 2s, onRestart: stop}\n    - {name: b, fault: {type: set}, target: {type: aged, name: web-2}, for: 2s, parallel: true}\n  recovery: {within: 1s}\n")
		must(t, o.err)
		same(t, "after it has left", <-value, "ok")
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	for _, c := range []struct {
		name, onRestart string
		twice           bool // it leaves once more
		want            []string
		verdict         experiment.Verdict
	}{
		{"a fault that starts it anew is on what comes", "reinject", false, []string{"injected 1 @0s", "takeback 1 end @2s", "takeback 0 end @2s"}, experiment.Pass},
		{"and that may restart by itself", "reinject", true, []string{"injected 1 @0s", "reinjected 1 @1s", "takeback 1 end @2s", "takeback 0 end @2s"}, experiment.Pass},
		{"which then counts", "fail", true, []string{"injected 1 @0s", "takeback 1 restarted @1s", "takeback 0 restarted @1s"}, experiment.Fail},
		{"but not the first time", "fail", false, []string{"injected 1 @0s", "takeback 1 end @2s", "takeback 0 end @2s"}, experiment.Pass},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "place-1")
			l.after("injected 1", 450*ms, func() { l.restart("web-1") })
			if c.twice {
				l.after("injected 1", 950*ms, func() { l.restart("web-1") })
			}
			o := l.run("\n  method:\n    - {fault: {type: placed, ends: true}, target: {type: aged, name: web-1, net: 7}, for: 2s, onRestart: " + c.onRestart + "}\n  recovery: {within: 1s}\n")
			must(t, o.err)
			same(t, "events", o.at(kinds...), c.want)
			same(t, "changed", l.struck(), []string{"place-1"})
			o.verdict(t, c.verdict)
			o.tidy(t)
		})
	}
	bubble(t, "fail ends the actions beside it", func(t *testing.T) {
		l := newLab(t, "web-1", "db-1")
		l.after("injected 2", 450*ms, func() { l.restart("web-1") })
		o := l.run(`
  method:
    - {name: a, fault: {type: set}, target: {type: aged, name: web-1}, for: 2s, onRestart: fail}
    - {name: b, fault: {type: set}, target: {type: aged, name: db-1}, for: 2s, parallel: true}
    - {name: never, fault: {type: set}, target: {type: aged, name: db-1}, for: 2s}
  recovery: {within: 1s}
`)
		must(t, o.err)
		if l.injected() != 2 || o.has("announce 3") {
			t.Errorf("%d changes\n%s", l.injected(), strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Fail)
		o.tidy(t)
	})
}

// TestReinjectWithinASecond measures how long what came back goes without the
// fault, at any moment at which it may come.
func TestReinjectWithinASecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		slow time.Duration // how long a look for it takes
		most time.Duration
	}{{"a quick selector", 0, 100 * ms}, {"one that takes 30 ms", 30 * ms, 430 * ms}, {"one that takes 200 ms", 200 * ms, time.Second}} {
		bubble(t, c.name, func(t *testing.T) {
			var worst time.Duration
			for away := 0 * ms; away < 700*ms; away += 35 * ms {
				worst = max(worst, backAfter(t, c.slow, away))
			}
			if t.Logf("struck %s after it came back at the most", worst); worst > c.most {
				t.Errorf("want %s", c.most)
			}
		})
	}
}

// backAfter has a target be away for so long, and returns how long after it
// came back the fault is on it again.
func backAfter(t *testing.T, slow, away time.Duration) time.Duration {
	t.Helper()
	l := newLab(t, "web-1")
	var back experiment.BootTime
	l.after("injected 1", 433*ms, func() {
		l.leave("web-1")
		l.mu.Lock()
		l.looking = func(context.Context) { time.Sleep(slow) }
		l.mu.Unlock()
		time.AfterFunc(away, func() {
			l.come("web-1")
			l.mu.Lock()
			defer l.mu.Unlock()
			back = l.boot()
		})
	})
	o := l.run(strings.Replace(held("", "name: web-1"), "2s", "4s", 1))
	must(t, o.err)
	again := o.find(experiment.EventReinjected)
	if len(again) != 1 {
		t.Fatalf("away for %s: it was struck again %d times", away, len(again))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return again[0].Boot.Sub(back)
}
