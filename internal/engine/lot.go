package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// lot is how many targets an action draws, and in what order they are asked.
type lot struct {
	groups []drawing
	want   int      // of all groups
	notes  []string // which groups have no part in it, and why
	field  string   // of the action's that an error is to blame on
}

// drawing is the lot of one group.
type drawing struct {
	order []experiment.Target // all of the group
	want  int
}

// take returns the first of the order, so many as are wanted, that can be
// spared.
func (d drawing) take(spare *reserve) []experiment.Target {
	var chosen []experiment.Target
	for _, t := range d.order {
		if len(chosen) < d.want && spare.take(t) {
			chosen = append(chosen, t)
		}
	}
	return chosen
}

// cast draws lots among found: of each group as many as the mode says. The
// same targets and the same rng give the same. No group is before another in
// the order by its name, so that a blast radius does not spare the last ones.
func cast(t experiment.TargetSpec, found []experiment.Target, rng *rand.Rand) (lot, error) {
	if t.GroupBy == "" {
		order := shuffled(found, rng)
		want, err := draw(t, len(found), rng)
		return lot{groups: []drawing{{order, want}}, want: want, field: "target/mode"}, err
	}
	groups, names, without := grouped(t.GroupBy, found)
	l := lot{field: "target/groupBy"}
	if len(names) == 0 {
		return l, fmt.Errorf("none of the %d targets found has the label of %s: %w", len(found), t.GroupBy, experiment.ErrNoMatch)
	}
	if without > 0 {
		l.notes = append(l.notes, fmt.Sprintf("%d of the %d targets found are left out: they have no %s", without, len(found), t.GroupBy))
	}
	var refused error
	for _, n := range rng.Perm(len(names)) {
		group := groups[names[n]]
		order := shuffled(group, rng)
		want, err := draw(t, len(group), rng)
		if err != nil {
			refused = err
			l.notes = append(l.notes, fmt.Sprintf("none of %s is drawn: %v %% of %d is 0 (rounded down)", names[n], float64(t.Percent), len(group)))
			continue
		}
		l.groups, l.want = append(l.groups, drawing{order, want}), l.want+want
	}
	slices.Sort(l.notes)
	if l.want == 0 {
		l.field = "target/mode"
		return l, refused
	}
	return l, nil
}

// grouped puts found into groups, by their sorted names, and counts those that
// are in none.
func grouped(by experiment.GroupBy, found []experiment.Target) (groups map[string][]experiment.Target, names []string, without int) {
	groups = map[string][]experiment.Target{}
	for _, t := range found {
		name, ok := by.Group(t)
		if !ok {
			without++
			continue
		}
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], t)
	}
	slices.Sort(names)
	return groups, names, without
}

func shuffled(found []experiment.Target, rng *rand.Rand) []experiment.Target {
	order := make([]experiment.Target, 0, len(found))
	for _, n := range rng.Perm(len(found)) {
		order = append(order, found[n])
	}
	return order
}
