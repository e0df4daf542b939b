package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// eventsOf reads those of the only run that is done and that has an action.
func (l *lab) eventsOf(run experiment.RunID) []experiment.Event {
	l.t.Helper()
	data, err := os.ReadFile(filepath.Join(l.dir, "done", string(run)+".jsonl"))
	if err != nil {
		l.t.Fatal(err)
	}
	var events []experiment.Event
	for line := range strings.Lines(string(data)) {
		var e struct {
			Boot      experiment.BootTime       `json:"boot"`
			Kind      experiment.EventKind      `json:"kind"`
			Container *experiment.ContainerMark `json:"container"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			l.t.Fatal(err)
		}
		events = append(events, experiment.Event{Boot: e.Boot, Kind: e.Kind, Container: e.Container})
	}
	return events
}

// outline is what of a result these tests ask for.
type outline struct {
	Run     experiment.RunID
	Verdict experiment.Verdict
	Seed    uint64
	Faults  []struct {
		Strikes    int
		Reinjected int
		Held       float64 `json:"heldSeconds"`
	}
}

func (l *lab) outline(code int, args ...string) outline {
	l.t.Helper()
	o := l.expect(code, append([]string{"run", "-o", "json"}, args...)...)
	var r outline
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		l.t.Fatalf("%v\n%s", err, o.stdout)
	}
	return r
}

// TestReinjectedWithinASecond kills a container that is frozen: once the lab has
// started it again, it is frozen again.
func TestReinjectedWithinASecond(t *testing.T) {
	l := newLab(t)
	compose := l.compose("  web:" + container + "command: [serve, ':80']\n    restart: always\n")
	file := l.experiment("{compose: "+compose+"}", `  - {name: frozen, fault: {type: freeze, backend: signal}, target: {type: native, service: web}, for: 3s}
  - {name: killed, fault: {type: kill}, target: {type: native, service: web}, after: 500ms, parallel: true}
`)
	r := l.outline(0, file)
	if f := r.Faults[0]; r.Verdict != experiment.Pass || f.Reinjected != 1 || f.Held < 2.9 {
		t.Errorf("%+v", r)
	}
	var back, again experiment.BootTime
	for _, e := range l.eventsOf(r.Run) {
		switch {
		case e.Container != nil && e.Container.State == experiment.ContainerRunning && e.Container.Start > 1:
			back = e.Boot
		case e.Kind == experiment.EventReinjected:
			again = e.Boot
		}
	}
	if took := again.Sub(back); back == 0 || took > time.Second {
		t.Errorf("frozen again %s after it was started", took)
	} else {
		t.Logf("frozen again %s after it was started", took)
	}
	l.noLab()
}

// TestPulses freezes a process in pulses, and draws with the seed it is given.
func TestPulses(t *testing.T) {
	l := newLab(t)
	s := newSleeper(t)
	file := l.file(strings.Replace(freeze(s.pid, "420ms"), "for: 420ms", "repeat: {pulse: {on: 200ms, off: 300ms}, times: 3}", 1), "")
	r := l.outline(0, "--seed", "0", file)
	if f := r.Faults[0]; r.Verdict != experiment.Pass || f.Strikes != 3 || f.Held < 0.6 || f.Held > 1 || r.Seed != 0 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"struck 3 times (200ms on, 300ms off, 3 times)", "seed 0"} {
		if o := l.expect(0, "report", string(r.Run)); !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
	s.runs(t)
	l.clean()
}

// TestConflict refuses two faults that hold one thing, before either is made.
func TestConflict(t *testing.T) {
	l := newLab(t)
	s := newSleeper(t)
	again := strings.NewReplacer("name: freeze", "name: again", "for: 5s", "for: 5s, after: 1s, parallel: true")
	two := freeze(s.pid, "5s") + again.Replace(freeze(s.pid, "5s"))
	for _, command := range []string{"plan", "run"} {
		o := l.expect(2, command, l.file(two, ""))
		if !strings.Contains(o.stderr, `overlap in time, and both hold the `) || !strings.Contains(o.stderr, "spec.method[1].fault: ") {
			t.Errorf("%s: %s", command, o.stderr)
		}
	}
	s.runs(t)
	l.clean()
}
