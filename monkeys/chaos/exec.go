package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// Exec runs a command in a target, or beside it, and another one to take back
// what that did.
type Exec struct {
	Command []string            `json:"command" jsonschema:"what is run, and its arguments; no shell reads them"`
	Undo    []string            `json:"undo,omitempty" jsonschema:"takes back what command did; it must bear being run twice, and where command was not"`
	Where   string              `json:"where,omitempty" jsonschema:"inside: in the target, as its first process is (default); beside: the host's files and privileges, the target's network, PID, IPC and UTS namespaces"`
	Timeout experiment.Duration `json:"timeout,omitzero" jsonschema:"each is killed after this, with all that it has started; at most 9s, and 4s for undo (4s)"`
	Expect  int                 `json:"expect,omitzero" jsonschema:"the exit code of command that says that it did what it should (0)"`

	host *op.Host
}

// How long a command may take: as long as the engine waits for a change, and
// for an undo, less what it takes to kill it.
const (
	mostTimeout    = 9 * time.Second
	defaultTimeout = 4 * time.Second
	mostUndo       = 4 * time.Second
)

// Validate implements experiment.Validator.
func (e *Exec) Validate() error {
	switch e.Where {
	case "", op.Inside, op.Beside:
	default:
		return experiment.Fieldf("where", "unknown word %q\n        words: inside beside", e.Where)
	}
	switch {
	case len(e.Command) == 0:
		return errors.New("command is missing: what is run, as a list of words: [sh, -c, …]")
	case e.Timeout.D() > mostTimeout:
		return experiment.Fieldf("timeout", "%s is longer than %s", e.Timeout, mostTimeout)
	case e.Expect < 0 || e.Expect > 255:
		return experiment.Fieldf("expect", "%d is no exit code (0 to 255)", e.Expect)
	}
	for field, command := range map[string][]string{"command": e.Command, "undo": e.Undo} {
		if len(command) > 0 && command[0] == "" {
			return experiment.Fieldf(field, "its first word is empty")
		}
		if strings.Contains(strings.Join(command, ""), "\x00") {
			return experiment.Fieldf(field, "there is a zero byte in it")
		}
	}
	return nil
}

// Instant implements experiment.Instant: without an undo there is nothing to
// hold.
func (e *Exec) Instant() bool { return len(e.Undo) == 0 }

// Plan implements experiment.Fault.
func (e *Exec) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	plan := op.Exec{
		Run: run, Process: op.Workload(e.host.FS, t.PIDs), Target: t.Name, Where: e.Where, Command: e.Command, Timeout: e.Timeout, Expect: e.Expect,
	}
	if plan.Where == "" {
		plan.Where = op.Inside
	}
	if plan.Where == op.Inside {
		cgroup, err := e.host.FS.Cgroup(plan.Process.PID)
		if err != nil {
			return nil, err
		}
		plan.Counts = op.ExecCgroups(cgroup)
	}
	if plan.Timeout == 0 {
		plan.Timeout = experiment.Duration(defaultTimeout)
	}
	for _, command := range [][]string{e.Command, e.Undo} {
		if len(command) == 0 {
			continue
		}
		if err := op.CheckExec(e.host, plan.Process, plan.Where, command); err != nil {
			return nil, err
		}
	}
	do, undo := op.NewExec(e.host, plan, e.Undo)
	if undo == nil {
		return []experiment.Step{{Do: do}}, nil
	}
	undo.Timeout = min(undo.Timeout, experiment.Duration(mostUndo))
	return []experiment.Step{{Do: do, Undo: undo}}, nil
}
