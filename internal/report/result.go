package report

import (
	"time"

	"github.com/simianhq/simian/experiment"
)

// Result is what the journal of a run says, folded. A pointer is nil where
// the number is not known.
type Result struct {
	Run        experiment.RunID   `json:"run"`
	Experiment string             `json:"experiment"`
	Verdict    experiment.Verdict `json:"verdict"`          // "" while the run is unfinished
	Score      *float64           `json:"score,omitempty"`  // 0 to 100; none without checks, or where the run was cut short or not injected
	Started    time.Time          `json:"started,omitzero"` // wall time
	Ended      time.Time          `json:"ended,omitzero"`   // wall time; zero while unfinished
	Checks     []Check            `json:"checks"`
	Faults     []Fault            `json:"faults"` // one for each action of the file, in order
	Superseded []Superseded       `json:"superseded"`
	Drift      []experiment.Drift `json:"drift"`
	Residue    []string           `json:"residue"` // what is not put back, and how to do it by hand
	Error      string             `json:"error"`   // why it could not be run, or go on

	Unfinished      bool              `json:"unfinished,omitzero"` // its journal has no end: it goes on, or its process died
	Reasons         []string          `json:"reasons"`             // why the verdict is not pass, one sentence each, the worst first
	Cause           experiment.Cause  `json:"cause,omitempty"`     // why it was taken back, where not for its end
	CauseMessage    string            `json:"causeMessage,omitempty"`
	Seconds         *float64          `json:"seconds,omitempty"` // the whole run
	Steps           Steps             `json:"steps"`
	RecoverySeconds *float64          `json:"recoverySeconds,omitempty"` // fault taken back → every check steady again
	RecoveryWithin  float64           `json:"recoveryWithinSeconds,omitzero"`
	SteadyFor       float64           `json:"steadyForSeconds,omitzero"`
	Timeline        *Timeline         `json:"timeline,omitempty"`
	Lab             *Lab              `json:"lab,omitempty"`
	Gaps            []experiment.Gap  `json:"gaps,omitempty"`
	Warnings        []string          `json:"warnings,omitempty"` // of no one fault
	File            string            `json:"file,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Seed            uint64            `json:"seed"` // the choice of targets was drawn with
	Version         string            `json:"version,omitempty"`
}

// Check is how one check bore the run.
type Check struct {
	Name   string  `json:"name"`
	Held   bool    `json:"held"` // during and after, with samples to show it
	Before Samples `json:"before"`
	During Samples `json:"during"`
	After  Samples `json:"after"`

	Recovery Samples  `json:"recovery,omitzero"`              // between during and after; judged by how long it took
	Unsteady bool     `json:"unsteady,omitzero"`              // recovery ran out, and its last samples did not hold
	Impact   *float64 `json:"timeToImpactSeconds,omitempty"`  // fault in force → end of the first failed sample during
	Mend     *float64 `json:"timeToRecoverSeconds,omitempty"` // fault taken back → start of the first of three held samples; only where one failed

	Unit   string             `json:"unit,omitempty"` // "s", "ratio", "/s", "B" or "" for a plain number
	Min    *float64           `json:"min,omitempty"`
	Max    *float64           `json:"max,omitempty"`
	Weight float64            `json:"weight"`
	Allow  experiment.Percent `json:"allow,omitzero"`  // of a phase's samples may fail
	Mean   *float64           `json:"mean,omitempty"`  // of the samples during; before, where there are none
	Trend  string             `json:"trend,omitempty"` // a glyph for each equal part of Timeline, as Trend's comment in trend.go says
}

// Samples counts what a check measured in one phase: the samples whose whole
// window lies in it.
type Samples struct {
	Count  int      `json:"samples"`
	Failed int      `json:"failed"`
	Worst  *float64 `json:"worst,omitempty"` // the farthest outside the bounds, or the closest to them; none where nothing could be measured
	Error  string   `json:"error,omitempty"` // why the first of them that could not be measured could not
}

// Fault is what became of one action.
type Fault struct {
	Name     string     `json:"name"`
	Type     string     `json:"type"`
	Targets  []Target   `json:"targets"`
	Scope    int        `json:"scope,omitzero"` // running targets that were there to choose from
	Backend  string     `json:"backend,omitempty"`
	Injected bool       `json:"injected"`                // in force once, at least
	Strikes  int        `json:"strikes,omitzero"`        // how often it was put in force, where it repeats
	Repeat   string     `json:"repeat,omitempty"`        // how it does: "2s on, 8s off"
	Held     float64    `json:"heldSeconds,omitzero"`    // in force in all, where it is taken back
	Again    int        `json:"reinjected,omitzero"`     // how often it was put on what came in a target's place
	Inject   *float64   `json:"injectSeconds,omitempty"` // how long it took to put in force, the first time
	Revert   *float64   `json:"revertSeconds,omitempty"` // how long it took to take back, the last time
	Evidence []Evidence `json:"evidence"`
	Measured []Measured `json:"measured,omitempty"` // of its own effect, before it and while it was in force
	Notes    []string   `json:"notes,omitempty"`    // what happened to it besides
	Warnings []string   `json:"warnings"`
	Missed   string     `json:"missed,omitempty"`  // why it was not in force
	Limited  string     `json:"limited,omitempty"` // what kept it from more targets
	Seconds  float64    `json:"forSeconds,omitzero"`
}

// Measured is what a fault measured of its own effect.
type Measured = experiment.Measurement

// Target is what a fault was done to.
type Target struct {
	Kind     string `json:"kind,omitempty"`
	Name     string `json:"name"`
	ID       string `json:"id,omitempty"`
	Workload string `json:"workload,omitempty"`
	PID      int    `json:"pid,omitzero"` // of its init
}

// Evidence is what was last read back from the system about a step. Where an
// action strikes a target again and again, its n-th steps there are told of
// together: by the latest, in force if all were, felt if any was.
type Evidence struct {
	Step   int    `json:"step"`             // the latest
	Target string `json:"target,omitempty"` // its ID
	Times  int    `json:"times,omitzero"`   // steps told of, where there are more than one
	experiment.Evidence
}

// Superseded is a value that somebody else has changed since this run wrote
// it, and that was left to them.
type Superseded struct {
	Step int `json:"step,omitzero"`
	experiment.SupersededError
}

// Steps counts the steps of a run that had an undo.
type Steps struct {
	Undoable  int `json:"undoable"`
	TakenBack int `json:"takenBack"`
}

// Timeline is the time that the trends of checks cover.
type Timeline struct {
	Seconds   float64  `json:"seconds"`             // first to last sample
	FaultFrom *float64 `json:"faultFrom,omitempty"` // seconds from the first sample
	FaultTo   *float64 `json:"faultTo,omitempty"`
}

// PutBack tells whether the run is over and left nothing behind.
func (r *Result) PutBack() bool { return !r.Unfinished && len(r.Residue) == 0 }

// ExitCode returns the code that a process ends with on this result.
func (r *Result) ExitCode() int { return r.Verdict.ExitCode() }
