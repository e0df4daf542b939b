package report

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// whole is a freeze from 3 s to 8 s that all checks bore, without its end.
func whole() *tape {
	return frozen(shop(freeze), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).thawed().
		values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 8).values(10, 11, 1, 0.031, 2981)
}

func event(k experiment.EventKind, change func(*experiment.Event)) func(*tape, int) {
	return func(t *tape, _ int) {
		e := experiment.Event{Kind: k}
		change(&e)
		t.add(11, e)
	}
}

// The ways in which a run can go wrong, each added to a whole one.
var troubles = []struct {
	name    string
	verdict experiment.Verdict
	add     func(t *tape, step int)
}{
	{"nothing", experiment.Pass, func(*tape, int) {}},
	{"residue lines", experiment.Residue, event(experiment.EventResidue, func(e *experiment.Event) { e.Lines = []string{"cgroup /simian-7f3k2q"} })},
	{"residue without lines", experiment.Residue, event(experiment.EventResidue, func(*experiment.Event) {})},
	{"workload not whole", experiment.Residue, event(experiment.EventGaps, func(e *experiment.Event) {
		e.Gaps = []experiment.Gap{{Workload: "web", Before: 2, Now: 1}}
	})},
	{"step never undone", experiment.Residue, func(t *tape, n int) { t.apply(11, 1, n, "do", "undo") }},
	{"step announced only", experiment.Residue, func(t *tape, n int) {
		t.apply(11, 1, n, "do", "undo")
		t.events = t.events[:len(t.events)-1]
	}},
	{"missed", experiment.NotInjected, event(experiment.EventMissed, func(e *experiment.Event) { e.Action, e.Message = 1, "gone" })},
	{"taken back as not injected", experiment.NotInjected, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseNotInjected, "gone") }},
	{"not in force at last", experiment.NotInjected, func(t *tape, n int) {
		t.apply(11, 1, n, "do", "")
		t.verified(11, 1, n, experiment.Evidence{InForce: true}).verified(11, 1, n, experiment.Evidence{What: "no such rule"})
	}},
	{"error", experiment.Errored, event(experiment.EventEnd, func(e *experiment.Event) { e.Error = "no permission" })},
	{"taken back for an error", experiment.Errored, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseError, "disk full") }},
	{"check broke after", experiment.Fail, func(t *tape, n int) { t.value(0, 11, 0.5) }},
	{"check not measured after", experiment.Fail, func(t *tape, n int) { t.unmeasured(0, 11, "refused") }},
	{"taken back early", experiment.Fail, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseAbortAfter, "") }},
	{"started by Simian", experiment.Fail, event(experiment.EventGaps, func(e *experiment.Event) {
		e.Gaps = []experiment.Gap{{Workload: "web", Before: 2, Now: 2, Started: 1}}
	})},
	{"not steady", experiment.Aborted, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseNotSteady, "") }},
	{"interrupted", experiment.Aborted, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseInterrupted, "") }},
	{"guardian", experiment.Aborted, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseGuardian, "") }},
	{"runner died", experiment.Aborted, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseRunnerDied, "") }},
	{"deadline", experiment.Aborted, func(t *tape, n int) { t.takeBack(11, 0, experiment.CauseDeadline, "") }},
	{"drift", experiment.Pass, event(experiment.EventDrift, func(e *experiment.Event) { e.Drift = []experiment.Drift{{Object: "net:1"}} })},
	{"a limit not felt", experiment.Pass, func(t *tape, n int) {
		t.apply(11, 1, n, "do", "")
		t.verified(11, 1, n, experiment.Evidence{InForce: true, Felt: experiment.FeltNo})
	}},
	{"superseded", experiment.Pass, func(t *tape, n int) {
		t.apply(11, 1, n, "do", "undo")
		event(experiment.EventUndone, func(e *experiment.Event) { e.Step, e.Superseded = n, &experiment.SupersededError{Object: "cpu.max"} })(t, n)
	}},
	{"a step that neither took nor was undone", experiment.Pass, func(t *tape, n int) {
		t.apply(11, 1, n, "do", "undo")
		t.events[len(t.events)-1].Error = "gone"
	}},
	{"a step that did not take and cannot be undone", experiment.Residue, func(t *tape, n int) {
		t.apply(11, 1, n, "do", "undo")
		t.events[len(t.events)-1].Error = "timeout"
		event(experiment.EventUndoFail, func(e *experiment.Event) { e.Step, e.Error = n, "timeout" })(t, n)
	}},
}

// TestPrecedence puts every two troubles into one run: the worst wins.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, a := range troubles {
		for _, b := range troubles {
			if a.name == b.name || a.name == "error" || b.name == "error" {
				continue
			}
			tape := whole()
			a.add(tape, 2)
			b.add(tape, 3)
			r := tape.end(12).fold()
			if want := experiment.Worst(a.verdict, b.verdict); r.Verdict != want {
				t.Errorf("%s, %s: %s, want %s (%q)", a.name, b.name, r.Verdict, want, r.Reasons)
			}
		}
	}
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	for _, c := range troubles {
		tape := whole()
		c.add(tape, 2)
		if c.name != "error" {
			tape.end(12)
		}
		r := tape.fold()
		if r.Verdict != c.verdict {
			t.Errorf("%s: %s, want %s", c.name, r.Verdict, c.verdict)
		}
		if (r.Verdict == experiment.Pass) != (len(r.Reasons) == 0) {
			t.Errorf("%s: verdict %s with reasons %q", c.name, r.Verdict, r.Reasons)
		}
	}
}

func TestNeverInjected(t *testing.T) {
	t.Parallel()
	r := steady(shop(freeze, kill), 1, 0.031, 2981).end(4).fold()
	if r.Verdict != experiment.NotInjected || r.Score != nil {
		t.Errorf("%s, score %v", r.Verdict, r.Score)
	}
	r = whole().end(12).fold()
	if r.Verdict != experiment.Pass {
		t.Fatalf("%s: %q", r.Verdict, r.Reasons)
	}
	second := frozen(shop(freeze, kill), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).thawed().
		values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 8).values(10, 11, 1, 0.031, 2981).end(12).fold()
	if want := []string{"a worker is killed was never injected"}; second.Verdict != experiment.NotInjected || !slices.Equal(second.Reasons, want) {
		t.Errorf("%s: %q", second.Verdict, second.Reasons)
	}
}

// TestPhases places single samples around the marks.
func TestPhases(t *testing.T) {
	t.Parallel()
	plain := experiment.CheckSummary{Name: "a", Min: bound(1), Weight: 1}
	for _, c := range []struct {
		name     string
		from, to float64
		written  float64 // when the sample's event is
		want     string
	}{
		{"before", 1, 2, 2, "before"},
		{"ends as the fault begins", 2, 3, 3, "before"},
		{"begins with the fault", 3, 4, 4, "during"},
		{"across the fault's begin", 2.5, 3.5, 3.5, ""},
		{"a whole fault long and more", 2, 9, 9, ""},
		{"before, written during", 2, 2.9, 4, "before"},
		{"during, written in recovery", 6, 7, 8.5, "during"},
		{"recovery", 8, 9, 9, "recovery"},
		{"after, written in recovery", 9.5, 9.9, 9.9, "after"},
		{"across the end of recovery", 8.5, 9.6, 9.8, ""},
		{"after", 10, 11, 11, "after"},
		{"too early", -2, -1, 0.5, ""},
	} {
		tape := newTape(experiment.Summary{Checks: []experiment.CheckSummary{plain}, Actions: []experiment.ActionSummary{freeze}})
		tape.phase(0, experiment.PhaseBefore, 0).phase(3.1, experiment.PhaseDuring, 3).
			phase(8.1, experiment.PhaseRecovery, 8).phase(10.3, experiment.PhaseAfter, 9.5)
		s := experiment.Event{Kind: experiment.EventSample, Sample: &experiment.Sample{From: at(c.from), To: at(c.to), Value: 1, Held: true}}
		tape.add(c.written, s)
		slices.SortStableFunc(tape.events[1:], func(a, b experiment.Event) int { return int(a.Boot - b.Boot) })
		k := tape.fold().Checks[0]
		got := ""
		for name, n := range map[string]int{"before": k.Before.Count, "during": k.During.Count, "recovery": k.Recovery.Count, "after": k.After.Count} {
			got += strings.Repeat(name, n)
		}
		if got != c.want {
			t.Errorf("%s: counted in %q, want %q", c.name, got, c.want)
		}
	}
}

// TestLateMark: the mark of the after phase points back over more samples
// than came since, among many that were counted long ago.
func TestLateMark(t *testing.T) {
	t.Parallel()
	tape := frozen(shop(freeze), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).thawed()
	tape.values(8, 2008, 0.5, 0.031, 2981).values(2008, 2058, 1, 0.031, 2981).phase(2058, experiment.PhaseAfter, 2008).end(2058)
	c := tape.fold().Checks[0]
	if c.Recovery.Count != 7997 || c.Recovery.Failed != 7997 || c.After.Count != 197 || c.After.Failed != 0 {
		t.Errorf("recovery %+v, after %+v", c.Recovery, c.After)
	}
}

// TestLateBefore: the mark of the before phase is written when that has been
// steady for long, and points back to its start.
func TestLateBefore(t *testing.T) {
	t.Parallel()
	x := shop(freeze)
	tape := newTape(x).values(0, 1000, 0.5, 0.031, 2981)
	if c := tape.fold().Checks[0]; c.Before.Count != 4000 || c.Before.Failed != 4000 {
		t.Errorf("while it settles: %+v", c.Before)
	}
	tape.events[0].Header.Experiment.SteadyFor = dur(600)
	tape.values(1000, 1601, 1, 0.031, 2981).phase(1601, experiment.PhaseBefore, 1000)
	for i, want := range []int{2401, 2401, 2405} {
		if c := tape.fold().Checks[i]; c.Before.Count != want || c.Before.Failed != 0 {
			t.Errorf("%s: %+v, want %d samples", c.Name, c.Before, want)
		}
	}
}

// TestShortAfter: where the after phase is shorter than a check's window, the
// held samples that ended recovery show that the check held.
func TestShortAfter(t *testing.T) {
	t.Parallel()
	base := func() *tape {
		return frozen(shop(freeze), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).thawed()
	}
	for _, c := range []struct {
		name string
		tape *tape
		want experiment.Verdict
	}{
		{"steady at the end", base().values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 9.5).end(10), experiment.Pass},
		{"not steady at the end", base().values(8, 9.5, 1, 0.031, 2981).values(9.5, 10, 0.5, 0.031, 2981).phase(10, experiment.PhaseAfter, 9.5).end(10), experiment.Fail},
		{"long, and not sampled", base().values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 9.5).value(2, 14, 2981).end(14), experiment.Fail},
		{"recovery cut short", base().values(8, 9, 0.5, 0.031, 2981).end(9), experiment.Fail},
		{"recovery interrupted", base().values(8, 9, 0.5, 0.031, 2981).takeBack(9, 0, experiment.CauseInterrupted, "SIGINT").end(9), experiment.Aborted},
	} {
		if r := c.tape.fold(); r.Verdict != c.want {
			t.Errorf("%s: %s, want %s (%q)", c.name, r.Verdict, c.want, r.Reasons)
		}
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	instant := experiment.CheckSummary{Name: "a", Min: bound(1), Weight: 1}
	x := experiment.Summary{Checks: []experiment.CheckSummary{instant}, Actions: []experiment.ActionSummary{kill}}
	killed := func() *tape {
		return steady(x, 1).plan(3, 1, "web").apply(3, 1, 1, "kill", "").injected(3, 1).phase(3, experiment.PhaseDuring, 3)
	}
	ended := func(t *tape) *tape {
		return t.reverted(8, 1).phase(8, experiment.PhaseRecovery, 8).values(8, 9, 1).phase(9, experiment.PhaseAfter, 8).end(9)
	}
	x.Actions = []experiment.ActionSummary{freeze}
	for _, c := range []struct {
		name         string
		tape         *tape
		impact, mend float64 // seconds; -1 is none
	}{
		{"a kill nobody felt", ended(killed().values(3, 8, 1)), -1, -1},
		{"a kill felt at once", ended(killed().values(3, 4, 0).values(4, 8, 1)), 0.25, 1.25},
		{"a kill felt later", ended(killed().values(3, 4, 1).values(4, 5, 0).values(5, 8, 1)), 1.25, 2.25},
		{"two held are not three", ended(killed().values(3, 4, 0).values(4, 4.5, 1).values(4.5, 5, 0).values(5, 8, 1)), 0.25, 2.25},
		{"a freeze", frozen(x, 1).values(3, 4, 1).values(4, 8, 0).thawed().values(8, 8.5, 0).values(8.5, 9.5, 1).
			phase(9.5, experiment.PhaseAfter, 8.75).values(9.5, 10, 1).end(10), 1.25, 0.75},
	} {
		k := c.tape.fold().Checks[0]
		if got := orNone(k.Impact); !near(got, c.impact) {
			t.Errorf("%s: impact after %v s, want %v", c.name, got, c.impact)
		}
		if got := orNone(k.Mend); !near(got, c.mend) {
			t.Errorf("%s: recovered after %v s, want %v", c.name, got, c.mend)
		}
	}
}

func orNone(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

// TestUnmeasured: what was never measured never holds.
func TestUnmeasured(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		fast     experiment.ActionSummary
		skip     string // the phase in which the last check has no sample
		held     bool
		sentence string
	}{
		{"all measured", freeze, "", true, ""},
		{"not before", freeze, "before", false, "orders flow was never measured before the fault, so nothing shows that it held"},
		{"not during", freeze, "during", false, "orders flow was never measured during the fault, so nothing shows that it held; give the action more time, or the check a shorter window"},
		{"not after", freeze, "after", false, "orders flow was never measured after the fault, so nothing shows that it held"},
		{"not during a fault that is over at once", experiment.ActionSummary{Name: "freeze", Type: "kill"}, "during", true, ""},
	} {
		tape := whole()
		tape.events[0].Header.Experiment.Actions[0] = c.fast
		span := map[string][2]float64{"before": {0, 2.9}, "during": {3, 7.9}, "after": {8, 20}}[c.skip]
		tape.events = slices.DeleteFunc(tape.events, func(e experiment.Event) bool {
			return e.Sample != nil && e.Sample.Check == 2 && e.Sample.To >= at(span[0]) && e.Sample.To <= at(span[1])
		})
		r := tape.end(12).fold()
		if got := r.Checks[2].Held; got != c.held {
			t.Errorf("%s: held %v, want %v", c.name, got, c.held)
		}
		if got := strings.Join(r.Reasons, "; "); got != c.sentence {
			t.Errorf("%s: %q, want %q", c.name, got, c.sentence)
		}
		if want := map[bool]experiment.Verdict{true: experiment.Pass, false: experiment.Fail}[c.held]; r.Verdict != want {
			t.Errorf("%s: %s, want %s", c.name, r.Verdict, want)
		}
	}
}

func TestScore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		during [3]float64
		allow  experiment.Percent
		want   float64
	}{
		{"all held", [3]float64{1, 0.031, 2981}, 0, 100},
		{"the heavy one broke", [3]float64{0.5, 0.031, 2981}, 0, 40},
		{"two broke", [3]float64{0.5, 0.5, 2981}, 0, 20},
		{"none held", [3]float64{0.5, 0.5, 0}, 0, 0},
		{"all of it allowed", [3]float64{0.5, 0.5, 0}, 100, 100},
		{"less than half allowed", [3]float64{0.5, 0.5, 0}, 20, 0},
		{"half allowed", [3]float64{0.5, 0.5, 0}, 60, 100},
	} {
		tape := frozen(shop(freeze), 1, 0.031, 2981).values(3, 6, 1, 0.031, 2981).values(6, 8, c.during[:]...).thawed().
			values(8, 10, 1, 0.031, 2981).phase(10, experiment.PhaseAfter, 8).values(10, 11, 1, 0.031, 2981).end(11)
		for i := range tape.events[0].Header.Experiment.Checks {
			tape.events[0].Header.Experiment.Checks[i].Allow = c.allow
		}
		if r := tape.fold(); r.Score == nil || *r.Score != c.want {
			t.Errorf("%s: score %v, want %v", c.name, orNone(r.Score), c.want)
		}
	}
}

// TestSlowRecovery: steady again, but not soon enough.
func TestSlowRecovery(t *testing.T) {
	t.Parallel()
	tape := frozen(shop(freeze), 1, 0.031, 2981).values(3, 8, 1, 0.031, 2981).thawed().values(8, 19, 0.5, 0.031, 2981).
		values(19, 21, 1, 0.031, 2981).phase(21, experiment.PhaseAfter, 19).values(21, 22, 1, 0.031, 2981).end(22)
	r := tape.fold()
	if want := []string{"steady again only after 11 s, and 10 s were allowed"}; r.Verdict != experiment.Fail || !slices.Equal(r.Reasons, want) {
		t.Errorf("%s: %q", r.Verdict, r.Reasons)
	}
	if *r.Score != 100 {
		t.Errorf("score %v: the checks held during and after", *r.Score)
	}
}

// TestLaterRollback: what is left at the end, and put back the next day.
func TestLaterRollback(t *testing.T) {
	t.Parallel()
	tape := residue()
	if r := tape.fold(); r.Verdict != experiment.Residue || r.PutBack() || len(r.Residue) != 2 {
		t.Fatalf("%s: %q", r.Verdict, r.Residue)
	}
	tape.undone(86400, 1)
	if r := tape.fold(); r.Verdict != "" || !r.Unfinished {
		t.Errorf("in the midst of it: %q", r.Verdict)
	}
	r := tape.end(86401).fold()
	if r.Verdict == experiment.Pass || r.Verdict == experiment.Residue || !r.PutBack() {
		t.Errorf("%s: %q", r.Verdict, r.Residue)
	}
	if want := "what it left behind when it first ended was put back by a later rollback"; !slices.Contains(r.Reasons, want) {
		t.Errorf("%q", r.Reasons)
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		min, max *experiment.Bound
		want     float64
	}{
		{"lowest", bound(5), nil, 1},
		{"highest", nil, bound(5), 9},
		{"farthest above", bound(3), bound(6), 9},
		{"farthest below", bound(6), bound(8), 1},
	} {
		x := experiment.Summary{Checks: []experiment.CheckSummary{{Name: "a", Min: c.min, Max: c.max}}}
		r := newTape(x).phase(0, experiment.PhaseBefore, 0).values(0, 0.25, 5).values(1, 1.25, 1).values(2, 2.25, 9).values(3, 3.25, 4).fold()
		if got := *r.Checks[0].Before.Worst; got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTrend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		check  experiment.CheckSummary
		values []float64 // NaN: could not be measured
		want   string
		short  string // in three columns
	}{
		{"above a min", experiment.CheckSummary{Min: bound(2)}, []float64{4, 4, 1, 4, 2, 4}, "██▂█▅█", "█▂▅"},
		{"just below a min", experiment.CheckSummary{Unit: "ratio", Min: bound(0.99)}, []float64{1, 1, 0.98, 1, 1, 1}, "██▄███", "█▄█"},
		{"below a max", experiment.CheckSummary{Max: bound(8)}, []float64{0, 2, 4, 8, 8.1, 2}, "▁▂▄▇█▂", "▂▇█"},
		{"not measured", experiment.CheckSummary{Max: bound(8)}, []float64{1, 1, math.NaN(), 1, 1, 1}, "▁▁×▁▁▁", "▁×▁"},
		{"negative", experiment.CheckSummary{Min: bound(-2)}, []float64{-1, -1, -1, -1, -1, -3}, "▅▅▅▅▅▁", "▅▅▁"},
	} {
		tape := newTape(experiment.Summary{Checks: []experiment.CheckSummary{c.check}})
		for i, v := range c.values {
			tape.value(0, float64(i), v)
		}
		k := tape.fold().Checks[0]
		if k.Trend != c.want {
			t.Errorf("%s: %s, want %s", c.name, k.Trend, c.want)
		}
		if got := k.shorten(3); got != c.short {
			t.Errorf("%s: shortened %s, want %s", c.name, got, c.short)
		}
	}
}

// TestTrendOfSlowProbe: a probe that hangs leaves no hole.
func TestTrendOfSlowProbe(t *testing.T) {
	t.Parallel()
	slow := experiment.CheckSummary{Name: "slow", Max: bound(8)}
	tape := newTape(experiment.Summary{Checks: []experiment.CheckSummary{slow, slow}})
	for s := range 12 {
		tape.value(1, float64(s), 1)
		if s < 3 || s > 8 {
			tape.value(0, float64(s), 1)
		}
	}
	tape.unmeasured(0, 8, "no answer")
	tape.events[len(tape.events)-1].Sample.From = at(3)
	if got, want := tape.fold().Checks[0].Trend, "▁▁▁××××××▁▁▁"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHumanValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{1, "ratio", "100 %"},
		{0.992, "ratio", "99.2 %"},
		{0.99996, "ratio", "99.9 %"},
		{0, "ratio", "0 %"},
		{0.031, "s", "31 ms"},
		{0.0008, "s", "0.8 ms"},
		{0.000402, "s", "0.4 ms"},
		{1.31, "s", "1.31 s"},
		{12.94, "s", "12.9 s"},
		{125, "s", "2m 5s"},
		{90000, "s", "1d 1h"},
		{2981, "", "2,981"},
		{1234567.8, "", "1,234,568"},
		{-2981, "", "-2,981"},
		{3, "", "3"},
		{0.05, "", "0.05"},
		{1e20, "", "1e+20"},
		{50, "/s", "50/s"},
		{65536, "B", "64 KiB"},
		{1536, "B", "1.5 KiB"},
		{7, "apples", "7 apples"},
	} {
		if got := humanValue(c.v, c.unit); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
	if got := humanBound(0.9995, "ratio"); got != "99.95 %" {
		t.Errorf("a bound is rounded: %q", got)
	}
}

// TestAddAfterResult: a result is a picture of what was added so far.
func TestAddAfterResult(t *testing.T) {
	t.Parallel()
	events := failed().events
	f := NewFolder("7f3k2q")
	for i := range events {
		f.Add(&events[i])
		if diff := cmp.Diff(Fold("7f3k2q", events[:i+1]), f.Result()); diff != "" {
			t.Fatalf("after event %d:\n%s", i, diff)
		}
	}
}

// BenchmarkFold folds a run of 1,000,000 samples. It reuses one event, so that
// only what Fold needs is measured.
func BenchmarkFold(b *testing.B) {
	opening := frozen(shop(freeze), 1, 0.031, 2981).events
	b.ReportAllocs()
	for b.Loop() {
		FoldSeq("7f3k2q", func(yield func(*experiment.Event) bool) {
			for i := range opening {
				yield(&opening[i])
			}
			s := experiment.Sample{}
			e := experiment.Event{Kind: experiment.EventSample, Sample: &s}
			for i := range 1_000_000 {
				s.Check, s.Value, s.Held = i%3, float64(i%100), i%7 > 0
				s.From = at(4).Add(dur(float64(i) * 0.01).D())
				s.To = s.From + 1e6
				yield(&e)
			}
		})
	}
}
