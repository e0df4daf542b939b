package experimenttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TestUndoElsewhere takes steps back in another process, which knows nothing
// but the folder and the journal's line.
func TestUndoElsewhere(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, "web")
	steps := plan(t, w, &SetFault{Steps: 2, Undo: Trouble{FailFor: 2}})
	do(t, steps)
	e := experiment.Event{Kind: experiment.EventAnnounce}
	for _, s := range steps {
		e.Steps = append(e.Steps, experiment.PlannedStep{Step: s})
	}
	line, err := w.Codec().Marshal(&e)
	must(t, err)
	must(t, os.WriteFile(w.Dir+"/journal", line, 0o600))
	for range 4 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), "EXPERIMENTTEST_UNDO="+w.Dir)
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if w.Value("web/1") != "ok" || w.Value("web/2") != "ok" {
		t.Errorf("it is not taken back:\n%s", w.Snapshot())
	}
	for did, want := range map[Did]int{Begun: 8, Failed: 4, Wrote: 2, Already: 2} {
		if n := w.Count("reset", did); n != want {
			t.Errorf("%d undos were %s, want %d", n, did, want)
		}
	}
	records, err := w.Log()
	must(t, err)
	if last := records[len(records)-1]; last.PID == os.Getpid() || last.PID == 0 {
		t.Errorf("the last undo was made by pid %d", last.PID)
	}
}

func undoElsewhere(w World) int {
	line, err := os.ReadFile(w.Dir + "/journal")
	if err != nil {
		return 1
	}
	var e experiment.Event
	if err := w.Codec().Decoder()(line, &e); err != nil {
		return 1
	}
	for _, s := range e.Steps {
		if err := s.Undo.Apply(context.Background()); err != nil && !strings.Contains(err.Error(), "told to fail") {
			return 1
		}
	}
	return 0
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("superseded", func(t *testing.T) {
		w := NewWorld(t, "web")
		s := plan(t, w, &SetFault{})[0]
		must(t, s.Do.Apply(ctx))
		must(t, w.Set("web/1", "theirs"))
		var superseded *experiment.SupersededError
		if err := s.Undo.Apply(ctx); !errors.As(err, &superseded) || superseded.Present != "theirs" || w.Value("web/1") != "theirs" {
			t.Errorf("it gave %v, and the value is %q", err, w.Value("web/1"))
		}
		if err := s.Do.Apply(ctx); !errors.Is(err, experiment.ErrBusy) {
			t.Errorf("doing it on another value gave %v", err)
		}
	})
	t.Run("gone", func(t *testing.T) {
		w := NewWorld(t, "web")
		s := plan(t, w, &SetFault{})[0]
		must(t, w.Remove("web"))
		if err := s.Do.Apply(ctx); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("it gave %v", err)
		}
	})
	t.Run("last step fails", func(t *testing.T) {
		w := NewWorld(t, "web")
		steps := plan(t, w, &SetFault{Steps: 3, Do: Trouble{Fail: true}})
		for i, s := range steps {
			if err := s.Do.Apply(ctx); (err != nil) != (i == 2) {
				t.Errorf("step %d gave %v", i+1, err)
			}
		}
	})
	t.Run("slow", func(t *testing.T) {
		w := NewWorld(t, "web")
		for _, deaf := range []bool{false, true} {
			s := plan(t, w, &SetFault{Do: Trouble{Slow: experiment.Duration(200 * time.Millisecond), Deaf: deaf}})[0]
			short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			begun := time.Now()
			err := s.Do.Apply(short)
			cancel()
			if took := time.Since(begun); (err == nil) != deaf || (took > 150*time.Millisecond) != deaf {
				t.Errorf("deaf %v: it gave %v after %v", deaf, err, took)
			}
		}
	})
	t.Run("script", func(t *testing.T) {
		s := &Script{Values: []float64{1, 2}, Errors: []int{1}}
		var got []string
		for range 4 {
			v, err := s.Measure(ctx)
			got = append(got, fmt.Sprint(v, err != nil))
		}
		if want := []string{"1 false", "0 true", "2 false", "2 false"}; !slices.Equal(got, want) || s.Measured() != 4 {
			t.Errorf("it gave %q", got)
		}
	})
}

// TestLoader loads a file of the world: all of its sections are in order.
func TestLoader(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, "web-1", "web-2")
	e, err := w.Loader().Load("world.yaml", []byte(`
apiVersion: simian.dev/v1
kind: Experiment
metadata: {name: world}
spec:
  hypothesis:
    checks:
      - {name: ok, probe: {type: setting, setting: web-1/1}, min: 1}
      - {name: steady, probe: {type: script, values: [1, 1, 0], unit: s}, max: 100ms}
  method:
    - fault: {type: set, value: slow, steps: 2, undo: {failFor: 1}, do: {slow: 5ms}}
      target: {type: world, name: web-*, mode: all}
      for: 1s
`), nil)
	must(t, err)
	targets, err := e.Spec.Method[0].Target.Selector.Select(t.Context())
	must(t, err)
	if steps, err := e.Spec.Method[0].Fault.Plan(t.Context(), run, targets[1]); err != nil || len(steps) != 2 || targets[1].Workload != "web" {
		t.Errorf("it gave %v, %v for %+v", steps, err, targets[1])
	}
	if schema, err := w.Loader().Schema(); err != nil || !strings.Contains(string(schema), "failFor") {
		t.Errorf("its schema: %v", err)
	}
}
