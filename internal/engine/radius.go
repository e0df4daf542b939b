package engine

import (
	"fmt"
	"math/rand/v2"

	"github.com/simianhq/simian/experiment"
)

// limit draws from what was found what the mode says, of each group, and the
// blast radius allows over all.
func (p *planner) limit(i, strike int, plan *ActionPlan, spare *reserve) error {
	rng := rand.New(rand.NewPCG(p.seed, uint64(i)<<32|uint64(strike)))
	lot, err := cast(p.x.Spec.Method[i].Target, plan.found, rng)
	if err != nil {
		return &ActionError{i, lot.field, err}
	}
	plan.Notes = append(plan.Notes, lot.notes...)
	budget, limit, err := p.budget(plan.found, plan.Scope)
	if err != nil {
		return err
	}
	chosen := make([]experiment.Target, 0, lot.want)
	for _, g := range lot.groups {
		chosen = append(chosen, g.take(spare)...)
	}
	if len(chosen) == 0 {
		return &ActionError{i, "target", spare.none()}
	}
	plan.Targets = chosen
	if budget >= 0 {
		plan.Targets = p.within(chosen, lot, budget, spare)
	}
	if len(plan.Targets) == 0 {
		return &ActionError{i, "target", fmt.Errorf("the blast radius (%s) leaves no target: the run has touched %d already", limit, len(p.touched))}
	}
	if len(plan.Targets) == len(chosen) {
		limit = spare.refused()
	}
	plan.Limited = limitedTo(len(plan.Targets), lot.want, limit)
	return nil
}

// limitedTo says what kept an action from more targets, "" where nothing did.
func limitedTo(kept, want int, limit string) string {
	if kept == want {
		return ""
	}
	return fmt.Sprintf("%d of %d drawn: blastRadius %s", kept, want, limit)
}

// within keeps of chosen what fits the budget for new targets; where nothing
// of it fits, it takes targets that the run has touched before.
func (p *planner) within(chosen []experiment.Target, lot lot, budget int, spare *reserve) []experiment.Target {
	var kept []experiment.Target
	for _, t := range chosen {
		if _, old := p.touched[t.ID]; old {
			kept = append(kept, t)
		} else if budget > 0 {
			kept = append(kept, t)
			budget--
		}
	}
	if len(kept) > 0 {
		return kept
	}
	for _, g := range lot.groups {
		again := drawing{want: min(g.want, len(chosen)-len(kept))}
		for _, t := range g.order {
			if _, old := p.touched[t.ID]; old {
				again.order = append(again.order, t)
			}
		}
		kept = append(kept, again.take(spare)...)
	}
	return kept
}

// draw returns how many of n targets the mode takes.
func draw(t experiment.TargetSpec, n int, rng *rand.Rand) (int, error) {
	share := int(float64(t.Percent) * float64(n) / 100)
	switch t.Mode {
	case experiment.ModeAll:
		return n, nil
	case experiment.ModeFixed:
		return min(t.Count, n), nil
	case experiment.ModeFixedPercent, experiment.ModeRandomMaxPercent:
		if share == 0 {
			return 0, fmt.Errorf("%v %% of %d running targets is 0 (rounded down): give a larger percent", float64(t.Percent), n)
		}
		if t.Mode == experiment.ModeRandomMaxPercent {
			share = 1 + rng.IntN(share)
		}
		return share, nil
	}
	return min(1, n), nil
}

// budget returns how many targets more the run may touch, -1 where there is
// no bound, and the bound in words.
func (p *planner) budget(found []experiment.Target, scope int) (int, string, error) {
	b := p.x.Spec.BlastRadius
	limit, why := -1, ""
	if b.Targets > 0 {
		limit, why = b.Targets, fmt.Sprintf("targets: %d", b.Targets)
	}
	if b.Percent != nil {
		share := int(float64(*b.Percent) * float64(scope) / 100)
		if share == 0 {
			return 0, "", &ActionError{-1, "blastRadius/percent", fmt.Errorf("%v %% of %d running targets is 0 (rounded down): give a larger percent", float64(*b.Percent), scope)}
		}
		if limit < 0 || share < limit {
			limit, why = share, fmt.Sprintf("percent: %v of %d", float64(*b.Percent), scope)
		}
	}
	if limit < 0 {
		return -1, "", nil
	}
	return max(0, limit-p.inUse(found)), why, nil
}

// inUse counts the targets touched that are still there, and those gone that
// their workload has not replaced yet.
func (p *planner) inUse(found []experiment.Target) int {
	now := experiment.Workloads(found)
	used, dead := 0, map[string]int{}
	for _, t := range p.touched {
		if p.engine.System.Alive(t) {
			used++
		} else {
			dead[t.Workload]++
		}
	}
	for w, n := range dead {
		used += min(n, max(0, p.normal[w]-now[w]))
	}
	return used
}
