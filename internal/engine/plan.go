package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// ActionPlan is what an action would do now.
type ActionPlan struct {
	experiment.Plan
	Steps   []experiment.PlannedStep
	Pending bool // targets are not there yet: their steps are planned once the lab is up

	sight // what it was drawn from
}

// counter is an ability of a selector that may name a target by its identity,
// as by a pid: what is started in its place has another, so the running
// targets of its workload are counted apart.
type counter interface {
	ByIdentity() bool
	Running(ctx context.Context, workload string) (int, error)
}

// countsApart returns s where it names its targets by identity.
func countsApart(s experiment.Selector) (counter, bool) {
	c, ok := s.(counter)
	return c, ok && c.ByIdentity()
}

// scoper is an ability of a selector that finds its targets among others, such
// as the containers of a lab: percentages of the blast radius are of them all.
type scoper interface {
	Scope(ctx context.Context) (running int, err error)
}

// scope returns how many running targets a percentage is of.
func scope(ctx context.Context, s experiment.Selector, found []experiment.Target) (int, error) {
	if all, ok := s.(scoper); ok {
		return all.Scope(ctx)
	}
	return len(found), nil
}

// planner selects, limits and plans. It keeps what the run has touched, so
// that the blast radius holds for the whole of it.
type planner struct {
	engine  *Engine
	x       *experiment.Experiment
	run     experiment.RunID
	seed    uint64
	touched map[string]experiment.Target   // by ID
	normal  map[string]int                 // running targets of each workload at first sight
	steps   int                            // numbered so far
	struck  map[int][]experiment.Target    // by action: whom it holds, or who came in their place
	known   map[int]map[string]bool        // by action: IDs found when it was planned
	alive   map[string]experiment.BootTime // by ID: when one of struck was last seen alive
}

func (e *Engine) newPlanner(x *experiment.Experiment, run experiment.RunID, seed uint64) *planner {
	return &planner{
		engine: e, x: x, run: run, seed: seed,
		touched: map[string]experiment.Target{}, normal: map[string]int{},
		struck: map[int][]experiment.Target{}, known: map[int]map[string]bool{},
		alive: map[string]experiment.BootTime{},
	}
}

// Plan returns what each action of x would do now. It changes nothing.
func (e *Engine) Plan(ctx context.Context, x *experiment.Experiment, run experiment.RunID) ([]ActionPlan, error) {
	return e.newPlanner(x, run, Seed(x, run)).all(ctx)
}

// Seed returns what the choice of targets is drawn with: the file's seed, or
// else one that follows from the run's name.
func Seed(x *experiment.Experiment, run experiment.RunID) uint64 {
	if x.Spec.Seed != nil {
		return *x.Spec.Seed
	}
	var seed uint64
	for _, c := range []byte(run) {
		seed = seed<<5 ^ uint64(c)
	}
	return seed
}

// all plans every action, as if each were struck now.
func (p *planner) all(ctx context.Context) ([]ActionPlan, error) {
	var plans []ActionPlan
	for i := range p.x.Spec.Method {
		plan, err := p.action(ctx, i, 1)
		if err != nil {
			return nil, err
		}
		p.touch(plan.Targets)
		plans = append(plans, *plan)
	}
	return plans, nil
}

// strikes notes that action i has struck the targets of plan.
func (p *planner) strikes(i int, plan *ActionPlan) {
	p.struck[i] = append(p.struck[i], plan.Targets...)
	if p.known[i] == nil {
		p.known[i] = map[string]bool{}
	}
	for _, t := range plan.found {
		p.known[i][t.ID] = true
	}
	for _, t := range plan.Targets {
		p.alive[t.ID] = max(p.alive[t.ID], plan.asked)
	}
}

func (p *planner) touch(targets []experiment.Target) {
	for _, t := range targets {
		p.touched[t.ID] = t
	}
}

// action selects, limits, checks and plans one action.
func (p *planner) action(ctx context.Context, i, strike int) (*ActionPlan, error) {
	a := p.x.Spec.Method[i]
	seen, err := p.look(ctx, i)
	if err != nil {
		return nil, &ActionError{i, "target", err}
	}
	found := seen.found
	plan := &ActionPlan{Plan: experiment.Plan{Strike: strike, Scope: seen.running}, sight: *seen}
	if strike == 1 {
		plan.Strike = 0
	}
	if plan.Workloads, err = workloads(ctx, a.Target.Selector, found, nil); err != nil {
		return nil, &ActionError{i, "target", err}
	}
	p.noteNormal(plan.Workloads)
	if plan.Targets, plan.Limited, err = p.limit(a, i, strike, found, plan.Scope); err != nil {
		return nil, err
	}
	for _, t := range plan.Targets {
		if pending(a, t) {
			plan.Pending = true
			continue
		}
		if err := p.engine.System.Check(ctx, t); err != nil {
			return nil, &ActionError{i, "target", err}
		}
		if err := p.target(ctx, i, t, plan); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func (p *planner) noteNormal(now map[string]int) {
	for w, n := range now {
		if _, ok := p.normal[w]; !ok {
			p.normal[w] = n
		}
	}
}

// target adds the steps for one target to plan.
func (p *planner) target(ctx context.Context, i int, t experiment.Target, plan *ActionPlan) error {
	a := p.x.Spec.Method[i]
	steps, err := a.Fault.Plan(ctx, p.run, t)
	if err != nil {
		return &ActionError{i, "fault", fmt.Errorf("plan %s of %s: %w", a.Type, t.Name, err)}
	}
	for _, s := range steps {
		if s.Undo == nil && !a.Irreversible && leans(s.Do) == "" {
			return &ActionError{i, "fault", fmt.Errorf("%s: Simian cannot take this back, and nothing says that %s is restarted: say irreversible: true if that is meant", s.Do, t.Name)}
		}
		if b, ok := s.Do.(experiment.Backed); ok && plan.Backend == "" { // the first does it, others lead packets to it
			plan.Backend = b.Backend()
		}
		if n, ok := s.Do.(experiment.Noted); ok {
			for _, note := range n.Notes() {
				if note = t.Name + ": " + note; !slices.Contains(plan.Notes, note) {
					plan.Notes = append(plan.Notes, note)
				}
			}
		}
		p.steps++
		plan.Steps = append(plan.Steps, experiment.PlannedStep{N: p.steps, Target: t.ID, Step: s})
	}
	return nil
}

// leans returns what brings back what do takes away, "" where nothing does.
func leans(do experiment.Op) string {
	if l, ok := do.(experiment.Leaning); ok {
		return l.Leans()
	}
	return ""
}

// workloads counts the running targets of each workload among found; of those
// named in also, where none is found, zero.
func workloads(ctx context.Context, s experiment.Selector, found []experiment.Target, also map[string]int) (now map[string]int, err error) {
	now = experiment.Workloads(found)
	for w := range also {
		if _, ok := now[w]; !ok {
			now[w] = 0
		}
	}
	c, ok := countsApart(s)
	if !ok {
		return now, nil
	}
	for w := range maps.Clone(now) {
		if now[w], err = c.Running(ctx, w); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// limit draws from found what the mode says and the blast radius allows.
func (p *planner) limit(a experiment.Action, i, strike int, found []experiment.Target, scope int) ([]experiment.Target, string, error) {
	rng := rand.New(rand.NewPCG(p.seed, uint64(i)<<32|uint64(strike)))
	order := rng.Perm(len(found))
	want, err := draw(a.Target, len(found), rng)
	if err != nil {
		return nil, "", &ActionError{i, "target/mode", err}
	}
	budget, why, err := p.budget(found, scope)
	if err != nil {
		return nil, "", err
	}
	chosen := make([]experiment.Target, 0, want)
	for _, n := range order[:want] {
		chosen = append(chosen, found[n])
	}
	if budget < 0 {
		return chosen, "", nil
	}
	kept := p.within(chosen, found, order, budget)
	if len(kept) == 0 {
		return nil, "", &ActionError{i, "target", fmt.Errorf("the blast radius (%s) leaves no target: the run has touched %d already", why, len(p.touched))}
	}
	limited := ""
	if len(kept) < len(chosen) {
		limited = fmt.Sprintf("%d of %d drawn: blastRadius %s", len(kept), len(chosen), why)
	}
	return kept, limited, nil
}

// within keeps of chosen what fits the budget for new targets; where nothing
// of it fits, it takes targets that the run has touched before.
func (p *planner) within(chosen, found []experiment.Target, order []int, budget int) []experiment.Target {
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
	for _, n := range order {
		if _, old := p.touched[found[n].ID]; old && len(kept) < len(chosen) {
			kept = append(kept, found[n])
		}
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

// replan finds a target in the place of one that is gone: the same workload,
// and not touched yet.
func (p *planner) replan(ctx context.Context, i int, gone experiment.Target) (*ActionPlan, error) {
	seen, err := p.look(ctx, i)
	if err != nil {
		return nil, err
	}
	if budget, why, err := p.budget(seen.found, seen.running); err != nil || budget == 0 {
		return nil, errors.Join(err, fmt.Errorf("%s left, and the blast radius (%s) allows no other in its place", gone.Name, why))
	}
	for _, t := range seen.found {
		if _, old := p.touched[t.ID]; old || t.Workload != gone.Workload {
			continue
		}
		plan := &ActionPlan{
			Plan:  experiment.Plan{Scope: seen.running, Targets: []experiment.Target{t}, Workloads: map[string]int{}},
			sight: *seen,
		}
		if err := p.engine.System.Check(ctx, t); err != nil {
			return nil, err
		}
		return plan, p.target(ctx, i, t, plan)
	}
	return nil, errors.Join(experiment.ErrGone, fmt.Errorf("%s left, and no other of %s is there", gone.Name, gone.Workload))
}
