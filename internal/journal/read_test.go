package journal

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

var update = flag.Bool("update", false, "write the golden files")

// oneOfEach is an event of every kind, as format 1 holds it.
func oneOfEach() []experiment.Event {
	limit := experiment.Bound{Value: 0.1, Seconds: true}
	header := begin()
	header.Header.Experiment.Checks = []experiment.CheckSummary{{Name: "is quick", Unit: "s", Max: &limit, Weight: 2}}
	target := experiment.Target{Kind: "process", Name: "web", ID: "process:812:99123", Workload: "web", PIDs: []experiment.ProcessID{{PID: 812, Start: 99123}}}
	return []experiment.Event{
		header,
		{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseBefore, Since: 4_999_000_000}},
		sample(1),
		{Kind: experiment.EventGuardian, Guardian: &experiment.GuardianMark{Process: experiment.ProcessID{PID: 813, Start: 99124}, Deadline: 9_000_000_000, Place: "/simian"}},
		{Kind: experiment.EventPlan, Action: 1, Plan: &experiment.Plan{Targets: []experiment.Target{target}, Scope: 1, Workloads: map[string]int{"web": 1}, Backend: "signal"}},
		{Kind: experiment.EventObserved, Observed: &experiment.Observation{Object: "process:812:99123", Target: target.ID, Lines: []string{"state S"}}},
		announce(1),
		{Kind: experiment.EventApplied, Step: 1, Seconds: 0.0005},
		{Kind: experiment.EventVerified, Step: 1, Evidence: &experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "state T"}},
		{Kind: experiment.EventInjected, Action: 1, Seconds: 0.001},
		{Kind: experiment.EventMissed, Action: 2, Message: "no packet matched"},
		{Kind: experiment.EventTakeBack, Cause: experiment.CauseEnd},
		{Kind: experiment.EventUndone, Step: 1, Superseded: &experiment.SupersededError{Object: "cpu.max", Read: "max", Wrote: "1", Present: "2"}},
		{Kind: experiment.EventUndoFail, Step: 2, Error: "permission denied"},
		{Kind: experiment.EventReverted, Action: 1, Seconds: 0.002},
		{Kind: experiment.EventResidue, Lines: []string{"pid 812 is stopped"}},
		{Kind: experiment.EventDrift, Drift: []experiment.Drift{{Object: "net:1", Gone: []string{"a"}, New: []string{"b"}}}},
		{Kind: experiment.EventGaps, Gaps: []experiment.Gap{{Workload: "web", Before: 2, Now: 1}}},
		{Kind: experiment.EventWarning, Action: 1, Message: "not felt"},
		{Kind: experiment.EventEnd},
	}
}

// Every released format stays readable: testdata holds a journal of each. The
// one of the present format is written by -update, the older ones never are.
func TestGoldenJournals(t *testing.T) {
	t.Parallel()
	golden := "testdata/v1.jsonl"
	want := oneOfEach()
	clock := ticks()
	var text bytes.Buffer
	for i := range want {
		want[i].Run = testRun
		want[i].Wall, want[i].Boot = clock()
		line, err := testCodec.Marshal(&want[i])
		must(t, err)
		text.Write(append(line, '\n'))
	}
	if *update {
		must(t, os.WriteFile(golden, text.Bytes(), 0o644))
	}
	data, err := os.ReadFile(golden)
	must(t, err)
	if diff := cmp.Diff(string(data), text.String()); diff != "" {
		t.Errorf("what is written has changed; if it can still be read by released versions, say -update (-golden +now):\n%s", diff)
	}
	got, err := read(t, data)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// read returns the events of a journal that holds data.
func read(t testing.TB, data []byte) ([]experiment.Event, error) {
	t.Helper()
	s := newStore(t)
	must(t, os.WriteFile(filepath.Join(s.Dir(), "done/abc234.jsonl"), data, 0o600))
	return s.Events(t.Context(), testRun)
}

// lines of a journal with messages 1 to n, after a header.
func lines(t testing.TB, n int) []string {
	t.Helper()
	clock := ticks()
	var out []string
	for i := range n + 1 {
		e := experiment.Event{Kind: experiment.EventWarning, Message: string(rune('0' + i%10))}
		if i == 0 {
			e = begin()
		}
		e.Wall, e.Boot = clock()
		line, err := testCodec.Marshal(&e)
		must(t, err)
		out = append(out, string(line)+"\n")
	}
	return out
}

func TestDamage(t *testing.T) {
	t.Parallel()
	good := lines(t, 9)
	with := func(line int, text string) []string {
		out := append([]string(nil), good...)
		out[line-1] = text
		return out
	}
	cut := strings.TrimSuffix(good[9], "\n")
	tests := []struct {
		name   string
		lines  []string
		events int
		line   int // of the DamageError; 0: none
		count  int
	}{
		{"none", good, 10, 0, 0},
		{"empty", nil, 0, 0, 0},
		{"last line cut", with(10, cut[:40]), 9, 0, 0},
		{"last newline cut", with(10, cut), 9, 0, 0},
		{"last line zeros", with(10, string(make([]byte, 512))), 9, 0, 0},
		{"last line no JSON", with(10, cut[:40]+"\n"), 9, 0, 0},
		{"last line an op that is not known", with(10, `{"kind":"announce","steps":[{"n":1,"do":{"type":"x"}}]}`+"\n"), 9, 10, 1},
		{"first line cut", []string{good[0][:30]}, 0, 0, 0},
		{"middle line cut", with(5, good[4][:40]+"\n"), 9, 5, 1},
		{"middle newline gone", with(5, strings.TrimSuffix(good[4], "\n")), 8, 5, 1},
		{"middle line empty", with(5, "\n"), 9, 5, 1},
		{"middle line no event", with(5, "{}\n"), 9, 5, 1},
		{"middle line null", with(5, "null\n"), 9, 5, 1},
		{"middle line too long", with(5, strings.Repeat("x", maxLine+blockSize+5)+"\n"), 9, 5, 1},
		{"middle line too long in a text", with(5, `{"kind":"warning","message":"`+strings.Repeat("x", maxLine+blockSize+5)+"\"}\n"), 9, 5, 1},
		{"two lines", append(with(3, "x\n")[:9], "y\n", good[9]), 9, 3, 2},
		{"middle and end", append(with(3, "x\n"), "y"), 9, 3, 1},
		{"header no JSON", with(1, "x\n"), 9, 1, 1},
		{"header not there", good[1:], 9, 1, 1},
		{"a kind that is not known", with(5, `{"kind":"weather","sun":true}`+"\n"), 10, 0, 0},
		{"a field that is not known", with(5, `{"kind":"warning","colour":"red"}`+"\n"), 10, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			events, err := read(t, []byte(strings.Join(test.lines, "")))
			if len(events) != test.events {
				t.Errorf("read %d events, want %d", len(events), test.events)
			}
			var damage *DamageError
			if !errors.As(err, &damage) {
				damage = &DamageError{}
				must(t, err)
			}
			if damage.Line != test.line || damage.Lines != test.count {
				t.Errorf("got line %d, %d lines: %v", damage.Line, damage.Lines, err)
			}
		})
	}
}

func TestDamageInAnyBlock(t *testing.T) {
	t.Parallel()
	all := lines(t, 20_000)
	all[15_000] = "not this\n"
	events, err := read(t, []byte(strings.Join(all, "")))
	var damage *DamageError
	if !errors.As(err, &damage) || damage.Line != 15_001 || len(events) != 20_000 {
		t.Errorf("read %d events, %v", len(events), err)
	}
	if !strings.Contains(err.Error(), "line 15001 is damaged: ") || !strings.HasSuffix(err.Error(), "; all other lines were read") {
		t.Errorf("got %v", err)
	}
	for i := 1; i < len(events); i++ {
		if events[i].Boot <= events[i-1].Boot {
			t.Fatalf("event %d is out of order", i)
		}
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	want := "its format 2 is not known to this version of Simian (it knows 1 to 1)"
	for name, header := range map[string]string{
		"that can be decoded": `{"kind":"begin","header":{"format":2}}`,
		"that can not":        `{"kind":"begin","header":{"format":2,"runner":"812"},"boot":{}}`,
	} {
		events, err := read(t, []byte(header+"\n"+lines(t, 1)[1]))
		if len(events) != 0 || err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %d events, %v", name, len(events), err)
		}
	}
}

func TestEachEndsEarly(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	all := strings.Join(lines(t, 30_000), "")
	must(t, os.WriteFile(filepath.Join(s.Dir(), "done/abc234.jsonl"), []byte(all), 0o600))
	enough, n := errors.New("enough"), 0
	wantErr(t, s.Each(t.Context(), testRun, func(*experiment.Event) error {
		if n++; n == 100 {
			return enough
		}
		return nil
	}), enough)
	if n != 100 {
		t.Errorf("called %d times", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	time.Sleep(time.Millisecond)
	wantErr(t, s.Each(ctx, testRun, func(*experiment.Event) error { return nil }), context.Canceled)
}

// FuzzEvents puts any bytes behind a sound journal: nothing panics, and what
// was written before the damage is read.
func FuzzEvents(f *testing.F) {
	sound := lines(f, 5)
	for _, seed := range []string{"", "x", "{", "{}\n", "\n\n", "null\n1\n[]\n", sound[0], sound[1][:20], sound[1] + "\x00\x00", `{"kind":"announce","steps":[{"do":{"type":"touch"}}]}` + "\n", `{"kind":"begin","header":{"format":9}}` + "\n"} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	s, err := New(dir, testCodec, Now)
	must(f, err)
	f.Fuzz(func(t *testing.T, tail []byte) {
		path := filepath.Join(dir, "open/abc234.jsonl")
		must(t, os.WriteFile(path, append([]byte(strings.Join(sound, "")), tail...), 0o600))
		events, err := s.Events(t.Context(), testRun)
		var damage *DamageError
		if err != nil && !errors.As(err, &damage) {
			t.Fatal(err)
		}
		if len(events) < 6 || events[0].Header == nil || events[5].Message != "5" {
			t.Fatalf("lost what was written: %d events, %v", len(events), err)
		}
		// A new holder goes on behind all that is whole.
		if err := s.TryLock(testRun); err != nil {
			t.Fatal(err)
		}
		defer s.Release(testRun)
		must(t, s.Append(t.Context(), announce(7)))
		after, err := s.Events(t.Context(), testRun)
		if len(after) != len(events)+1 || len(after[len(after)-1].Steps) != 1 {
			t.Fatalf("%d events became %d, %v", len(events), len(after), err)
		}
		os.WriteFile(path, tail, 0o600)
		s.Events(t.Context(), testRun)
	})
}
