package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/report"
)

// lab is a world to break, and an engine with a real journal to break it. All
// of it lives in a bubble of synctest: time passes only when everybody waits,
// so that tests can tell moments to the nanosecond and wait for hours.
type lab struct {
	t        testing.TB
	world    experimenttest.World
	dir      string // the state directory
	store    *journal.Store
	born     time.Time
	system   *fakeSystem
	handles  *fakeHandles
	guardian *fakeGuardian
	engine   *engine.Engine
	on       []func(e *experiment.Event) // called at each event

	mu      sync.Mutex
	came    map[string]experiment.BootTime // by ID: when targets began; the others did before the lab
	looking func(context.Context)          // called where an aged selector selects
	broken  error                          // what it gives then
}

// bubble runs fn as a subtest, beside others, on a clock of its own.
func bubble(t *testing.T, name string, fn func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, fn)
	})
}

func newLab(t testing.TB, targets ...string) *lab {
	t.Helper()
	l := &lab{t: t, world: experimenttest.NewWorld(t, targets...), dir: filepath.Join(t.TempDir(), "state"), born: time.Now(), came: map[string]experiment.BootTime{}}
	l.system = &fakeSystem{world: l.world, refuse: map[string]error{}, state: map[string][]string{}, here: experiment.Header{
		Machine: "m1", BootID: "b1", PIDNamespace: 1, Runner: experiment.ProcessID{PID: 77, Start: 7},
	}}
	l.handles = &fakeHandles{held: map[string]experiment.RunID{}}
	l.guardian = &fakeGuardian{}
	l.store = l.newStore()
	l.engine = l.newEngine(l.store)
	return l
}

// newStore opens the state directory, as another process would.
func (l *lab) newStore() *journal.Store {
	l.t.Helper()
	s, err := journal.New(l.dir, l.codec(), func() (time.Time, experiment.BootTime) { return time.Now(), l.boot() })
	must(l.t, err)
	l.t.Cleanup(func() { s.Close() })
	return s
}

func (l *lab) newEngine(j engine.Journals) *engine.Engine {
	return &engine.Engine{
		Journals: j, Handles: l.handles, Guardian: l.guardian, System: l.system, Boot: l.boot, Version: "test",
		Notify: func(e *experiment.Event) {
			for _, fn := range l.on {
				fn(e)
			}
		},
	}
}

// boot is a clock that began an hour before the lab.
func (l *lab) boot() experiment.BootTime {
	return experiment.BootTime(time.Hour + time.Since(l.born))
}

func (l *lab) codec() experiment.Codec {
	c := l.world.Codec()
	c.Ops["durable-reset"] = func() experiment.Op { return &durableReset{} }
	c.Ops["handles"] = func() experiment.Op { return &handleOp{} }
	c.Ops["placed"] = func() experiment.Op { return &placedOp{} }
	c.Targets["aged"] = func() experiment.Selector { return &aged{Find: experimenttest.Find{World: l.world}, lab: l} }
	return c
}

// durableReset takes back what a reboot does not.
type durableReset struct{ experimenttest.ResetOp }

func (durableReset) Durable() bool { return true }

// durableFault is SetFault whose undos are durable.
type durableFault struct{ experimenttest.SetFault }

func (f *durableFault) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	steps, err := f.SetFault.Plan(ctx, run, t)
	for i, s := range steps {
		if undo, ok := s.Undo.(*experimenttest.ResetOp); ok {
			steps[i].Undo = &durableReset{*undo}
		}
	}
	return steps, err
}

// load reads an experiment: spec is what follows "spec:" in its file.
func (l *lab) load(spec string) *experiment.Experiment {
	l.t.Helper()
	loader := l.world.Loader()
	loader.Faults["durable"] = func() experiment.Fault {
		return &durableFault{experimenttest.SetFault{World: l.world}}
	}
	loader.Faults["placed"] = func() experiment.Fault {
		return &placedFault{experimenttest.SetFault{World: l.world}}
	}
	loader.Faults["handles"] = func() experiment.Fault {
		return &handleFault{SetFault: experimenttest.SetFault{World: l.world}}
	}
	loader.Targets["aged"] = l.codec().Targets["aged"]
	text := "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: test}\nspec:\n" + spec
	x, err := loader.Load("test.yaml", []byte(text), nil)
	must(l.t, err)
	return x
}

// outcome is what came of a run.
type outcome struct {
	lab    *lab
	run    experiment.RunID
	err    error
	events []experiment.Event
	result *report.Result
}

func (l *lab) run(spec string) *outcome { return l.runIn(context.Background(), spec) }

func (l *lab) runIn(ctx context.Context, spec string) *outcome {
	l.t.Helper()
	run, err := l.engine.Run(ctx, l.load(spec))
	if run == "" {
		return &outcome{lab: l, err: err}
	}
	o := l.read(run)
	o.err = err
	return o
}

// read folds a journal.
func (l *lab) read(run experiment.RunID) *outcome {
	l.t.Helper()
	events, err := l.store.Events(context.Background(), run)
	var damage *journal.DamageError
	if err != nil && !errors.As(err, &damage) {
		l.t.Fatal(err)
	}
	return &outcome{lab: l, run: run, events: events, result: report.Fold(run, events)}
}

// line tells an event in a few words.
func line(e *experiment.Event) string {
	words := []string{string(e.Kind)}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch e.Kind {
	case experiment.EventPhase:
		add("%s", e.Phase.Name)
	case experiment.EventPlan:
		add("%d", e.Action)
		for _, t := range e.Plan.Targets {
			add("%s", t.Name)
		}
	case experiment.EventAnnounce:
		add("%d:", e.Action)
		for _, s := range e.Steps {
			add("%d", s.N)
		}
	case experiment.EventApplied, experiment.EventUndone, experiment.EventUndoFail:
		add("%d", e.Step)
	case experiment.EventVerified:
		add("%d %v", e.Step, e.Evidence.InForce)
	case experiment.EventTakeBack:
		add("%d %s", e.Action, e.Cause)
	case experiment.EventMeasured:
		add("%d %s", e.Action, e.Measured.Phase)
	case experiment.EventInjected, experiment.EventReinjected, experiment.EventMissed, experiment.EventReverted:
		add("%d", e.Action)
	}
	if e.Error != "" && e.Kind != experiment.EventUndoFail {
		add("failed")
	}
	if e.Superseded != nil {
		add("superseded")
	}
	if e.Kind == experiment.EventUndone && e.Message != "" {
		add("%s", e.Message)
	}
	return strings.Join(words, " ")
}

// tape tells all events but samples, one line each. Targets are taken back
// side by side: undos that follow each other are sorted.
func (o *outcome) tape() []string {
	var lines []string
	for i := range o.events {
		if o.events[i].Kind != experiment.EventSample {
			lines = append(lines, line(&o.events[i]))
		}
	}
	undo := func(s string) bool { return strings.HasPrefix(s, "undone") }
	for i := 0; i < len(lines); i++ {
		n := i
		for n < len(lines) && undo(lines[n]) {
			n++
		}
		if o.targets() > 1 {
			slices.Sort(lines[i:n])
		}
		i = max(i, n)
	}
	return lines
}

func (o *outcome) targets() int {
	seen := map[string]bool{}
	for _, e := range o.events {
		for _, s := range e.Steps {
			seen[s.Target] = true
		}
	}
	return len(seen)
}

// at tells when events of these kinds were written, counted from the first
// fault.
func (o *outcome) at(kinds ...experiment.EventKind) []string {
	var began experiment.BootTime
	var lines []string
	for i := range o.events {
		e := &o.events[i]
		if e.Kind == experiment.EventPhase && e.Phase.Name == experiment.PhaseDuring {
			began = e.Phase.Since
		}
		if slices.Contains(kinds, e.Kind) {
			lines = append(lines, fmt.Sprintf("%s @%s", line(e), e.Boot.Sub(began)))
		}
	}
	return lines
}

func (o *outcome) has(prefix string) bool {
	return slices.ContainsFunc(o.tape(), func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// find returns the events of a kind.
func (o *outcome) find(kind experiment.EventKind) []experiment.Event {
	var found []experiment.Event
	for _, e := range o.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// targetsOf returns the names of the targets of each plan.
func (o *outcome) targetsOf() [][]string {
	var all [][]string
	for _, e := range o.find(experiment.EventPlan) {
		var names []string
		for _, t := range e.Plan.Targets {
			names = append(names, t.Name)
		}
		all = append(all, names)
	}
	return all
}

// verdict wants this one.
func (o *outcome) verdict(t testing.TB, want experiment.Verdict) {
	t.Helper()
	if o.result == nil {
		t.Fatalf("it did not run: %v", o.err)
	}
	if o.result.Verdict != want {
		t.Errorf("verdict %q, want %q (%s)\n%s", o.result.Verdict, want, strings.Join(o.result.Reasons, "; "), strings.Join(o.tape(), "\n"))
	}
}

// tidy wants everything to be put back and closed: settings, journal, handles
// and guardian.
func (o *outcome) tidy(t testing.TB) {
	t.Helper()
	l := o.lab
	l.allOK(t)
	if open := l.open(); len(open) > 0 {
		t.Errorf("journals are open: %v", open)
	}
	if held := l.handles.count(); held > 0 {
		t.Errorf("%d handles are held", held)
	}
	if l.guardian.standing() {
		t.Errorf("the guardian was not sent away")
	}
	if o.result != nil && len(o.result.Residue) > 0 {
		t.Errorf("residue: %q", o.result.Residue)
	}
}

// allOK wants every setting to be as it was.
func (l *lab) allOK(t testing.TB) {
	t.Helper()
	for setting := range strings.Lines(l.world.Snapshot()) {
		if !strings.HasSuffix(setting, " = ok\n") {
			t.Errorf("not put back: %s", setting)
		}
	}
}

func (l *lab) open() []experiment.RunID {
	l.t.Helper()
	open, err := l.store.Open(context.Background())
	must(l.t, err)
	return open
}

// injected is how often a setting was really changed.
func (l *lab) injected() int { return l.world.Count("set", experimenttest.Wrote) }

// once calls fn at the first event whose line is at.
func (l *lab) once(at string, fn func(e *experiment.Event)) {
	done := false
	l.on = append(l.on, func(e *experiment.Event) {
		if !done && line(e) == at {
			done = true
			fn(e)
		}
	})
}

type fakeSystem struct {
	world experimenttest.World
	here  experiment.Header

	mu     sync.Mutex
	refuse map[string]error    // by target name
	state  map[string][]string // by target name: what is observed
	left   []string
	fails  error // of Header
}

func (s *fakeSystem) Header() (experiment.Header, error) { return s.here, s.fails }

func (s *fakeSystem) Check(_ context.Context, t experiment.Target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse[t.Name]
}

// refuses has Check give err for a target, from now on.
func (s *fakeSystem) refuses(target string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[target] = err
}

func (s *fakeSystem) Alive(t experiment.Target) bool {
	now, err := s.world.Target(t.Name)
	return err == nil && now.ID == t.ID
}

func (s *fakeSystem) Observe(_ context.Context, t experiment.Target) ([]experiment.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state[t.Name] == nil {
		return nil, nil
	}
	return []experiment.Observation{{Object: "state:" + t.Name, Target: t.ID, Lines: slices.Clone(s.state[t.Name])}}, nil
}

func (s *fakeSystem) set(target string, lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state[target] = lines
}

func (s *fakeSystem) Leftovers(context.Context, experiment.RunID) ([]string, error) {
	return s.left, nil
}

// fakeHandles locks handles. busy are parts of those that others hold.
type fakeHandles struct {
	mu   sync.Mutex
	held map[string]experiment.RunID
	busy []string
}

func (h *fakeHandles) Acquire(run experiment.RunID, handle string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, part := range h.busy {
		if strings.Contains(handle, part) {
			return fmt.Errorf("lock %s: %w: held by run zzzzzz", handle, experiment.ErrBusy)
		}
	}
	if other, ok := h.held[handle]; ok && other != run {
		return fmt.Errorf("lock %s: %w: held by run %s", handle, experiment.ErrBusy, other)
	}
	h.held[handle] = run
	return nil
}

func (h *fakeHandles) Release(run experiment.RunID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.held, func(_ string, by experiment.RunID) bool { return by == run })
	return nil
}

// hold has others hold what has these parts, and nothing else.
func (h *fakeHandles) hold(parts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = parts
}

func (h *fakeHandles) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

// fakeGuardian arms itself.
type fakeGuardian struct {
	refuse error

	mu    sync.Mutex
	armed []*fakeArmed
}

type fakeArmed struct {
	deadline experiment.BootTime
	died     chan struct{}
	sent     bool
}

func (g *fakeGuardian) Arm(_ context.Context, _ experiment.RunID, deadline experiment.BootTime) (engine.Armed, error) {
	if g.refuse != nil {
		return nil, g.refuse
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	a := &fakeArmed{deadline: deadline, died: make(chan struct{})}
	g.armed = append(g.armed, a)
	return a, nil
}

// die ends the guardian that stands by.
func (g *fakeGuardian) die() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.armed[len(g.armed)-1].died)
}

// standing tells whether a guardian was not sent away.
func (g *fakeGuardian) standing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.armed, func(a *fakeArmed) bool { return !a.sent })
}

func (a *fakeArmed) Mark() experiment.GuardianMark {
	return experiment.GuardianMark{Process: experiment.ProcessID{PID: 78, Start: 8}, Deadline: a.deadline}
}
func (a *fakeArmed) Died() <-chan struct{} { return a.died }
func (a *fakeArmed) Disarm() error         { a.sent = true; return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (- want, + got):\n%s", what, diff)
	}
}
