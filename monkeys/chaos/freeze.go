package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// Freeze makes a target stand still: by the freezer of its cgroup where that
// holds nobody else, by SIGSTOP otherwise.
type Freeze struct {
	Backend string `json:"backend,omitempty" jsonschema:"cgroup or signal forces one; left out, the cgroup's freezer where the target has one of its own"`

	fs proc.FS
}

// Validate implements experiment.Validator.
func (f *Freeze) Validate() error {
	switch f.Backend {
	case "", "cgroup", "signal":
		return nil
	}
	return experiment.Fieldf("backend", "unknown backend %q\n        backends: cgroup signal", f.Backend)
}

// Plan implements experiment.Fault.
func (f *Freeze) Plan(_ context.Context, _ experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	if f.Backend == "signal" {
		return f.bySignal(t)
	}
	dir, controller, own := f.fs.OwnCgroup(t)
	version := op.FreezerV2
	if controller == "freezer" {
		version = op.FreezerV1
	}
	err := fmt.Errorf("it has no cgroup of its own with a freezer: %w (leave backend out, or say signal)", experiment.ErrUnsupported)
	if own {
		err = op.CheckFreezer(dir, version)
	}
	switch {
	case err == nil:
		return f.byCgroup(dir, version)
	case f.Backend == "cgroup":
		return nil, err
	}
	return f.bySignal(t)
}

func (f *Freeze) byCgroup(dir experiment.CgroupDir, version string) ([]experiment.Step, error) {
	if err := op.CheckThawed(dir, version); err != nil {
		return nil, err
	}
	return []experiment.Step{{
		Do:   op.NewFreezer(f.fs, dir, version, true),
		Undo: op.NewFreezer(f.fs, dir, version, false),
	}}, nil
}

func (f *Freeze) bySignal(t experiment.Target) ([]experiment.Step, error) {
	steps := make([]experiment.Step, 0, len(t.PIDs))
	for _, p := range t.PIDs {
		err := op.CheckStoppable(f.fs, p, t.Name)
		if errors.Is(err, experiment.ErrGone) {
			continue // it has ended since it was found; the others are there still
		}
		if err != nil {
			return nil, err
		}
		steps = append(steps, experiment.Step{
			Do:   op.NewStop(f.fs, p, t.Name, true),
			Undo: op.NewStop(f.fs, p, t.Name, false),
		})
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("none of its processes is left: %w", experiment.ErrGone)
	}
	return steps, nil
}
