package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	struck  map[int][]struck               // by action: whom it holds, or who came in their place
	whole   map[string]int                 // targets of each workload at first sight
	held    func() map[string]bool         // identities of the targets that a fault is on
	known   map[int]map[string]bool        // by action: IDs found when it was planned
	alive   map[string]experiment.BootTime // by ID: when one of struck was last seen alive
}

func (e *Engine) newPlanner(x *experiment.Experiment, run experiment.RunID, seed uint64) *planner {
	return &planner{
		engine: e, x: x, run: run, seed: seed,
		touched: map[string]experiment.Target{}, normal: map[string]int{},
		struck: map[int][]struck{}, known: map[int]map[string]bool{},
		alive: map[string]experiment.BootTime{}, whole: map[string]int{},
	}
}

// struck is a target that an action has struck.
type struck struct {
	experiment.Target
	stays bool // until something else than the fault ends it
	ended bool // by the fault itself, which may be on what comes in its place
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
		p.held = func() map[string]bool { return heldBeside(p.x.Spec.Method, i, plans) }
		plan, err := p.action(ctx, i, 1)
		if err != nil {
			return nil, err
		}
		if err := p.conflicts(i, plan, plans); err != nil {
			return nil, err
		}
		p.touch(plan.Targets)
		plans = append(plans, *plan)
	}
	return plans, nil
}

// heldBeside returns the identities of the targets that the actions which
// overlap with action i would hold.
func heldBeside(method []experiment.Action, i int, plans []ActionPlan) map[string]bool {
	held := map[string]bool{}
	for _, j := range beside(method, i) {
		for _, t := range plans[j].Targets {
			held[identity(t)] = true
		}
	}
	return held
}

// strikes notes that action i has struck the targets of plan.
func (p *planner) strikes(i int, plan *ActionPlan) {
	stays, ended := lasting(plan.Steps)
	p.struck[i] = p.absent(i, plan)
	for _, t := range plan.Targets {
		p.struck[i] = append(p.struck[i], struck{t, stays[t.ID], ended[t.ID]})
	}
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
	spare, err := p.reserve(ctx, a.Target.Selector, found, plan.Workloads)
	if err != nil {
		return nil, &ActionError{i, "target", err}
	}
	if err := p.limit(i, strike, plan, spare); err != nil {
		return nil, err
	}
	return plan, p.stepsOf(ctx, i, plan)
}

// stepsOf checks the targets of plan, and adds their steps.
func (p *planner) stepsOf(ctx context.Context, i int, plan *ActionPlan) error {
	for _, t := range plan.Targets {
		if pending(p.x.Spec.Method[i], t) {
			plan.Pending = true
			continue
		}
		if err := p.engine.System.Check(ctx, t); err != nil {
			return &ActionError{i, "target", err}
		}
		if err := p.target(ctx, i, t, plan); err != nil {
			return err
		}
	}
	return p.sharing(i, plan)
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
	if err := reach(a, t); err != nil {
		return &ActionError{i, "fault", err}
	}
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

// reach refuses a fault of the kernel on an object that has no process here.
func reach(a experiment.Action, t experiment.Target) error {
	if r, ok := a.Fault.(experiment.Remote); len(t.PIDs) > 0 || t.Object == nil || ok && r.Remote() {
		return nil
	}
	where := "no node yet"
	if t.Object.Node != "" {
		where = "node " + t.Object.Node
	}
	return fmt.Errorf("plan %s of %s: it has no process that Simian can reach from here (it is on %s): this fault needs Simian on that node, and the runtime's socket there (CONTAINER_RUNTIME_ENDPOINT); delete, evict, scale, cordon, drain and rollout do without: %w",
		a.Type, t.Object, where, experiment.ErrUnsupported)
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
		if err := p.spared(ctx, i, plan); err != nil {
			return nil, err
		}
		if err := p.engine.System.Check(ctx, t); err != nil {
			return nil, err
		}
		return plan, p.target(ctx, i, t, plan)
	}
	return nil, errors.Join(experiment.ErrGone, fmt.Errorf("%s left, and no other of %s is there", gone.Name, gone.Workload))
}
