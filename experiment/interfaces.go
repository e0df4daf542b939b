package experiment

import (
	"context"
	"errors"
	"time"
)

// Fault is one way to break a target.
type Fault interface {
	// Plan returns the steps that break t, in order. It may read t's present
	// state, so that it can be put back, but changes nothing. What a step
	// makes carries run in its name.
	Plan(ctx context.Context, run RunID, t Target) ([]Step, error)
}

// Op is one small change to a system, held as plain data, so that it can be
// printed, kept in a journal and applied by another process.
type Op interface {
	// Apply makes the change. It gives ErrGone where its object is no longer
	// the one planned (pid and start time, namespace, cgroup, link), and
	// changes nothing then. Twice in a row is the same as once.
	Apply(ctx context.Context) error
	String() string // the change in one line
}

// Step is a change and the change that takes it back. A nil Undo says that it
// cannot be taken back.
type Step struct {
	Do   Op `json:"do"`
	Undo Op `json:"undo,omitempty"`
}

// Selector finds the targets that an action may touch.
type Selector interface {
	// Select returns all that match, in a stable order, the running ones only.
	Select(ctx context.Context) ([]Target, error)
}

// Probe measures one number that tells how well the system does.
type Probe interface {
	// Measure returns the number; an error is a failed sample.
	Measure(ctx context.Context) (float64, error)
}

// WindowProbe measures what happened between two moments, and waits until
// that is known for all of it.
type WindowProbe interface {
	MeasureWindow(ctx context.Context, from, to time.Time) (float64, error)
}

// Inspector looks for what is wrong already. It changes nothing; a finding
// may carry the steps that mend it.
type Inspector interface {
	Inspect(ctx context.Context, t Target) ([]Finding, error)
}

// Finding is one thing an Inspector found wrong.
type Finding struct {
	Rule, Message string
	Mend          []Step
}

// Journal keeps what a run does, before it does it.
type Journal interface {
	// Append returns once e would survive the death of this process, and,
	// where e announces a change, the death of the machine. It needs the
	// run's lock.
	Append(ctx context.Context, e Event) error
	// Events returns what the journal of run holds, oldest first.
	Events(ctx context.Context, run RunID) ([]Event, error)
	// Open returns the runs that are not finished: they may have steps that
	// are not taken back yet.
	Open(ctx context.Context) ([]RunID, error)
}

// What a fault, op, selector or probe may be able to do besides. Each is asked
// for in one place.
type (
	// Validator says what is wrong with a decoded section, as a FieldError
	// where one field is to blame. It reads nothing but the value itself.
	Validator interface{ Validate() error }

	// Verifier tells, on an op, whether the change is in force, read back from
	// the system itself, and whether it was felt. On an undo it tells whether
	// what the step did is taken back: not in force is residue.
	Verifier interface {
		Verify(ctx context.Context) (Evidence, error)
	}

	// Instant says, on a fault, that it strikes once and holds nothing, so
	// that an action needs no `for`.
	Instant interface{ Instant() bool }

	// Repeater says, on a fault, that it strikes again at an interval for as
	// long as its action lasts. Zero means once.
	Repeater interface{ Interval() time.Duration }

	// Backed names the mechanism an op uses where there are several.
	Backed interface{ Backend() string }

	// Handled names the objects an op changes, so that no two steps hold one at
	// the same time, of two actions, two targets or two runs:
	// "process:812:99123#state", "cgroup:31:/machine/web#cpu.max". What can stand
	// beside each other has different names; what the run makes has the run's
	// in it (the rule: internal/engine/conflict.go).
	Handled interface{ Handles() []string }

	// Durable says, on an undo, that what it takes back outlives the kernel
	// (a file, a runtime's object) and must be taken back after a reboot too.
	Durable interface{ Durable() bool }

	// Patient says, on an undo, how long one try at it may take, where that is
	// more than the 5 s that the kernel is given: a daemon does it.
	Patient interface{ Patience() time.Duration }

	// Leaning says, on an op without an undo, what brings back what it takes
	// away, as the plan has read it: "restart: always". "" says that nothing
	// does.
	Leaning interface{ Leans() string }

	// Ending says, on an op, that it makes its target's process end, whether to
	// be started anew or not: that the target is gone is then what the fault
	// does. What comes in its place is not struck again, and onRestart does not
	// count it; where the op is in force on that too, as by a container's handle,
	// it is looked after from then on.
	Ending interface{ Ends() bool }

	// Follower changes, on an op in force, what it made as the world changes
	// (the addresses of a name). It returns when ctx ends, or with the reason
	// why it can't go on.
	Follower interface {
		Follow(ctx context.Context) error
	}

	// Measurer measures, on a fault, what it changes from where the target
	// stands: before it is applied a few times and quickly; while it is in
	// force until ctx ends. Nil says that there is no way to measure it; the
	// measurement's What tells why.
	Measurer interface {
		Measure(ctx context.Context, t Target, p Phase) (*Measurement, error)
	}

	// Remote says, on a fault, that it changes a target's object in Kubernetes,
	// wherever that runs: it needs no process here.
	Remote interface{ Remote() bool }

	// Beyond names, on a fault, the targets that its section selects besides
	// those it breaks: the far ends of a filter.
	Beyond interface{ Beyond() []*TargetSpec }

	// Noted gives, on an op, what a user should know of the plan: a range that
	// can match nothing here.
	Noted interface{ Notes() []string }

	// Typed gives, on the type of a field that reads itself, the word for what
	// it takes in lists.
	Typed interface{ TypeName() string }

	// Shaped gives, on the type of a field that reads itself, its JSON Schema.
	Shaped interface{ JSONSchema() string }

	// InLab says, on a selector, that its targets are containers of the
	// experiment's lab, which come and go with it.
	InLab interface{ InLab() bool }
	// Measured gives, on a probe, the unit of its number: "s", "ratio",
	// "/s", "B" or "" for a plain number.
	Measured interface{ Unit() string }
)

// Sentinels that a caller tells apart.
var (
	// ErrGone says that the object of an op is no longer the one planned.
	ErrGone = errors.New("the object is gone")
	// ErrBusy says that another run, or somebody else, holds the object.
	ErrBusy = errors.New("busy")
	// ErrUnsupported says that this host cannot do what was asked.
	ErrUnsupported = errors.New("unsupported")
	// ErrProtected says that a target must never be touched.
	ErrProtected = errors.New("protected")
	// ErrNoMatch says that a selector found nothing to act on.
	ErrNoMatch = errors.New("no target matches")
)

// SupersededError says that an undo left a value alone, because somebody has
// changed it since this run wrote it.
type SupersededError struct {
	Object  string `json:"object"`
	Read    string `json:"read"`    // the value before the run
	Wrote   string `json:"wrote"`   // the value this run wrote
	Present string `json:"present"` // the value found, left in place
}

// Error implements error.
func (e *SupersededError) Error() string {
	return e.Object + " was changed by somebody else since: it was " + e.Read +
		", this run wrote " + e.Wrote + ", now it is " + e.Present + " and stays so"
}

// Evidence is what an op's Verify read back from the system.
type Evidence struct {
	InForce bool   `json:"inForce"`        // the change stands, or has had its effect
	Felt    Felt   `json:"felt,omitempty"` // whether the target ran into it
	What    string `json:"what,omitempty"` // what was read, in one line
	Hint    string `json:"hint,omitempty"` // why it is not in force or not felt, and what to do
}

// Measurement is what a fault measured of its own effect.
type Measurement struct {
	Target string   `json:"target"` // the target's ID
	Phase  Phase    `json:"phase"`  // before or during
	What   string   `json:"what"`   // "round trip to 10.1.0.1 (ICMP)", or why there is none
	Sent   int      `json:"sent,omitzero"`
	Lost   int      `json:"lost,omitzero"`
	Min    float64  `json:"minSeconds,omitzero"`
	Mean   float64  `json:"meanSeconds,omitzero"`
	P50    float64  `json:"p50Seconds,omitzero"`
	P99    float64  `json:"p99Seconds,omitzero"`
	Max    float64  `json:"maxSeconds,omitzero"`
	SD     float64  `json:"sdSeconds,omitzero"` // standard deviation
	Notes  []string `json:"notes,omitempty"`    // what was seen besides: a link that came later
}

// Felt tells whether a target ran into a fault that is in force.
type Felt string

// The values of Felt. None means that the op has no way to tell.
const (
	FeltYes     Felt = "yes"
	FeltNo      Felt = "no"      // a limit that nothing ran into: a warning
	FeltNothing Felt = "nothing" // a filter that matched nothing: where that holds to the end, the fault was not injected
)
