package engine

import (
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TestSteadyDespiteJitter samples a check every 100 ms by a probe that takes
// now more, now less: it has held for a second once the samples cover one,
// whichever of them took how long.
func TestSteadyDespiteJitter(t *testing.T) {
	t.Parallel()
	second := experiment.Duration(time.Second)
	x := &experiment.Experiment{Spec: experiment.Spec{
		Hypothesis: experiment.Hypothesis{Checks: []experiment.Check{{Name: "a"}}},
		Steady:     experiment.Steady{For: &second},
	}}
	w := newWatch(&runner{x: x})
	for n := range 100 {
		from := experiment.BootTime(0).Add(time.Duration(n) * 100 * time.Millisecond)
		took := time.Duration(1+n%7) * time.Millisecond
		w.keep(experiment.Sample{From: from, To: from.Add(took), Held: true})
		_, held := w.held(0, time.Second)
		if want := n >= 10; held != want {
			t.Errorf("after sample %d held is %v", n, held)
		}
		if len(w.recent[0]) > 13 {
			t.Fatalf("%d samples are kept", len(w.recent[0]))
		}
	}
}
