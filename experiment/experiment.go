package experiment

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// What a file must say of itself.
const (
	APIVersion = "simian.dev/v1"
	Kind       = "Experiment"
)

// Experiment is one experiment file, decoded.
type Experiment struct {
	APIVersion string   `json:"apiVersion" jsonschema:"the version of this format: simian.dev/v1"`
	Kind       string   `json:"kind" jsonschema:"Experiment"`
	Metadata   Metadata `json:"metadata" jsonschema:"what the experiment is called"`
	Spec       Spec     `json:"spec" jsonschema:"what is broken, where, and what must hold meanwhile"`

	File string                        `json:"-"` // where it was read from
	Line func(at jsontext.Pointer) int `json:"-"` // the line of a place in it; nil where it was not read from a file
}

// Metadata is what an experiment is called.
type Metadata struct {
	Name   string            `json:"name" jsonschema:"lower-case letters, digits, dots and dashes"`
	Labels map[string]string `json:"labels,omitempty" jsonschema:"free words to find the results by"`
}

// Spec is what is broken, where, and what must hold meanwhile.
type Spec struct {
	Parameters  map[string]Parameter `json:"parameters,omitempty" jsonschema:"values that --set fills in where the file says ${NAME}"`
	Lab         *Lab                 `json:"lab,omitempty" jsonschema:"the containers to break: launched for this run, or standing already; leave it out to break what runs on this host"`
	Traffic     []Traffic            `json:"traffic,omitempty" jsonschema:"open-loop load while the experiment runs"`
	Hypothesis  Hypothesis           `json:"hypothesis,omitzero" jsonschema:"what normal looks like: before, during and after"`
	Steady      Steady               `json:"steady,omitzero" jsonschema:"how long every check must hold before the first fault"`
	Method      []Action             `json:"method" jsonschema:"what is done, in order"`
	BlastRadius BlastRadius          `json:"blastRadius,omitzero" jsonschema:"how much the whole run may touch at the most"`
	Abort       Abort                `json:"abort,omitzero" jsonschema:"when the fault is taken back early"`
	Recovery    Recovery             `json:"recovery,omitzero" jsonschema:"how soon all must be steady again"`
	Seed        *uint64              `json:"seed,omitempty" jsonschema:"what the choice of targets is drawn with; the result prints it"`
}

// Parameter is a value that a file leaves open.
type Parameter struct {
	Default     *Scalar `json:"default,omitempty" jsonschema:"used where --set gives none"`
	Description string  `json:"description,omitempty" jsonschema:"what it is for"`
}

// Scalar is a string, a number or a boolean, held as the file writes it.
type Scalar struct{ Text string }

// Traffic is open-loop HTTP load: requests are sent when they are due, whether
// or not the earlier ones were answered.
type Traffic struct {
	Name    string            `json:"name" jsonschema:"what checks call it"`
	URL     string            `json:"url" jsonschema:"http or https"`
	Rate    Rate              `json:"rate" jsonschema:"requests sent, such as 50/s"`
	Method  string            `json:"method,omitempty" jsonschema:"GET unless told otherwise"`
	Headers map[string]string `json:"headers,omitempty" jsonschema:"sent with each request"`
	Body    string            `json:"body,omitempty" jsonschema:"sent with each request"`
	Timeout Duration          `json:"timeout,omitzero" jsonschema:"a request unanswered for so long has failed (1s)"`
}

// Hypothesis is what normal looks like.
type Hypothesis struct {
	Every  Duration `json:"every,omitzero" jsonschema:"how often each check is sampled (250ms)"`
	Checks []Check  `json:"checks,omitempty" jsonschema:"numbers and the bounds they must keep"`
}

// Check is one number and the bounds it must keep.
type Check struct {
	Name    string   `json:"name" jsonschema:"what the report calls it"`
	Traffic string   `json:"traffic,omitempty" jsonschema:"the name of a traffic to measure"`
	Measure string   `json:"measure,omitempty" jsonschema:"of traffic: success, rate, mean, p50, p95, p99 or max"`
	Window  Duration `json:"window,omitzero" jsonschema:"how much traffic one sample covers (1s)"`
	Probe   Probe    `json:"probe,omitempty" jsonschema:"how the number is measured (simian list probes)"`
	Min     *Bound   `json:"min,omitempty" jsonschema:"the number must not be below: 0.99 or 5ms"`
	Max     *Bound   `json:"max,omitempty" jsonschema:"the number must not be above: 0.5 or 100ms"`
	Weight  *float64 `json:"weight,omitempty" jsonschema:"its part in the score (1)"`
	Allow   Percent  `json:"allow,omitzero" jsonschema:"percent of the samples of a phase that may fail (0)"`
}

// Steady is how long every check must hold before the first fault.
type Steady struct {
	For    *Duration `json:"for,omitempty" jsonschema:"every check holds for this long (2s)"`
	Within Duration  `json:"within,omitzero" jsonschema:"or the run is aborted after this long (30s)"`
}

// Action is a fault done to a selection of targets.
type Action struct {
	Name         string     `json:"name,omitempty" jsonschema:"what the report calls it"`
	Fault        Fault      `json:"fault" jsonschema:"what is done (simian list faults)"`
	Target       TargetSpec `json:"target" jsonschema:"to what (simian list targets)"`
	For          Duration   `json:"for,omitzero" jsonschema:"how long the fault is held; needed where it can be taken back"`
	After        Duration   `json:"after,omitzero" jsonschema:"waits this long before it starts"`
	Parallel     bool       `json:"parallel,omitzero" jsonschema:"starts with the action before, not after it"`
	Repeat       *Repeat    `json:"repeat,omitempty" jsonschema:"strikes again and again, or in pulses"`
	OnRestart    OnRestart  `json:"onRestart,omitempty" jsonschema:"what is done about a target that restarts while the fault is on: reinject (default), stop or fail"`
	Irreversible bool       `json:"irreversible,omitzero" jsonschema:"allows a fault that Simian cannot take back, such as kill"`

	Type string `json:"-"` // the fault's name in the catalogue
}

// TargetSpec is a selector and how many of what it finds are drawn.
type TargetSpec struct {
	Selector Selector
	Mode     Mode
	Count    int
	Percent  Percent
	GroupBy  GroupBy
	Type     string // the selector's name in the catalogue
}

// Mode says how many of the targets found are drawn.
type Mode string

// The modes. Which ones are drawn follows from the seed.
const (
	ModeOne              Mode = "one"                // one of them
	ModeAll              Mode = "all"                // all of them
	ModeFixed            Mode = "fixed"              // count of them, or all where there are fewer
	ModeFixedPercent     Mode = "fixed-percent"      // percent of them, rounded down
	ModeRandomMaxPercent Mode = "random-max-percent" // from one to percent of them, rounded down
)

// BlastRadius is how much the whole run may touch at the most. All bounds
// hold; zero means that there is none.
type BlastRadius struct {
	Targets int      `json:"targets,omitzero" jsonschema:"targets touched in the whole run at the most"`
	Percent *Percent `json:"percent,omitempty" jsonschema:"of the running targets that the selector finds, rounded down"`

	MinHealthy *AtLeast `json:"minHealthy,omitempty" jsonschema:"of each workload, so many targets run, are healthy and have no fault on them at any time: a number, or a percentage such as 50%, rounded up"`
}

// Abort is when a fault is taken back early.
type Abort struct {
	After int `json:"after,omitzero" jsonschema:"failed samples of one check in a row; 0 never"`
}

// Recovery is how soon all must be steady again.
type Recovery struct {
	Within Duration `json:"within,omitzero" jsonschema:"steady again this long after the fault is taken back, or it is a fail (30s)"`
}

// What holds where a file says nothing.
const (
	DefaultEvery          = Duration(250 * time.Millisecond)
	DefaultWindow         = Duration(time.Second)
	DefaultSteadyFor      = Duration(2 * time.Second)
	DefaultSteadyWithin   = Duration(30 * time.Second)
	DefaultRecoveryWithin = Duration(30 * time.Second)
	DefaultTrafficTimeout = Duration(time.Second)
	DefaultLabWithin      = Duration(time.Minute)
	LongestFor            = Duration(time.Hour) // unless --long
)

// setDefaults fills in what the file left out.
func (e *Experiment) setDefaults() {
	s := &e.Spec
	orElse(&s.Hypothesis.Every, DefaultEvery)
	orElse(&s.Steady.Within, DefaultSteadyWithin)
	orElse(&s.Recovery.Within, DefaultRecoveryWithin)
	if s.Steady.For == nil {
		d := DefaultSteadyFor
		s.Steady.For = &d
	}
	if s.Lab != nil && s.Lab.Name == "" {
		orElse(&s.Lab.Within, DefaultLabWithin)
	}
	for i := range s.Traffic {
		orElse(&s.Traffic[i].Timeout, DefaultTrafficTimeout)
		orElse(&s.Traffic[i].Method, "GET")
	}
	for i := range s.Hypothesis.Checks {
		c := &s.Hypothesis.Checks[i]
		if c.Traffic != "" {
			orElse(&c.Window, DefaultWindow)
		}
		if c.Weight == nil {
			one := 1.0
			c.Weight = &one
		}
	}
	for i := range s.Method {
		orElse(&s.Method[i].Name, s.Method[i].Type)
		orElse(&s.Method[i].Target.Mode, ModeOne)
		orElse(&s.Method[i].OnRestart, RestartReinject)
		s.Method[i].For, s.Method[i].Repeat = s.Method[i].lasts(), s.Method[i].repeats()
	}
}

func orElse[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
