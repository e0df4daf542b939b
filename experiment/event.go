package experiment

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JournalFormat is the version of the journal that this Simian writes. Every
// version up to it is read.
const JournalFormat = 1

// EventKind says what happened.
type EventKind string

// The kinds of events, in the order in which a run first writes them.
const (
	EventBegin      EventKind = "begin"      // Header: always the first
	EventPhase      EventKind = "phase"      // Phase: a phase begins
	EventSample     EventKind = "sample"     // Sample: a check was measured
	EventGuardian   EventKind = "guardian"   // Guardian, Seconds: armed, before the first change
	EventPlan       EventKind = "plan"       // Action, Plan: what an action is about to do
	EventObserved   EventKind = "observed"   // Observed: a target's state before the change
	EventLabUp      EventKind = "labup"      // Seconds, Containers: all of the lab is up and healthy
	EventContain    EventKind = "contain"    // Container: what became of a container of the lab
	EventAnnounce   EventKind = "announce"   // Action, Steps: they may be applied from now on; on disk before they are
	EventApplied    EventKind = "applied"    // Step, Seconds, Error: Apply returned
	EventVerified   EventKind = "verified"   // Step, Evidence: what Verify read back
	EventInjected   EventKind = "injected"   // Action, Seconds: all steps of it are in force
	EventMeasured   EventKind = "measured"   // Action, Measured: what it changes, before it was applied or while it was in force
	EventReinjected EventKind = "reinjected" // Action, Seconds, Message: in force on what came in a target's place
	EventLeft       EventKind = "left"       // Action, Message: a target left while the fault was on, and was left alone from then on
	EventMissed     EventKind = "missed"     // Action, Message: it is not in force, and why
	EventTakeBack   EventKind = "takeback"   // Action (0 all), Cause, Message: from now on nothing is injected for it
	EventUndone     EventKind = "undone"     // Step, Seconds, Superseded, Message: taken back, or nothing was left to take back
	EventUndoFail   EventKind = "undofail"   // Step, Error: it could not be taken back; it is tried again
	EventReverted   EventKind = "reverted"   // Action, Seconds: all of it is taken back
	EventResidue    EventKind = "residue"    // Lines: what this run left
	EventDrift      EventKind = "drift"      // Drift: what changed and no step explains
	EventGaps       EventKind = "gaps"       // Gaps: workloads with fewer running targets than before
	EventWarning    EventKind = "warning"    // Action, Message
	EventEnd        EventKind = "end"        // Error: the run is over; always the last
)

// Event is one line of a journal.
type Event struct {
	Wall time.Time `json:"wall"`
	Boot BootTime  `json:"boot"` // CLOCK_BOOTTIME: durations come from it
	Kind EventKind `json:"kind"`
	Run  RunID     `json:"-"` // the journal's name says it

	Action  int     `json:"action,omitzero"` // from 1, as in the file; 0 is the lab
	Step    int     `json:"step,omitzero"`   // from 1, counted through the run
	Seconds float64 `json:"seconds,omitzero"`
	Cause   Cause   `json:"cause,omitempty"`
	Message string  `json:"message,omitempty"`
	Error   string  `json:"error,omitempty"`

	Header     *Header          `json:"header,omitempty"`
	Phase      *PhaseMark       `json:"phase,omitempty"`
	Sample     *Sample          `json:"sample,omitempty"`
	Guardian   *GuardianMark    `json:"guardian,omitempty"`
	Plan       *Plan            `json:"plan,omitempty"`
	Observed   *Observation     `json:"observed,omitempty"`
	Steps      []PlannedStep    `json:"steps,omitempty"`
	Evidence   *Evidence        `json:"evidence,omitempty"`
	Measured   *Measurement     `json:"measured,omitempty"`
	Superseded *SupersededError `json:"superseded,omitempty"`
	Lines      []string         `json:"lines,omitempty"`
	Drift      []Drift          `json:"drift,omitempty"`
	Gaps       []Gap            `json:"gaps,omitempty"`

	Container  *ContainerMark `json:"container,omitempty"`
	Containers int            `json:"containers,omitzero"`
}

// Announces tells whether e must be on disk before Append returns: what
// follows it changes a system.
func (e Event) Announces() bool {
	return e.Kind == EventBegin || e.Kind == EventAnnounce || e.Kind == EventEnd
}

// Header says who ran what, where. Nothing of the file that could be a secret
// (URLs, headers, commands) is in it.
type Header struct {
	Format       int       `json:"format"`
	Version      string    `json:"version"`      // of Simian
	Machine      string    `json:"machine"`      // machine-id(5)
	BootID       string    `json:"bootId"`       // changes with every boot
	PIDNamespace uint64    `json:"pidNamespace"` // inode: pids in steps are of it
	Runner       ProcessID `json:"runner"`
	UID          int       `json:"uid"`
	Seed         uint64    `json:"seed"`
	Experiment   Summary   `json:"experiment"`
}

// Summary is what of an experiment a report needs, and no secret.
type Summary struct {
	Name           string            `json:"name"`
	File           string            `json:"file,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Every          Duration          `json:"every,omitzero"`
	SteadyFor      Duration          `json:"steadyFor,omitzero"`
	RecoveryWithin Duration          `json:"recoveryWithin,omitzero"`
	AbortAfter     int               `json:"abortAfter,omitzero"`
	BlastRadius    BlastRadius       `json:"blastRadius,omitzero"`
	Lab            *LabSummary       `json:"lab,omitempty"`
	Checks         []CheckSummary    `json:"checks,omitempty"`
	Actions        []ActionSummary   `json:"actions"`
}

// CheckSummary is a check without what it measures.
type CheckSummary struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit,omitempty"` // "s", "ratio", "/s", "B" or ""
	Window Duration `json:"window,omitzero"`
	Min    *Bound   `json:"min,omitempty"`
	Max    *Bound   `json:"max,omitempty"`
	Weight float64  `json:"weight"`
	Allow  Percent  `json:"allow,omitzero"`
}

// ActionSummary is an action without what its fault is told.
type ActionSummary struct {
	Name   string     `json:"name"`
	Type   string     `json:"type"`
	For    Duration   `json:"for,omitzero"`
	Target TargetSpec `json:"target"` // so that another process can count the workloads again
	Repeat *Repeat    `json:"repeat,omitempty"`
}

// Phase is a part of a run.
type Phase string

// The phases, in order. A sample belongs to the phase its whole window lies in.
const (
	PhaseBefore   Phase = "before"   // until the first fault
	PhaseDuring   Phase = "during"   // until the last fault is taken back
	PhaseRecovery Phase = "recovery" // until every check holds again
	PhaseAfter    Phase = "after"    // steady again
)

// PhaseMark says when a phase began: not always when that was known. The
// after phase begins at the first of the held samples that ended recovery.
type PhaseMark struct {
	Name  Phase    `json:"name"`
	Since BootTime `json:"since"` // CLOCK_BOOTTIME
}

// Sample is one measurement of a check.
type Sample struct {
	Check int      `json:"check"` // index into Summary.Checks
	From  BootTime `json:"from"`  // CLOCK_BOOTTIME, the window it covers
	To    BootTime `json:"to"`
	Value float64  `json:"value"`
	Held  bool     `json:"held,omitzero"`
	Error string   `json:"error,omitempty"` // why it could not be measured: a failed sample
}

// GuardianMark says that a guardian is armed.
type GuardianMark struct {
	Process  ProcessID `json:"process"`
	Deadline BootTime  `json:"deadline"`          // CLOCK_BOOTTIME: it takes back by then
	Place    string    `json:"place"`             // the scope or cgroup it stands in
	Warning  string    `json:"warning,omitempty"` // what it would not survive
}

// Plan is what an action is about to do.
type Plan struct {
	Strike    int            `json:"strike,omitzero"` // from 2 where a fault repeats
	Targets   []Target       `json:"targets"`
	Scope     int            `json:"scope"`             // running targets that the selector found
	Workloads map[string]int `json:"workloads"`         // running targets of each workload before
	Limited   string         `json:"limited,omitempty"` // what kept it from more targets
	Backend   string         `json:"backend,omitempty"`
	Notes     []string       `json:"notes,omitempty"` // what a user should know of it
}

// PlannedStep is a step that may be applied from now on.
type PlannedStep struct {
	N      int    `json:"n"`      // its number in the run, from 1
	Target string `json:"target"` // the target's ID
	Step
}

// Observation is the state of one object of a target's that faults could
// change, one line a fact: "net:4026531840" its qdiscs, links and rules.
type Observation struct {
	Object string   `json:"object"`
	Target string   `json:"target"` // the target's ID
	Lines  []string `json:"lines"`
}

// Drift is a difference that no step explains.
type Drift struct {
	Object string   `json:"object"`
	Gone   []string `json:"gone,omitempty"`
	New    []string `json:"new,omitempty"`
}

// Gap is a workload with fewer running targets than before.
type Gap struct {
	Workload string `json:"workload"`
	Before   int    `json:"before"`
	Now      int    `json:"now"`
	Started  int    `json:"started,omitzero"` // how many of them Simian started
}

// Cause says why something is taken back.
type Cause string

// The causes.
const (
	CauseEnd         Cause = "end"          // the action lasted as long as it should
	CauseAbortAfter  Cause = "abort-after"  // failed samples in a row
	CauseNotSteady   Cause = "not-steady"   // before the fault
	CauseInterrupted Cause = "interrupted"  // a signal, or simian rollback
	CauseGuardian    Cause = "guardian"     // the guardian died
	CauseRunnerDied  Cause = "runner-died"  // taken back by the guardian or a sweep
	CauseDeadline    Cause = "deadline"     // the guardian killed a runner that stood still
	CauseNotInjected Cause = "not-injected" // the fault did not take
	CauseRestarted   Cause = "restarted"    // a target left while a fault with onRestart: fail was on
	CauseError       Cause = "error"        // the run could not go on
)

// Codec reads and writes events. Ops and selectors go by their names in the
// catalogues.
type Codec struct {
	Ops     Catalog[Op]
	Targets Catalog[Selector]
}

// Marshal returns e as one line, without the newline.
func (c Codec) Marshal(e *Event) ([]byte, error) { return c.Encoder()(e) }

// Encoder returns a function that writes an event as one line, without the
// newline. It is made once for many events.
func (c Codec) Encoder() func(*Event) ([]byte, error) {
	options := c.options()
	return func(e *Event) ([]byte, error) { return json.Marshal(e, options) }
}

// Decoder returns a function that reads one line into an event. It is made
// once for many lines.
func (c Codec) Decoder() func(line []byte, e *Event) error {
	options := c.options()
	return func(line []byte, e *Event) error { return json.Unmarshal(line, e, options) }
}

// options allow what is no UTF-8: the names of processes and files may be any
// bytes, and what happened must be written down all the same.
func (c Codec) options() json.Options {
	return json.JoinOptions(
		jsontext.AllowInvalidUTF8(true), json.Deterministic(true),
		json.WithMarshalers(json.JoinMarshalers(c.Ops.marshaler(), targetMarshaler(c.Targets))),
		json.WithUnmarshalers(json.JoinUnmarshalers(c.Ops.unmarshaler(), targetUnmarshaler(c.Targets), durationUnmarshaler())),
	)
}

// durationMarshaler writes the plain durations that ops hold as Go does: 20ms.
func durationMarshaler() *json.Marshalers {
	return json.MarshalToFunc(func(enc *jsontext.Encoder, d time.Duration) error {
		return enc.WriteToken(jsontext.String(d.String()))
	})
}

func durationUnmarshaler() *json.Unmarshalers {
	return json.UnmarshalFromFunc(func(dec *jsontext.Decoder, d *time.Duration) error {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		*d, err = time.ParseDuration(token.String())
		return err
	})
}

// CheckHeader refuses a journal that this Simian must not touch.
func (h *Header) CheckHeader(machine string) error {
	switch {
	case h == nil:
		return errors.New("its first line is not a header")
	case h.Format < 1 || h.Format > JournalFormat:
		return fmt.Errorf("its format %d is not known to this version of Simian (it knows 1 to %d)", h.Format, JournalFormat)
	case h.Machine != machine:
		return errors.New("it is of another machine")
	}
	return nil
}

// Summarise returns what of e a journal keeps.
func (e *Experiment) Summarise() Summary {
	s := Summary{
		Name: e.Metadata.Name, File: e.File, Labels: e.Metadata.Labels,
		Every: e.Spec.Hypothesis.Every, RecoveryWithin: e.Spec.Recovery.Within,
		AbortAfter: e.Spec.Abort.After, BlastRadius: e.Spec.BlastRadius,
	}
	if e.Spec.Steady.For != nil {
		s.SteadyFor = *e.Spec.Steady.For
	}
	for _, c := range e.Spec.Hypothesis.Checks {
		sum := CheckSummary{Name: c.Name, Unit: c.Unit(), Window: c.Window, Min: c.Min, Max: c.Max, Weight: 1, Allow: c.Allow}
		if c.Weight != nil {
			sum.Weight = *c.Weight
		}
		s.Checks = append(s.Checks, sum)
	}
	for _, a := range e.Spec.Method {
		s.Actions = append(s.Actions, ActionSummary{a.Name, a.Type, a.For, a.Target, a.Repeat})
	}
	return s
}

// BootTime is a moment on CLOCK_BOOTTIME, in nanoseconds since the machine
// booted. It goes on during suspend and never jumps.
type BootTime int64

// Sub returns how long after u t is.
func (t BootTime) Sub(u BootTime) time.Duration { return time.Duration(t - u) }

// Add returns the moment d after t.
func (t BootTime) Add(d time.Duration) BootTime { return t + BootTime(d) }
