package report

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

var kinds = []experiment.EventKind{
	experiment.EventSample, experiment.EventPhase, experiment.EventPlan, experiment.EventAnnounce, experiment.EventApplied,
	experiment.EventVerified, experiment.EventInjected, experiment.EventMissed, experiment.EventTakeBack, experiment.EventUndone,
	experiment.EventUndoFail, experiment.EventReverted, experiment.EventResidue, experiment.EventDrift, experiment.EventGaps,
	experiment.EventWarning, experiment.EventEnd, experiment.EventBegin, experiment.EventGuardian, experiment.EventObserved, "later",
	experiment.EventMeasured, experiment.EventReinjected,
}

var causes = []experiment.Cause{
	experiment.CauseEnd, experiment.CauseAbortAfter, experiment.CauseNotSteady, experiment.CauseInterrupted, experiment.CauseGuardian,
	experiment.CauseRunnerDied, experiment.CauseDeadline, experiment.CauseNotInjected, experiment.CauseError, "later",
}

// decode makes events of bytes, three for each: any sequence is possible.
func decode(data []byte) []experiment.Event {
	var events []experiment.Event
	if len(data) > 0 && data[0]%8 > 0 {
		events = newTape(shop(freeze, kill)).events
	}
	now := at(0)
	for ; len(data) >= 3; data = data[3:] {
		kind, a, b := kinds[int(data[0])%len(kinds)], int(data[1]), int(data[2])
		now += experiment.BootTime(a%16) * experiment.BootTime(50*time.Millisecond)
		e := experiment.Event{Kind: kind, Boot: now, Action: b % 4, Step: a % 5, Cause: causes[b%len(causes)], Seconds: float64(a)}
		if b%7 > 0 { // else what it should hold is missing
			fill(&e, a, b)
		}
		events = append(events, e)
	}
	return events
}

func fill(e *experiment.Event, a, b int) {
	phases := []experiment.Phase{experiment.PhaseBefore, experiment.PhaseDuring, experiment.PhaseRecovery, experiment.PhaseAfter, "later"}
	e.Message = strings.Repeat("m", a%2)
	switch e.Kind {
	case experiment.EventSample:
		e.Sample = &experiment.Sample{Check: b%5 - 1, From: e.Boot.Add(-time.Duration(a) * time.Millisecond), To: e.Boot, Value: float64(b) / 64, Held: a%3 > 0, Error: strings.Repeat("e", a%11/10)}
		if a == 255 {
			e.Sample.To = experiment.BootTime(uint64(b) << 56)
		}
	case experiment.EventPhase:
		e.Phase = &experiment.PhaseMark{Name: phases[b%5], Since: e.Boot.Add(-time.Duration(a) * 10 * time.Millisecond)}
	case experiment.EventPlan:
		e.Plan = &experiment.Plan{Targets: []experiment.Target{{Name: "t"}}, Scope: a}
	case experiment.EventAnnounce:
		e.Steps = []experiment.PlannedStep{{N: a % 5, Step: experiment.Step{Do: op("do")}}}
		if b%2 > 0 {
			e.Steps[0].Undo = op("undo")
		}
	case experiment.EventVerified:
		e.Evidence = &experiment.Evidence{InForce: a%4 > 0, Felt: []experiment.Felt{"", experiment.FeltYes, experiment.FeltNo, experiment.FeltNothing}[b%4]}
	case experiment.EventMeasured:
		e.Measured = &experiment.Measurement{
			Target: []string{"", "t", "u", "v", "w"}[a%5], Phase: phases[b%5], What: e.Message, Sent: a % 4, Lost: b % 5, P50: float64(a) / 8, Notes: strings.Fields(e.Message),
		}
	case experiment.EventUndone:
		if a%9 == 0 {
			e.Superseded = &experiment.SupersededError{Object: "o"}
		}
	case experiment.EventResidue:
		e.Lines = []string{"left"}
	case experiment.EventDrift:
		e.Drift = []experiment.Drift{{Object: "o", New: []string{"n"}}}
	case experiment.EventGaps:
		e.Gaps = []experiment.Gap{{Workload: "w", Before: 2, Now: a % 3, Started: b % 2}}
	case experiment.EventEnd, experiment.EventApplied, experiment.EventUndoFail:
		e.Error = strings.Repeat("e", b%3/2)
	case experiment.EventBegin:
		e.Header = &experiment.Header{Experiment: shop(kill)}
	case experiment.EventGuardian:
		e.Guardian = &experiment.GuardianMark{Warning: e.Message}
	}
}

// knownVerdicts are the verdicts that a result may have.
var knownVerdicts = []experiment.Verdict{
	"", experiment.Pass, experiment.Fail, experiment.Aborted, experiment.Residue, experiment.NotInjected, experiment.Errored,
}

// invariants holds r, folded from events, against what is true of any result.
func invariants(t *testing.T, events []experiment.Event, r *Result) {
	t.Helper()
	broken := func(c Check) bool { return !c.Held }
	for name, ok := range map[string]bool{
		"the verdict is a known one":              slices.Contains(knownVerdicts, r.Verdict),
		"only an unfinished run has no verdict":   (r.Verdict == "") == r.Unfinished,
		"residue is the verdict where it is left": r.Unfinished || (len(r.Residue) > 0) == (r.Verdict == experiment.Residue),
		"pass and only pass needs no reason":      r.Unfinished || (r.Verdict == experiment.Pass) == (len(r.Reasons) == 0),
		"no pass with a check that broke":         r.Verdict != experiment.Pass || !slices.ContainsFunc(r.Checks, broken),
		"no pass without a fault":                 r.Verdict != experiment.Pass || r.injected(),
		"no pass with an error":                   r.Verdict != experiment.Pass || r.Error == "",
		"a score is from 0 to 100":                r.Score == nil || *r.Score >= 0 && *r.Score <= 100,
		"pass with checks has score 100":          r.Verdict != experiment.Pass || r.Score == nil || *r.Score == 100,
		"the worst verdict wins":                  r.Verdict != experiment.Pass || !slices.ContainsFunc(events, damning),
		"the result is the same again":            cmp.Equal(r, Fold(r.Run, events)),
	} {
		if !ok {
			t.Errorf("it does not hold that %s: %s, reasons %q, residue %q", name, r.Verdict, r.Reasons, r.Residue)
		}
	}
}

// damning tells whether no run with e in it passes.
func damning(e experiment.Event) bool {
	switch e.Kind {
	case experiment.EventResidue:
		return true
	case experiment.EventTakeBack:
		return e.Cause != experiment.CauseEnd
	}
	return false
}

func survive(t *testing.T, data []byte) {
	t.Helper()
	bear(t, decode(data), 40+len(data)%80)
}

// bear folds events and shows them: nothing may panic, and the result must be
// one that can be.
func bear(t *testing.T, events []experiment.Event, width int) {
	t.Helper()
	r := Fold("7f3k2q", events)
	invariants(t, events, r)
	var doc bytes.Buffer
	if err := JSON(&doc, r); err != nil {
		t.Error(err)
	}
	again(t, doc.Bytes(), textOf(t, r, Style{}))
	textOf(t, r, Style{Width: width})
	p := NewProgress(io.Discard, Style{}, width%2 > 0)
	for i := range events {
		p.Event(&events[i])
	}
	p.Close()
}

func FuzzFold(f *testing.F) {
	f.Add([]byte{1, 1, 1})
	f.Add([]byte{1, 0, 1, 1, 0, 2, 6, 0, 1, 16, 0, 1, 16, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) { survive(t, data) })
}

// TestInvariants folds random events, and whole runs with some events taken
// out and others put in.
func TestInvariants(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		data := make([]byte, 3*n)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		return data
	}
	verdicts := map[experiment.Verdict]int{}
	whole := whole().end(12).events
	for range 1000 {
		survive(t, noise(rng.IntN(60)))
		events := slices.Clone(whole)
		for range rng.IntN(3) {
			at := rng.IntN(len(events)-1) + 1
			events = slices.Delete(events, at, min(at+1+rng.IntN(10), len(events)))
		}
		extra := decode(noise(rng.IntN(3)))
		events = slices.Insert(events, rng.IntN(len(events))+1, extra...)
		bear(t, events, 40+rng.IntN(80))
		verdicts[Fold("7f3k2q", events).Verdict]++
	}
	t.Logf("verdicts of damaged runs: %v", verdicts)
}

// TestCutShort cuts every scenario after each of its events, as the death of
// the machine would: nothing short of its end has a verdict.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for name, tape := range scenarios() {
		for i := range tape.events {
			r := Fold("7f3k2q", tape.events[:i])
			if r.Verdict != "" || !r.Unfinished {
				t.Errorf("%s, cut after %d events: %q", name, i, r.Verdict)
			}
			invariants(t, tape.events[:i], r)
		}
	}
}
