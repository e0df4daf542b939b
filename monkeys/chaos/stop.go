package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
)

// Stop has a target end as its runtime does: its stop signal, its grace, then
// SIGKILL. It is held down, whatever its restart policy, and started again when
// that is taken back.
type Stop struct {
	Signal       string               `json:"signal,omitempty" jsonschema:"what asks it to end (the container's stop signal; TERM for a process)"`
	Grace        *experiment.Duration `json:"grace,omitempty" jsonschema:"how long it may take until it is killed (the container's stop_grace_period; 5s for a process)"`
	RestartAfter experiment.Duration  `json:"restartAfter,omitzero" jsonschema:"starts it again so long after its end, before the action's end"`

	fs      proc.FS
	clients *runtime.Clients
}

// What a process is given that has no keeper: all of it lies within the time
// that one change may take.
const (
	processGrace = 5 * time.Second
	longestGrace = 8 * time.Second
)

// Validate implements experiment.Validator.
func (s *Stop) Validate() error {
	if s.Signal == "" {
		return nil
	}
	if stopping(s.Signal) {
		return experiment.Fieldf("signal", "%s does not end a process, but leaves it as it is: the fault freeze does that, and takes it back", s.Signal)
	}
	return checkSignal(s.Signal)
}

// Plan implements experiment.Fault.
func (s *Stop) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	switch {
	case adopted(t):
		return s.throughRuntime(ctx, t)
	case !launched(t):
		return s.process(t)
	}
	if err := op.CheckSignal(t.PIDs[0], t.Name); err != nil {
		return nil, err
	}
	return ordered(s.fs, run, t, op.Order{What: op.OrderStop, Signal: s.Signal, Grace: s.Grace, RestartAfter: s.RestartAfter}), nil
}

// throughRuntime has the container's runtime stop it, and start it again.
func (s *Stop) throughRuntime(ctx context.Context, t experiment.Target) ([]experiment.Step, error) {
	do := runtime.NewStop(s.clients, t, s.Signal, s.Grace, s.RestartAfter)
	if err := do.Check(ctx); err != nil {
		return nil, err
	}
	undo := startAgain(s.clients, t)
	if undo == nil && s.RestartAfter > 0 {
		return nil, fmt.Errorf("restartAfter: nothing could start it again: %s: %w", t.Runtime.NoStart, experiment.ErrUnsupported)
	}
	return []experiment.Step{{Do: do, Undo: undo}}, nil
}

// process stops what nobody here can start again: there is no way back.
func (s *Stop) process(t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 || s.RestartAfter > 0 {
		return nil, notLaunched(t, "started again")
	}
	signal, grace := s.Signal, processGrace
	if signal == "" {
		signal = "TERM"
	}
	if s.Grace != nil {
		grace = s.Grace.D()
	}
	if grace > longestGrace {
		return nil, fmt.Errorf("a grace of %s is too long for a process that has no keeper: %s at the most: %w", grace, longestGrace, experiment.ErrUnsupported)
	}
	if err := op.CheckSignal(t.PIDs[0], t.Name); err != nil {
		return nil, err
	}
	return []experiment.Step{{Do: op.NewEnd(s.fs, t.PIDs[0], t.Name, signal, grace)}}, nil
}
