package experimenttest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("EXPERIMENTTEST_UNDO"); dir != "" {
		os.Exit(undoElsewhere(World{Dir: dir}))
	}
	os.Exit(m.Run())
}

func TestWorldKeepsTheSuites(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]*SetFault{
		"one step":    {},
		"three steps": {Steps: 3, Value: "slow"},
		"no undo":     {NoUndo: true},
		"attended":    {Before: &Attend{}, During: &Attend{}, Follow: &Attend{}, Felt: map[string]experiment.Felt{"*": experiment.FeltNothing}},
	} {
		t.Run(name, func(t *testing.T) { Fault(t, worldCase(NewWorld(t, "web"), fault)) })
	}
	t.Run("op", func(t *testing.T) {
		w := NewWorld(t, "web")
		Op(t, OpCase{
			Ops: w.Ops(), Snapshot: w.Snapshot,
			Step: func(t testing.TB) experiment.Step { return plan(t, w, &SetFault{World: w})[0] },
			Gone: func(t testing.TB) { must(t, w.Replace("web")) },
		})
	})
	t.Run("selector", func(t *testing.T) {
		w := NewWorld(t, "web-2", "db", "web-1")
		Selector(t, SelectorCase{
			Selector: &Find{World: w, Name: "web-*"}, Targets: w.Targets(),
			Want: []string{"web-1", "web-2"}, None: &Find{World: w, Name: "mail"},
		})
	})
	t.Run("script", func(t *testing.T) {
		slow := &Script{Values: []float64{1}, Slow: experiment.Duration(time.Hour)}
		Probe(t, ProbeCase{Probe: &Script{Values: []float64{1}}, Blocked: slow, Gone: &Script{Errors: []int{0}}})
	})
	t.Run("setting", func(t *testing.T) {
		w := NewWorld(t, "web")
		Probe(t, ProbeCase{Probe: &Setting{World: w, Setting: "web/1"}, Gone: &Setting{World: w, Setting: "db/1"}})
	})
	t.Run("inspector", func(t *testing.T) {
		w := NewWorld(t, "web")
		Inspector(t, InspectorCase{
			Inspector: Broken{w}, Ops: w.Ops(), Snapshot: func(experiment.Target) string { return w.Snapshot() },
			Wrong: func(t testing.TB) experiment.Target { return add(t, w, "wrong", "broken") },
			Right: func(t testing.TB) experiment.Target { return add(t, w, "right", "ok") },
		})
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, w World, name, value string) experiment.Target {
	t.Helper()
	must(t, w.Add(name))
	must(t, w.Set(name+"/2", value))
	target, err := w.Target(name)
	must(t, err)
	return target
}

func plan(t testing.TB, w World, f *SetFault) []experiment.Step {
	t.Helper()
	target, err := w.Target("web")
	must(t, err)
	f.World = w
	steps, err := f.Plan(t.Context(), run, target)
	must(t, err)
	return steps
}

// worldCase makes a case of a fault in w, whose target is new for each part.
func worldCase(w World, f experiment.Fault) FaultCase {
	if set, ok := f.(*SetFault); ok {
		set.World = w
	}
	var n atomic.Int64
	return FaultCase{
		Fault: f, Ops: w.Ops(), Settle: time.Millisecond,
		Target: func(t testing.TB) experiment.Target { return add(t, w, fmt.Sprintf("t%d", n.Add(1)), "ok") },
		Snapshot: func(t experiment.Target) string {
			return w.Value(t.Name+"/1") + " " + w.Value(t.Name+"/2") + " " + w.Value(t.Name+"/3")
		},
		Gone:   func(t testing.TB, target experiment.Target) { must(t, w.Replace(target.Name)) },
		NoUndo: f.(interface{ cannotUndo() bool }).cannotUndo(),
	}
}

func (f *SetFault) cannotUndo() bool { return f.NoUndo }

// recorder is a testing.TB that fails in place of the test, so that a suite
// can be seen to catch what is broken.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failures runs a suite and returns what it finds wrong.
func failures(t *testing.T, suite func(t testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		suite(r)
	}()
	<-done
	return strings.Join(r.failures, "\n")
}
