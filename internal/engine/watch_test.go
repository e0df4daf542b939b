package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// samples tells the values of the samples between two lines of the tape.
func (o *outcome) samples(from, to string) []float64 {
	var values []float64
	in := false
	for i := range o.events {
		e := &o.events[i]
		switch {
		case e.Kind == experiment.EventSample && in:
			values = append(values, e.Sample.Value)
		case e.Kind != experiment.EventSample && line(e) == from:
			in = true
		case e.Kind != experiment.EventSample && in && line(e) == to:
			return values
		}
	}
	return values
}

// script is an experiment with one check, sampled every 100ms. The first
// fault comes right after the third sample that holds, and lasts 1s.
func script(values, more string) string {
	return `
  hypothesis: {every: 100ms, checks: [{name: c, probe: {type: script, values: [` + values + `]}, min: 1}]}
  steady: {for: 200ms, within: 1s}
  recovery: {within: 2s}
  method:
    - {fault: {type: set}, target: {type: world, name: web-1}, for: 1s}
` + more
}

func TestAbortAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, values string
		after        string
		during       []float64 // samples between the fault and its end
		cause        experiment.Cause
		verdict      experiment.Verdict
	}{
		{"at the third in a row", "1, 1, 1, 0, 0, 1, 0, 0, 0, 1", "{after: 3}", []float64{0, 0, 1, 0, 0, 0}, experiment.CauseAbortAfter, experiment.Fail},
		{"at the first", "1, 1, 1, 1, 0, 1", "{after: 1}", []float64{1, 0}, experiment.CauseAbortAfter, experiment.Fail},
		{"never three in a row", "1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1", "{after: 3}", nil, experiment.CauseEnd, experiment.Fail},
		{"not before the fault", "0, 0, 0, 0, 1", "{after: 2}", nil, experiment.CauseEnd, experiment.Pass},
		{"not counted from before", "1, 0, 0, 1, 1, 1, 0, 1", "{after: 2}", nil, experiment.CauseEnd, experiment.Fail},
		{"never", "1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1", "{}", nil, experiment.CauseEnd, experiment.Fail},
	} {
		bubble(t, c.name, func(t *testing.T) {
			o := newLab(t, "web-1").run(script(c.values, "  abort: "+c.after+"\n"))
			must(t, o.err)
			end := "takeback 1 " + string(c.cause)
			if !slices.Contains(o.tape(), end) {
				t.Fatalf("no %q in\n%s", end, strings.Join(o.tape(), "\n"))
			}
			if c.during != nil {
				same(t, "samples until it is taken back", o.samples("phase during", end), c.during)
			}
			o.verdict(t, c.verdict)
			o.tidy(t)
		})
	}
	bubble(t, "ends what runs beside it and what would come", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2", "web-3")
		o := l.run(script("1, 1, 1, 0, 0, 1", `    - {name: b, fault: {type: set}, target: {type: world, name: web-2}, for: 1s, parallel: true}
    - {name: c, fault: {type: set}, target: {type: world, name: web-3}, for: 1s}
  abort: {after: 2}
`))
		must(t, o.err)
		same(t, "changes", l.injected(), 2)
		if !o.has("takeback 1 abort-after") || !o.has("takeback 2 abort-after") || !o.has("takeback 0 abort-after") || !o.has("phase after") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Fail)
		o.tidy(t)
	})
	bubble(t, "while an action waits to begin", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		o := l.run(script("1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1", `    - {name: b, fault: {type: set}, target: {type: world, name: web-2}, for: 1s, after: 1s}
  abort: {after: 2}
`))
		must(t, o.err)
		if o.has("announce 2") || !o.has("takeback 0 abort-after") {
			t.Errorf("\n%s", strings.Join(o.tape(), "\n"))
		}
		o.verdict(t, experiment.Fail)
	})
}

func TestNotSteady(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]string{"never": "0", "not for long enough": "0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0", "cannot be measured": ""} {
		bubble(t, name, func(t *testing.T) {
			l := newLab(t, "web-1")
			o := l.run(script(values, ""))
			must(t, o.err)
			same(t, "events", o.tape(), []string{"begin", "phase before", "takeback 0 not-steady", "end"})
			o.verdict(t, experiment.Aborted)
			same(t, "changes", l.injected(), 0)
			same(t, "guardians", len(l.guardian.armed), 0)
			o.tidy(t)
		})
	}
	bubble(t, "steady in the end", func(t *testing.T) {
		o := newLab(t, "web-1").run(script("0, 0, 1", ""))
		must(t, o.err)
		o.verdict(t, experiment.Pass)
	})
}

// TestRecovery asks when recovery is over.
func TestRecovery(t *testing.T) {
	t.Parallel()
	// The fault is taken back 1s after the third sample: samples 13 on lie
	// after it, or on the very moment.
	held := strings.Repeat("1, ", 13)
	marks := func(o *outcome) map[experiment.Phase]time.Duration {
		found := map[experiment.Phase]time.Duration{}
		var back experiment.BootTime
		for _, e := range o.find(experiment.EventPhase) {
			if e.Phase.Name == experiment.PhaseRecovery {
				back = e.Phase.Since
			}
		}
		for _, e := range o.find(experiment.EventPhase) {
			found[e.Phase.Name] = e.Phase.Since.Sub(back)
		}
		return found
	}
	for _, c := range []struct {
		name, values string
		after        time.Duration // from the first of three held samples, rounded up; 0 never
		verdict      experiment.Verdict
	}{
		{"at once", held + "1", 100 * time.Millisecond, experiment.Pass},
		{"the first of three in a row", held + "0, 0, 1, 1, 0, 1", 600 * time.Millisecond, experiment.Pass},
		{"too late", held + strings.Repeat("0, ", 22) + "1", 0, experiment.Fail},
		{"never three in a row", held + strings.Repeat("0, 1, 1, ", 8) + "1", 0, experiment.Fail},
	} {
		bubble(t, c.name, func(t *testing.T) {
			o := newLab(t, "web-1").run(script(c.values, ""))
			must(t, o.err)
			after, settled := marks(o)[experiment.PhaseAfter]
			if settled != (c.after > 0) || after > c.after || after < c.after-100*time.Millisecond {
				t.Errorf("steady again after %s (%v), want %s\n%s", after, settled, c.after, strings.Join(o.tape(), "\n"))
			}
			o.verdict(t, c.verdict)
			o.tidy(t)
		})
	}
}
