// Package engine knows in what order an experiment happens, and nothing else:
//
//	lab → steady state → plan everything → arm the guardian →
//	for each action: plan anew, journal, apply, verify, watch, take back →
//	recovery → drift → lab down → residue → end
//
// The same rollback serves success, failure, an interrupt, the guardian and
// the sweep. What happened is whatever the journal says.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// How long single things may take.
const (
	applyTimeout  = 10 * time.Second       // for one step's change
	verifyTimeout = 2 * time.Second        // until a change must be in force
	undoTimeout   = 5 * time.Second        // for one undo
	undoPatience  = 60 * time.Second       // for all tries at one undo
	sweepPatience = 5 * time.Second        // of a sweep, until the workloads are whole: somebody waits for what comes next
	gapPoll       = 100 * time.Millisecond // between counts of the workloads
)

// DefaultSlack is how long beyond all that the file allows the guardian waits
// before it kills a runner that stands still.
const DefaultSlack = 30 * time.Second

// Engine runs experiments and takes runs back. All fields but Lab, LabSummary,
// Struck, Allow, Load, Notify and Slack are needed.
type Engine struct {
	Journals Journals
	Handles  Handles
	Guardian Guardian
	System   System
	Boot     func() experiment.BootTime
	Version  string // of Simian, for the journal

	Lab        Lab                   // what the run launches; nil where it launches nothing
	LabSummary experiment.LabSummary // of the lab that it launches or strikes

	Struck func(experiment.RunID) // is told, before a rollback, which standing lab the run struck; may be nil

	Allow func(experiment.Target) error // says why one must be left out; nil allows all that System does

	Load   func([]experiment.Traffic) (Load, error)
	Notify func(*experiment.Event) // is shown each event, in order, once it is in the journal
	Slack  time.Duration           // how long beyond all that the file allows the guardian waits; 0 is DefaultSlack
}

// Journals keeps the journals of runs and their locks.
type Journals interface {
	experiment.Journal
	Locks
}

// Locks fences a run: only the holder of its lock applies or undoes for it.
type Locks interface {
	Create(ctx context.Context, run experiment.RunID) error // makes the journal and takes its lock
	Lock(ctx context.Context, run experiment.RunID) error   // waits for the lock until ctx ends
	TryLock(run experiment.RunID) error                     // ErrBusy where another holds it
	Finish(run experiment.RunID) error                      // nothing is left to take back; unlocks
	Release(run experiment.RunID)                           // unlocks, and leaves the run unfinished
}

// Handles locks the objects that steps change, against other runs.
type Handles interface {
	Acquire(run experiment.RunID, handle string) error // ErrBusy says who holds it
	Release(run experiment.RunID) error                // all of the run's, a dead runner's too
}

// Guardian arms a process that takes the run back when this one dies.
type Guardian interface {
	Arm(ctx context.Context, run experiment.RunID, deadline experiment.BootTime) (Armed, error)
}

// Armed is a guardian that stands by.
type Armed interface {
	Mark() experiment.GuardianMark
	Died() <-chan struct{} // closed when it ends without having been disarmed
	Disarm() error
}

// System is what the engine must know of the host. It changes nothing.
type System interface {
	Header() (experiment.Header, error)
	// Check gives ErrProtected for what must never be touched.
	Check(ctx context.Context, t experiment.Target) error
	Alive(t experiment.Target) bool
	Observer
}

// Observer reads state that a run could leave behind.
type Observer interface {
	// Observe reads the state of a target that faults could change.
	Observe(ctx context.Context, t experiment.Target) ([]experiment.Observation, error)
	// Leftovers searches the host for things that carry the run's name.
	Leftovers(ctx context.Context, run experiment.RunID) ([]string, error)
}

// Load is the traffic of a run.
type Load interface {
	Start(ctx context.Context) error
	Stop()
	Probe(c experiment.Check) experiment.WindowProbe
}

// ActionError says which action of the file could not be borne.
type ActionError struct {
	Action int    // from 0
	Field  string // the field of the action to blame
	Err    error
}

// Error implements error.
func (e *ActionError) Error() string { return e.Err.Error() }

// Unwrap implements the interface of errors.Is and errors.As.
func (e *ActionError) Unwrap() error { return e.Err }

// NewRunID draws a name for a run.
func NewRunID() experiment.RunID {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	id := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
	return experiment.RunID(strings.ToLower(id[:6]))
}
