package journal

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// touch is an op that says what it is and does nothing.
type touch struct {
	Path string `json:"path"`
}

func (t *touch) Apply(context.Context) error { return nil }
func (t *touch) String() string              { return "touch " + t.Path }

// nobody is a selector that finds nothing.
type nobody struct {
	Name string `json:"name,omitempty"`
}

func (nobody) Select(context.Context) ([]experiment.Target, error) { return nil, nil }

var testCodec = experiment.Codec{
	Ops:     experiment.Catalog[experiment.Op]{"touch": func() experiment.Op { return &touch{} }},
	Targets: experiment.Catalog[experiment.Selector]{"nobody": func() experiment.Selector { return &nobody{} }},
}

// ticks is a clock that goes on by a millisecond each time it is looked at.
func ticks() Clock {
	wall, boot := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), experiment.BootTime(5_000_000_000)
	return func() (time.Time, experiment.BootTime) {
		wall, boot = wall.Add(time.Millisecond), boot.Add(time.Millisecond)
		return wall, boot
	}
}

const testRun = experiment.RunID("abc234")

func newStore(t testing.TB) *Store {
	t.Helper()
	return storeAt(t, t.TempDir())
}

func storeAt(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := New(dir, testCodec, ticks())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// created is a store with the journal of testRun, locked.
func created(t testing.TB) *Store {
	t.Helper()
	s := newStore(t)
	must(t, s.Create(t.Context(), testRun))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

func begin() experiment.Event {
	return experiment.Event{Run: testRun, Kind: experiment.EventBegin, Header: &experiment.Header{
		Format: 1, Version: "v0.1.0", Machine: "m", BootID: "b", PIDNamespace: 4026531836,
		Runner:     experiment.ProcessID{PID: 812, Start: 99123},
		Experiment: experiment.Summary{Name: "x", Actions: []experiment.ActionSummary{{Name: "a", Type: "kill", Target: experiment.TargetSpec{Type: "nobody", Selector: &nobody{"web"}, Mode: "one"}}}},
	}}
}

func announce(n int) experiment.Event {
	return experiment.Event{Run: testRun, Kind: experiment.EventAnnounce, Action: 1, Steps: []experiment.PlannedStep{
		{N: n, Target: "process:1", Step: experiment.Step{Do: &touch{"/a"}, Undo: &touch{"/b"}}},
	}}
}

func sample(i int) experiment.Event {
	at := experiment.BootTime(5_000_000_000 + i*1_000_000)
	return experiment.Event{Run: testRun, Kind: experiment.EventSample, Sample: &experiment.Sample{
		Check: i % 3, From: at, To: at.Add(time.Millisecond), Value: float64(i%997) / 1000, Held: i%2 == 0,
	}}
}

func appendAll(t testing.TB, s *Store, events ...experiment.Event) {
	t.Helper()
	for _, e := range events {
		must(t, s.Append(t.Context(), e))
	}
}
