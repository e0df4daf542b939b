package chaos

import (
	"context"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
)

// Remove takes a container away, with all that it has written outside its
// volumes. What is put back of one that Simian launched is new: its image, its
// volumes, and nothing else. What Docker removes cannot be put back.
type Remove struct {
	Volumes bool `json:"volumes,omitzero" jsonschema:"its anonymous volumes too, as docker rm -v does"`

	fs      proc.FS
	clients *runtime.Clients
}

// Validate implements experiment.Validator.
func (r *Remove) Validate() error { return nil }

// Plan implements experiment.Fault.
func (r *Remove) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if adopted(t) {
		do := runtime.NewRemove(r.clients, t, r.Volumes)
		if err := do.Check(); err != nil {
			return nil, err
		}
		return []experiment.Step{{Do: do}}, nil
	}
	if !launched(t) {
		return nil, notLaunched(t, "removed")
	}
	if err := op.CheckSignal(t.PIDs[0], t.Name); err != nil {
		return nil, err
	}
	return ordered(r.fs, run, t, op.Order{What: op.OrderRemove, Volumes: r.Volumes}), nil
}
