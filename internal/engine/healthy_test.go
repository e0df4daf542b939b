package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// TestMinHealthy asks how many targets a plan takes, and why no more.
func TestMinHealthy(t *testing.T) {
	t.Parallel()
	action := func(name, target, more string) string {
		return "    - {name: " + name + ", fault: {type: set}, target: {type: aged, " + target + "}, for: 1s" + more + "}\n"
	}
	for _, c := range []struct {
		name, method, radius string
		counts               []int
		limited              string // of the last action
		refused              string
	}{
		{name: "a number", method: action("a", `name: "web-*", mode: all`, ""), radius: "minHealthy: 3", counts: []int{1}, limited: "1 of 4 drawn: blastRadius minHealthy: 3 of 4 web"},
		{name: "a percentage is rounded up", method: action("a", `name: "web-*", mode: all`, ""), radius: "minHealthy: 51%", counts: []int{1}, limited: "1 of 4 drawn: blastRadius minHealthy: 51% of 4 web"},
		{name: "half", method: action("a", `name: "web-*", mode: all`, ""), radius: "minHealthy: 50%", counts: []int{2}, limited: "2 of 4 drawn: blastRadius minHealthy: 50% of 4 web"},
		{name: "enough", method: action("a", `name: "web-*"`, ""), radius: "minHealthy: 3", counts: []int{1}},
		{name: "of each workload", method: action("a", `name: "*", mode: all`, ""), radius: "minHealthy: 1", counts: []int{3}, limited: "3 of 5 drawn: blastRadius minHealthy: 1 of "},
		{name: "another is drawn", method: action("a", `name: "*"`, ""), radius: "minHealthy: 1", counts: []int{1}},
		{name: "none to spare", method: action("a", `name: db-1`, ""), radius: "minHealthy: 1", refused: "minHealthy: 1 of 1 db: 1 is healthy and has no fault on it now, so none may be struck"},
		{name: "more than there are", method: action("a", `name: "web-*"`, ""), radius: "minHealthy: 5", refused: "minHealthy: 5 of 4 web: 4 are healthy and have no fault on them now, so none may be struck"},
		{name: "one is not healthy", method: action("a", `name: "web-*", sick: web-2, mode: all`, ""), radius: "minHealthy: 3", counts: []int{1}, limited: "1 of 4 drawn: blastRadius minHealthy: 3 of 4 web"},
		{name: "with targets", method: action("a", `name: "web-*", mode: all`, ""), radius: "minHealthy: 1, targets: 2", counts: []int{2}, limited: "2 of 4 drawn: blastRadius targets: 2"},
		{name: "with percent", method: action("a", `name: "web-*", mode: all`, ""), radius: "minHealthy: 2, percent: 75", counts: []int{2}, limited: "2 of 4 drawn: blastRadius minHealthy: 2 of 4 web"},
		{name: "one after the other", method: action("a", `name: "web-*"`, "") + action("b", `name: "web-*"`, "") + action("c", `name: "web-*"`, ""), radius: "minHealthy: 3", counts: []int{1, 1, 1}},
		{name: "at once", method: action("a", `name: "web-1", whole: true`, "") + action("b", `name: "web-[23]", mode: all, whole: true`, ", parallel: true, after: 100ms"), radius: "minHealthy: 1", counts: []int{1, 2}},
		{name: "too many at once", method: action("a", `name: "web-1", whole: true`, "") + action("b", `name: "web-2", whole: true`, ", parallel: true"), radius: "minHealthy: 3", refused: "minHealthy: 3 of 4 web: 3 are healthy and have no fault on them now, so none may be struck"},
		{name: "staggered, and apart", method: action("a", `name: "web-1", whole: true`, "") + action("b", `name: "web-2", whole: true`, ", parallel: true, after: 3s"), radius: "minHealthy: 3", counts: []int{1, 1}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			for seed := range 5 {
				l := newLab(t, fleet...)
				o := l.run("\n  method:\n" + c.method + "  blastRadius: {" + c.radius + "}\n" + fmt.Sprintf("  seed: %d\n", seed))
				if c.refused != "" {
					if o.run != "" || o.err == nil || o.err.Error() != c.refused || l.injected() > 0 {
						t.Errorf("run %q: %v", o.run, o.err)
					}
					continue
				}
				must(t, o.err)
				var counts []int
				for _, names := range o.targetsOf() {
					counts = append(counts, len(names))
				}
				same(t, "targets", counts, c.counts)
				plans := o.find(experiment.EventPlan)
				if got := plans[len(plans)-1].Plan.Limited; !strings.HasPrefix(got, c.limited) || c.limited == "" && got != "" {
					t.Errorf("limited to %q, want %q", got, c.limited)
				}
				o.verdict(t, experiment.Pass)
				o.tidy(t)
			}
		})
	}
	bubble(t, "what another action holds counts", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		o := l.run("\n  method:\n" + action("a", "name: \"web-*\"", "") + action("b", "name: \"web-*\"", ", parallel: true, after: 500ms") + "  blastRadius: {minHealthy: 1}\n  seed: 1\n")
		if o.run != "" || o.err == nil || !strings.Contains(o.err.Error(), "minHealthy: 1 of 2 web: ") && !strings.Contains(o.err.Error(), "overlap in time") {
			t.Errorf("run %q: %v", o.run, o.err)
		}
	})
	bubble(t, "what died meanwhile counts when it strikes", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2", "db-1", "db-2")
		l.once("takeback 1 end", func(*experiment.Event) { l.leave("web-1") })
		o := l.run("\n  method:\n" + action("a", "name: db-1, whole: true", "") + action("b", `name: "web-*"`, "") + "  blastRadius: {minHealthy: 50%}\n  recovery: {within: 1s}\n")
		o.verdict(t, experiment.Errored)
		if want := "minHealthy: 50% of 2 web"; l.injected() != 1 || !strings.Contains(o.result.Error, want) {
			t.Errorf("%d changes, %q", l.injected(), o.result.Error)
		}
		l.allOK(t)
	})
}

// TestMinHealthyOverTime: strikes again, pulses and reinjections keep to it.
func TestMinHealthyOverTime(t *testing.T) {
	t.Parallel()
	bubble(t, "a strike is left out", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.after("injected 1", 150*ms, func() { l.leave("web-1") })
		l.after("injected 1", 350*ms, func() { l.come("web-1") })
		o := l.run(again(", noUndo: true, once: true, value: ok", `name: "web-*"`, "for: 600ms, irreversible: true, repeat: {every: 100ms}") + "  blastRadius: {minHealthy: 1}\n")
		must(t, o.err)
		if w := o.warned(); len(w) < 2 || !strings.HasPrefix(w[1], "strike 4 was left out: minHealthy: 1 of 2 web: 1 is healthy") || !strings.HasPrefix(w[0], "strike 3 was left out: minHealthy: 1 of 2 web: 1 is healthy") {
			t.Errorf("warnings %q", w)
		}
		same(t, "strikes", o.result.Faults[0].Strikes, 4)
	})
	bubble(t, "it waits to strike again until there are enough", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2", "web-3")
		l.after("injected 1", 450*ms, func() { l.restart("web-1"); l.leave("web-3") })
		l.after("injected 1", 1250*ms, func() { l.come("web-3") })
		o := l.run(strings.Replace(held("", `name: "web-*"`), "mode: one", "", 1) + "  blastRadius: {minHealthy: 2}\n  seed: " + seedThatDraws(t, "web-1") + "\n")
		must(t, o.err)
		same(t, "times", o.at(experiment.EventReinjected), []string{"reinjected 1 @1.3s"})
		if w := o.warned(); len(w) == 0 || !strings.Contains(w[0], "web-1 came back, and could not be struck again: minHealthy: 2 of 3 web") {
			t.Errorf("warnings %q", w)
		}
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
	bubble(t, "a pulse is left out", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2", "web-3")
		l.after("injected 1", 150*ms, func() { l.leave("web-3") })
		l.after("injected 1", 350*ms, func() { l.come("web-3") })
		o := l.run(again("", `name: "web-*"`, "for: 800ms, repeat: {pulse: {on: 100ms, off: 100ms}}") + "  blastRadius: {minHealthy: 2}\n  seed: " + seedThatDraws(t, "web-1") + "\n")
		must(t, o.err)
		if w := o.warned(); len(w) != 1 || !strings.HasPrefix(w[0], "strike 2 was left out: minHealthy: 2 of 3 web") {
			t.Errorf("warnings %q", w)
		}
		same(t, "strikes", o.result.Faults[0].Strikes, 3)
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
}

// seedThatDraws finds a seed that draws one target of three.
func seedThatDraws(t *testing.T, name string) string {
	t.Helper()
	l := newLab(t, "web-1", "web-2", "web-3")
	for seed := range 100 {
		names, err := drawn(t, l, `name: "web-*"`, seed, "")
		must(t, err)
		if names[0] == name {
			return fmt.Sprint(seed)
		}
	}
	t.Fatal("no seed draws " + name)
	return ""
}
