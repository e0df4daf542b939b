// Package chaos holds the faults of the Chaos Monkey, a file for each
// mechanism.
package chaos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
)

// Kill sends a signal to a target's main process, or to those of its processes
// that have a name or a command line: once, or again and again for as long as
// the action lasts. It cannot be taken back, but by the start of a container.
type Kill struct {
	Signal  string              `json:"signal,omitempty" jsonschema:"the signal's name, with or without SIG (KILL)"`
	Process string              `json:"process,omitempty" jsonschema:"those of the target's processes that are called so: the kernel's name for one, or the last part of its first argument; left out, with pattern, the main process"`
	Pattern string              `json:"pattern,omitempty" jsonschema:"those of the target's processes whose whole command line this regular expression matches somewhere"`
	Count   int                 `json:"count,omitzero" jsonschema:"no more than so many of them, drawn by lot; left out, all"`
	Every   experiment.Duration `json:"every,omitzero" jsonschema:"strikes again at this interval while the action lasts; targets are drawn anew each time, and their processes looked up"`

	fs      proc.FS
	clients *runtime.Clients
}

// Validate implements experiment.Validator.
func (k *Kill) Validate() error {
	if k.Signal != "" {
		if err := checkSignal(k.Signal); err != nil {
			return err
		}
	}
	if stopping(k.Signal) {
		return experiment.Fieldf("signal", "%s stops a process and leaves it so: the fault freeze does that, and takes it back", k.Signal)
	}
	if k.Every > 0 && k.Every.D() < 10*time.Millisecond {
		return experiment.Fieldf("every", "%s is too quick: 10ms at the least", k.Every)
	}
	return k.validateChoice()
}

func (k *Kill) signal() string {
	if k.Signal == "" {
		return "KILL"
	}
	return strings.TrimPrefix(k.Signal, "SIG")
}

// Instant implements experiment.Instant.
func (k *Kill) Instant() bool { return k.Every == 0 }

// Interval implements experiment.Repeater.
func (k *Kill) Interval() time.Duration { return k.Every.D() }

// Plan implements experiment.Fault.
func (k *Kill) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	if k.chooses() {
		return k.planChosen(run, t)
	}
	if err := op.CheckSignal(t.PIDs[0], t.Name); err != nil {
		return nil, err
	}
	signal := op.NewSignal(k.fs, t.PIDs[0], t.Name, k.signal())
	signal.Restart = k.restarted(t.Runtime)
	return []experiment.Step{k.step(signal, signal.Restart, t)}, nil
}

// step is the kill of t's main process. Where no policy surely starts it again,
// its runtime does as it is taken back.
func (k *Kill) step(do experiment.Op, restart string, t experiment.Target) experiment.Step {
	if restart != "" {
		return experiment.Step{Do: do}
	}
	return experiment.Step{Do: do, Undo: startAgain(k.clients, t)}
}

// restarted returns the policy by which a killed container is surely started
// again. What ends for another signal than KILL may end well, which is no
// failure to be restarted on.
func (k *Kill) restarted(r *experiment.RuntimeRef) string {
	if r == nil {
		return ""
	}
	switch r.Restart {
	case "always", "unless-stopped":
		return r.Restart
	case "on-failure":
		if k.signal() == "KILL" {
			return r.Restart
		}
	}
	return ""
}
