package experiment_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/simianhq/simian/experiment"
)

type setOp struct {
	Path string            `json:"path"`
	More map[string]string `json:"more,omitempty"`
	Wait time.Duration     `json:"wait,omitzero"`
	Rest []rest            `json:"rest,omitempty"`
}

// rest is nested in an op.
type rest struct {
	For   time.Duration       `json:"for"`
	Until experiment.Duration `json:"until"`
}

func (*setOp) Apply(context.Context) error { return nil }
func (o *setOp) String() string            { return "set " + o.Path }

type signalOp struct {
	Process experiment.ProcessID `json:"process"`
}

func (signalOp) Apply(context.Context) error { return nil }
func (o signalOp) String() string            { return "kill " + o.Process.String() }

func codec() experiment.Codec {
	return experiment.Codec{
		Ops: experiment.Catalog[experiment.Op]{
			"set":    func() experiment.Op { return &setOp{} },
			"signal": func() experiment.Op { return signalOp{} },
		},
		Targets: loader().Targets,
	}
}

// events holds one event of each kind, with all that it can hold.
func events() []experiment.Event {
	percent := experiment.Percent(30)
	web := experiment.ProcessID{PID: 812, Start: 99123}
	target := experiment.Target{
		Kind: "process", Name: "web", ID: "process:812:99123", Labels: map[string]string{"a": "b"}, Workload: "web",
		PIDs: []experiment.ProcessID{web}, Net: experiment.Namespace{Inode: 1 << 40, Via: web}, Root: "/proc/812/root",
		Cgroup: experiment.Cgroup{
			V2: experiment.CgroupDir{Path: "/web", Inode: 31},
			V1: map[string]experiment.CgroupDir{"cpu": {Path: "/web", Inode: 7}},
		},
		Runtime: &experiment.RuntimeRef{Runtime: "docker", ID: "1c9e", Started: "2025-01-01T00:00:00Z", Restart: "always"},
		Object:  &experiment.ObjectRef{Kind: "Pod", Namespace: "shop", Name: "web", UID: "u"},
	}
	summary := experiment.Summary{
		Name: "web-freeze", File: "f.yaml", Labels: map[string]string{"team": "shop"},
		Every: experiment.DefaultEvery, SteadyFor: 1, RecoveryWithin: 2, AbortAfter: 3,
		BlastRadius: experiment.BlastRadius{Targets: 1, Percent: &percent},
		Checks: []experiment.CheckSummary{{
			Name: "quick", Unit: "s", Window: 5, Weight: 2, Allow: 10,
			Min: &experiment.Bound{Value: 0.25}, Max: &experiment.Bound{Value: 0.1, Seconds: true},
		}},
		Actions: []experiment.ActionSummary{
			{
				Name: "a", Type: "freeze", For: 7,
				Target: experiment.TargetSpec{Selector: &process{Name: "web"}, Type: "process", Mode: experiment.ModeFixed, Count: 2},
			},
			{Name: "b", Type: "kill", Target: experiment.TargetSpec{Selector: anything{}, Type: "any", Mode: experiment.ModeFixedPercent, Percent: 12.5}},
			{Name: "c", Type: "kill"},
		},
	}
	return []experiment.Event{
		{Kind: experiment.EventBegin, Header: &experiment.Header{
			Format: 1, Version: "1.0", Machine: "m", BootID: "b", PIDNamespace: 4026531836, Runner: web, UID: 1000, Seed: 1 << 63, Experiment: summary,
		}},
		{Kind: experiment.EventPhase, Phase: &experiment.PhaseMark{Name: experiment.PhaseBefore, Since: 12}},
		{Kind: experiment.EventSample, Sample: &experiment.Sample{Check: 1, From: 1, To: 2, Value: 0.1 + 0.2, Held: true, Error: "refused"}},
		{Kind: experiment.EventGuardian, Guardian: &experiment.GuardianMark{Process: web, Deadline: 1 << 60, Place: "/simian", Warning: "w"}},
		{Kind: experiment.EventPlan, Action: 1, Plan: &experiment.Plan{
			Strike: 2, Targets: []experiment.Target{target}, Scope: 4, Workloads: map[string]int{"web": 4}, Limited: "percent", Backend: "cgroup", Notes: []string{"web: no IPv6 here"},
		}},
		{Kind: experiment.EventObserved, Observed: &experiment.Observation{Object: "net:1", Target: target.ID, Lines: []string{"a", "b\n\"c\""}}},
		{Kind: experiment.EventAnnounce, Action: 1, Steps: []experiment.PlannedStep{
			{N: 1, Target: target.ID, Step: experiment.Step{
				Do:   &setOp{Path: "/a", More: map[string]string{"k": "ünïcode"}, Wait: 20 * time.Millisecond, Rest: []rest{{time.Hour + 1, 2}}},
				Undo: &setOp{Path: "/b", Wait: -1},
			}},
			{N: 2, Target: target.ID, Step: experiment.Step{Do: signalOp{web}}},
		}},
		{Kind: experiment.EventApplied, Step: 1, Seconds: 0.00081, Error: "gone"},
		{Kind: experiment.EventVerified, Step: 1, Evidence: &experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "w", Hint: "h"}},
		{Kind: experiment.EventInjected, Action: 1, Seconds: 1e-9},
		{Kind: experiment.EventMeasured, Action: 1, Measured: &experiment.Measurement{
			Target: "t", Phase: experiment.PhaseDuring, What: "round trip", Sent: 10, Lost: 1, Min: 0.1, Mean: 0.2, P50: 0.2, P99: 0.3, Max: 0.4, SD: 0.01, Notes: []string{"n"},
		}},
		{Kind: experiment.EventReinjected, Action: 1, Seconds: 0.1, Message: "web-1 came back"},
		{Kind: experiment.EventMissed, Action: 1, Message: "nothing matched"},
		{Kind: experiment.EventTakeBack, Cause: experiment.CauseEnd, Message: "m"},
		{Kind: experiment.EventUndone, Step: 1, Seconds: 2, Superseded: &experiment.SupersededError{Object: "o", Read: "1", Wrote: "2", Present: "3"}},
		{Kind: experiment.EventUndoFail, Step: 1, Error: "busy"},
		{Kind: experiment.EventReverted, Action: 1, Seconds: 3},
		{Kind: experiment.EventResidue, Lines: []string{"cgroup simian-abc"}},
		{Kind: experiment.EventDrift, Drift: []experiment.Drift{{Object: "net:1", Gone: []string{"a"}, New: []string{"b"}}}},
		{Kind: experiment.EventGaps, Gaps: []experiment.Gap{{Workload: "web", Before: 4, Now: 3, Started: 1}}},
		{Kind: experiment.EventLabUp, Seconds: 0.5, Containers: 7},
		{Kind: experiment.EventContain, Container: &experiment.ContainerMark{
			Name: "web-1", Service: "web", State: experiment.ContainerExited,
			Process: experiment.ProcessID{PID: 4, Start: 5}, Start: 2, Exit: "exit 1", Policy: "always",
		}},
		{Kind: experiment.EventWarning, Action: 1, Message: "w"},
		{Kind: experiment.EventEnd, Error: "e"},
	}
}

func TestEventsSurvive(t *testing.T) {
	t.Parallel()
	decode := codec().Decoder()
	for _, e := range events() {
		t.Run(string(e.Kind), func(t *testing.T) {
			e.Wall, e.Boot = time.Date(2025, 1, 2, 3, 4, 5, 6, time.UTC), 123456789
			line, err := codec().Marshal(&e)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(line), "\n") {
				t.Errorf("%s is not one line", line)
			}
			var got experiment.Event
			if err := decode(line, &got); err != nil {
				t.Fatalf("%v\n%s", err, line)
			}
			if diff := cmp.Diff(e, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("after the journal (- before):\n%s", diff)
			}
		})
	}
}

// TestEventsAreComplete asks that events fills in every field somewhere.
func TestEventsAreComplete(t *testing.T) {
	t.Parallel()
	set := map[string]bool{"Run": true, "Wall": true, "Boot": true}
	for _, e := range events() {
		for v, i := reflect.ValueOf(e), 0; i < v.NumField(); i++ {
			if !v.Field(i).IsZero() {
				set[v.Type().Field(i).Name] = true
			}
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[experiment.Event]()) {
		if !set[f.Name] {
			t.Errorf("no event holds %s", f.Name)
		}
	}
}

func TestNilUndo(t *testing.T) {
	t.Parallel()
	line, err := codec().Marshal(&experiment.Event{Kind: experiment.EventAnnounce, Steps: []experiment.PlannedStep{
		{N: 1, Step: experiment.Step{Do: &setOp{Path: "/a"}}},
		{N: 2, Step: experiment.Step{Do: &setOp{Path: "/a"}, Undo: (*setOp)(nil)}},
	}})
	if err != nil || strings.Contains(string(line), "undo") {
		t.Fatalf("it gave %s, %v", line, err)
	}
	for _, in := range []string{string(line), `{"kind":"announce","steps":[{"do":{"type":"set","path":"/a"},"undo":null}]}`} {
		var e experiment.Event
		if err := codec().Decoder()([]byte(in), &e); err != nil {
			t.Fatal(err)
		}
		if e.Steps[0].Undo != nil || e.Steps[0].Do == nil {
			t.Errorf("undo became %#v", e.Steps[0].Undo)
		}
	}
}

func TestCodecErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, line, want string }{
		{"unknown op", `{"kind":"announce","steps":[{"do":{"type":"warp"}}]}`, `unknown type "warp"`},
		{"no type", `{"kind":"announce","steps":[{"do":{"path":"/a"}}]}`, "type is missing"},
		{"unknown field of an op", `{"kind":"announce","steps":[{"do":{"type":"set","pth":"/a"}}]}`, `"pth"`},
		{"an op that is text", `{"kind":"announce","steps":[{"do":"set"}]}`, "want fields (type: …), not text"},
		{"unknown target", `{"kind":"begin","header":{"experiment":{"actions":[{"target":{"type":"pod"}}]}}}`, `unknown type "pod"`},
		{"a duration that is none", `{"kind":"announce","steps":[{"do":{"type":"set","wait":"soon"}}]}`, `invalid duration "soon"`},
		{"a duration that is a number", `{"kind":"announce","steps":[{"do":{"type":"set","wait":5}}]}`, `missing unit in duration "5"`},
		{"cut", `{"kind":"announce","steps":[{"do":{"ty`, "unexpected EOF"},
		{"empty", ``, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var e experiment.Event
			if err := codec().Decoder()([]byte(c.line), &e); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it gave %v, want %s", err, c.want)
			}
		})
	}
	_, err := codec().Marshal(&experiment.Event{Steps: []experiment.PlannedStep{{Step: experiment.Step{Do: strangeOp{}}}}})
	if err == nil || !strings.Contains(err.Error(), "strangeOp: it is not in the catalogue") {
		t.Errorf("an op of no catalogue gave %v", err)
	}
}

type strangeOp struct{ signalOp }

// TestOpsAreNotMangled: an event may lose bytes that are no UTF-8, but an op
// acts on what it names.
func TestOpsAreNotMangled(t *testing.T) {
	t.Parallel()
	if _, err := codec().Marshal(&experiment.Event{Message: "a\xffb"}); err != nil {
		t.Errorf("a message: %v", err)
	}
	step := experiment.Step{Do: &setOp{Path: "/a\xffb"}}
	if line, err := codec().Marshal(&experiment.Event{Steps: []experiment.PlannedStep{{Step: step}}}); err == nil {
		t.Errorf("an op: %s", line)
	}
}

func TestCheckHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		h          *experiment.Header
	}{
		{"none", "not a header", nil},
		{"of a later version", "format 2 is not known", &experiment.Header{Format: 2, Machine: "m"}},
		{"of another machine", "another machine", &experiment.Header{Format: 1, Machine: "n"}},
		{"good", "", &experiment.Header{Format: 1, Machine: "m"}},
	} {
		err := c.h.CheckHeader("m")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s gave %v", c.name, err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	order := []experiment.Verdict{
		experiment.Residue, experiment.NotInjected, experiment.Errored, experiment.Fail, experiment.Aborted, experiment.Pass,
	}
	codes := []int{4, 5, 6, 1, 3, 0}
	for i, v := range order {
		if v.ExitCode() != codes[i] {
			t.Errorf("%s exits with %d", v, v.ExitCode())
		}
		if got := experiment.Worst(order[i:]...); got != v {
			t.Errorf("the worst of %v is %s", order[i:], got)
		}
	}
	if experiment.Verdict("?").ExitCode() != 6 || experiment.Worst() != experiment.Pass {
		t.Error("an unknown verdict, or none, counts wrongly")
	}
}
