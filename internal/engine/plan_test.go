package engine_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
)

var fleet = []string{"web-1", "web-2", "web-3", "web-4", "db-1"}

// drawn plans one action with this target, and returns the names drawn.
func drawn(t *testing.T, l *lab, target string, seed int, more string) ([]string, error) {
	t.Helper()
	spec := fmt.Sprintf("\n  method:\n    - {fault: {type: set}, target: {type: world, %s}, for: 1s}\n  seed: %d\n%s", target, seed, more)
	plans, err := l.engine.Plan(context.Background(), l.load(spec), "abcd23")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, target := range plans[0].Targets {
		names = append(names, target.Name)
	}
	return names, nil
}

// TestModes draws with a hundred seeds.
func TestModes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target   string
		min, max int
	}{
		{`name: "web-*"`, 1, 1},
		{`name: "web-*", mode: all`, 4, 4},
		{`name: "*", mode: all`, 5, 5},
		{`name: "web-*", mode: fixed, count: 3`, 3, 3},
		{`name: "web-*", mode: fixed, count: 9`, 4, 4},
		{`name: "web-*", mode: fixed-percent, percent: 50`, 2, 2},
		{`name: "web-*", mode: fixed-percent, percent: 74`, 2, 2},
		{`name: "web-*", mode: fixed-percent, percent: 100`, 4, 4},
		{`name: "web-*", mode: random-max-percent, percent: 75`, 1, 3},
	} {
		bubble(t, c.target, func(t *testing.T) {
			l := newLab(t, fleet...)
			sizes, sets := map[int]bool{}, map[string]bool{}
			for seed := range 100 {
				names, err := drawn(t, l, c.target, seed, "")
				must(t, err)
				again, err := drawn(t, l, c.target, seed, "")
				must(t, err)
				same(t, "the same seed", again, names)
				if len(names) < c.min || len(names) > c.max {
					t.Fatalf("seed %d draws %v", seed, names)
				}
				slices.Sort(names)
				if len(slices.Compact(names)) != len(names) {
					t.Fatalf("seed %d draws one twice: %v", seed, names)
				}
				sizes[len(names)], sets[strings.Join(names, " ")] = true, true
			}
			if !sizes[c.min] || !sizes[c.max] {
				t.Errorf("from %d to %d are to be drawn, not %v", c.min, c.max, sizes)
			}
			if c.min < 4 && len(sets) < 4 {
				t.Errorf("100 seeds draw %v", sets)
			}
		})
	}
	bubble(t, "the seed is the run's", func(t *testing.T) {
		l := newLab(t, fleet...)
		x := l.load("\n  method:\n    - {fault: {type: set}, target: {type: world}, for: 1s}\n")
		if engine.Seed(x, "abcd23") == engine.Seed(x, "abcd24") {
			t.Error("two runs have one seed")
		}
		o := l.run("\n  method:\n    - {fault: {type: set}, target: {type: world}, for: 1s}\n")
		names, err := drawn(t, l, "name: \"*\"", 0, "")
		must(t, err)
		again := l.run(fmt.Sprintf("\n  method:\n    - {fault: {type: set}, target: {type: world}, for: 1s}\n  seed: %d\n", o.result.Seed))
		same(t, "with the seed that the result prints", again.targetsOf(), o.targetsOf())
		_ = names
	})
}

// TestGroupBy draws of each group, deterministically.
func TestGroupBy(t *testing.T) {
	t.Parallel()
	names := []string{"db-1", "db-2", "web-1", "web-2", "web-3", "web-4", "mail-1"}
	for _, c := range []struct {
		target, more string
		want         map[string]int // of each group; -1 for 1 or 2
	}{
		{`groupBy: workload`, "", map[string]int{"db": 1, "web": 1, "mail": 1}},
		{`groupBy: "label:app"`, "", map[string]int{"db": 1, "web": 1, "mail": 1}},
		{`mode: fixed, count: 2, groupBy: workload`, "", map[string]int{"db": 2, "web": 2, "mail": 1}},
		{`mode: fixed-percent, percent: 50, groupBy: workload`, "", map[string]int{"db": 1, "web": 2}},
		{`mode: random-max-percent, percent: 50, groupBy: workload`, "", map[string]int{"db": 1, "web": -1}},
		{`groupBy: workload`, "  blastRadius: {minHealthy: 1}\n", map[string]int{"db": 1, "web": 1}},
	} {
		bubble(t, c.target+c.more, func(t *testing.T) {
			l := newLab(t, names...)
			sets := map[string]bool{}
			for seed := range 50 {
				got, err := drawn(t, l, c.target, seed, c.more)
				must(t, err)
				again, err := drawn(t, l, c.target, seed, c.more)
				must(t, err)
				same(t, "the same seed", again, got)
				counts := map[string]int{}
				for _, name := range got {
					group, _, _ := strings.Cut(name, "-")
					counts[group]++
				}
				for group, n := range c.want {
					if n < 0 && counts[group] <= 2 && counts[group] > 0 {
						counts[group] = n
					}
				}
				same(t, "of each group", counts, c.want)
				sets[strings.Join(got, " ")] = true
			}
			if len(sets) < 4 {
				t.Errorf("50 seeds draw %v", sets)
			}
		})
	}
	bubble(t, "a bound spares no group for its name", func(t *testing.T) {
		l, seen := newLab(t, names...), map[string]bool{}
		for seed := range 60 {
			got, err := drawn(t, l, "groupBy: workload", seed, "  blastRadius: {targets: 1}\n")
			must(t, err)
			same(t, "drawn", len(got), 1)
			group, _, _ := strings.Cut(got[0], "-")
			seen[group] = true
		}
		same(t, "groups drawn from", len(seen), 3)
	})
	bubble(t, "no such label", func(t *testing.T) {
		_, err := drawn(t, newLab(t, names...), `groupBy: "label:none"`, 1, "")
		action, ok := err.(*engine.ActionError)
		if !ok || action.Field != "target/groupBy" || !strings.Contains(err.Error(), "none of the 7 targets found has the label") {
			t.Errorf("%v", err)
		}
	})
	bubble(t, "a share of nothing in every group", func(t *testing.T) {
		_, err := drawn(t, newLab(t, "a-1", "b-1"), `mode: fixed-percent, percent: 50, groupBy: workload`, 1, "")
		if err == nil || !strings.Contains(err.Error(), "50 % of 1 running targets is 0") {
			t.Errorf("%v", err)
		}
	})
}

// TestAllow leaves out what is not allowed before the draw, for good.
func TestAllow(t *testing.T) {
	t.Parallel()
	refused := errors.New("not today")
	bubble(t, "some", func(t *testing.T) {
		l := newLab(t, fleet...)
		l.engine.Allow = func(t experiment.Target) error {
			if t.Name == "web-2" || t.Name == "db-1" {
				return nil
			}
			return refused
		}
		for seed := range 20 {
			names, err := drawn(t, l, "name: \"web-*\"", seed, "")
			must(t, err)
			same(t, "drawn", names, []string{"web-2"})
		}
		o := l.run("\n  method:\n    - {fault: {type: set}, target: {type: world, mode: all}, for: 1s}\n")
		must(t, o.err)
		same(t, "struck", len(o.targetsOf()[0]), 2)
		o.tidy(t)
	})
	bubble(t, "none", func(t *testing.T) {
		l := newLab(t, fleet...)
		l.engine.Allow = func(experiment.Target) error { return refused }
		o := l.run("\n  method:\n    - {fault: {type: set}, target: {type: world}, for: 1s}\n")
		if action, ok := o.err.(*engine.ActionError); !ok || action.Field != "target" || !errors.Is(o.err, refused) || o.run != "" {
			t.Errorf("run %q: %v", o.run, o.err)
		}
		same(t, "changes", l.injected(), 0)
	})
}

func TestShareOfNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, target, more, field string }{
		{"fixed-percent", `name: "web-*", mode: fixed-percent, percent: 24`, "", "target/mode"},
		{"random-max-percent", `name: "web-*", mode: random-max-percent, percent: 24`, "", "target/mode"},
		{"blast radius", `name: "web-*"`, "  blastRadius: {percent: 24}\n", "blastRadius/percent"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			_, err := drawn(t, newLab(t, fleet...), c.target, 1, c.more)
			action, ok := err.(*engine.ActionError)
			if !ok || action.Field != c.field || err.Error() != "24 % of 4 running targets is 0 (rounded down): give a larger percent" {
				t.Errorf("it gives %v", err)
			}
		})
	}
}

// TestBlastRadius asks for more than it allows.
func TestBlastRadius(t *testing.T) {
	t.Parallel()
	action := func(name, target string) string {
		return "    - {name: " + name + ", fault: {type: set}, target: {type: world, " + target + "}, for: 1s}\n"
	}
	for _, c := range []struct {
		name, method, radius string
		counts               []int // targets of each action
		union                int   // of all
	}{
		{"targets", action("a", `name: "web-*", mode: all`), "targets: 2", []int{2}, 2},
		{"percent", action("a", `name: "web-*", mode: all`), "percent: 75", []int{3}, 3},
		{"percent is rounded down", action("a", `name: "web-*", mode: all`), "percent: 74", []int{2}, 2},
		{"both hold", action("a", `name: "web-*", mode: all`), "targets: 3, percent: 50", []int{2}, 2},
		{"of the whole run", action("a", `name: "web-*"`) + action("b", `name: "web-*"`) + action("c", `name: "web-*"`), "targets: 1", []int{1, 1, 1}, 1},
		{"union", action("a", `name: "web-*", mode: fixed, count: 2`) + action("b", `name: "web-*", mode: all`), "targets: 3", []int{2, 3}, 3},
		{"enough", action("a", `name: "web-*", mode: all`), "percent: 100", []int{4}, 4},
	} {
		bubble(t, c.name, func(t *testing.T) {
			for seed := range 10 {
				l := newLab(t, fleet...)
				o := l.run(fmt.Sprintf("\n  method:\n%s  blastRadius: {%s}\n  seed: %d\n", c.method, c.radius, seed))
				must(t, o.err)
				var counts []int
				union := map[string]bool{}
				for _, names := range o.targetsOf() {
					counts = append(counts, len(names))
					for _, name := range names {
						union[name] = true
					}
				}
				same(t, "targets of each action", counts, c.counts)
				same(t, "targets of the run", len(union), c.union)
				if first := o.find(experiment.EventPlan)[0].Plan; c.union < 4 && len(c.counts) == 1 && !strings.Contains(first.Limited, "blastRadius") {
					t.Errorf("limited: %q", first.Limited)
				}
				o.tidy(t)
			}
		})
	}
	bubble(t, "nothing is left", func(t *testing.T) {
		l := newLab(t, fleet...)
		o := l.run("\n  method:\n" + action("a", "name: web-1") + action("b", "name: db-1") + "  blastRadius: {targets: 1}\n")
		if o.run != "" || o.err == nil || !strings.Contains(o.err.Error(), "blast radius (targets: 1) leaves no target") {
			t.Errorf("run %q: %v", o.run, o.err)
		}
		same(t, "changes", l.injected(), 0)
	})
	bubble(t, "in place of one that left", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		l.on = append(l.on, func(e *experiment.Event) {
			if e.Kind == experiment.EventApplied && e.Step == 1 {
				records := must2(l.world.Log())
				must(t, l.world.Remove(filepath.Base(filepath.Dir(records[0].Path))))
			}
		})
		o := l.run(`
  method:
    - {fault: {type: set, steps: 2}, target: {type: world, name: "web-*"}, for: 1s}
  blastRadius: {targets: 1}
  recovery: {within: 1s}
`)
		if len(o.targetsOf()) != 1 || l.injected() != 1 {
			t.Errorf("one was broken, and left; all that were planned: %v", o.targetsOf())
		}
	})
}
