package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// Exhaust takes away what a target has only so much of, until there is no
// more.
type Exhaust struct {
	What  string `json:"what" jsonschema:"files: descriptors; pids: processes and threads; connections: to a port that it listens on; ports: those that it connects from"`
	Leave int    `json:"leave,omitzero" jsonschema:"how many are left (0); of files, to each process"`
	Port  int    `json:"port,omitzero" jsonschema:"connections: the TCP port that the target listens on"`
	Count int    `json:"count,omitzero" jsonschema:"connections: how many are held, up to 20000"`

	host *op.Host
}

// What there is only so much of.
const (
	ofFiles       = "files"
	ofPIDs        = "pids"
	ofConnections = "connections"
	ofPorts       = "ports"

	mostConnections = 20000
)

// Validate implements experiment.Validator.
func (e *Exhaust) Validate() error {
	known := []string{ofConnections, ofFiles, ofPIDs, ofPorts}
	connections := e.What == ofConnections
	switch {
	case e.What == "":
		return experiment.Fieldf("what", "say what: %s", strings.Join(known, " "))
	case !slices.Contains(known, e.What):
		near := experiment.Nearest(e.What, known)
		if near != "" {
			near = fmt.Sprintf(" (did you mean %q?)", near)
		}
		return experiment.Fieldf("what", "unknown word %q%s\n        words: %s", e.What, near, strings.Join(known, " "))
	case e.Leave < 0:
		return experiment.Fieldf("leave", "%d is less than none", e.Leave)
	case connections && e.Leave != 0:
		return experiment.Fieldf("leave", "connections are held by number: say count")
	case connections && (e.Port < 1 || e.Port > 65535):
		return experiment.Fieldf("port", "%d is not a port (1 to 65535): say which one the target listens on", e.Port)
	case connections && (e.Count < 1 || e.Count > mostConnections):
		return experiment.Fieldf("count", "%d is not a number of connections (1 to %d)", e.Count, mostConnections)
	case !connections && e.Port != 0:
		return experiment.Fieldf("port", "goes with what: connections")
	case !connections && e.Count != 0:
		return experiment.Fieldf("count", "goes with what: connections; say leave")
	}
	return nil
}

// Plan implements experiment.Fault.
func (e *Exhaust) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	var step experiment.Step
	var err error
	switch e.What {
	case ofFiles:
		step, err = e.files(t)
	case ofPorts:
		step, err = e.ports(t)
	case ofPIDs:
		return e.pids(run, t)
	case ofConnections:
		return e.connections(run, t)
	}
	if err != nil {
		return nil, err
	}
	return []experiment.Step{step}, nil
}

// files plans for all processes of the target.
func (e *Exhaust) files(t experiment.Target) (experiment.Step, error) {
	all, err := e.host.FS.Within(t)
	if err != nil {
		return experiment.Step{}, err
	}
	protected, err := e.host.FS.Protected()
	if err != nil {
		return experiment.Step{}, err
	}
	for _, s := range all {
		if why := protected.Why(s.PID); why != "" {
			return experiment.Step{}, fmt.Errorf("pid %d of it is %s: %w", s.PID, why, experiment.ErrProtected)
		}
	}
	return op.PlanFiles(e.host.FS, t, all, e.Leave)
}

func (e *Exhaust) ports(t experiment.Target) (experiment.Step, error) {
	ns, err := e.host.FS.NetworkOf(t)
	if err != nil {
		return experiment.Step{}, err
	}
	if e.host.FS.HostNetwork(ns) {
		return experiment.Step{}, fmt.Errorf("the network of %s is the host's own, whose ports all need: %w", t.Name, experiment.ErrProtected)
	}
	return op.PlanPorts(e.host, ns, e.Leave)
}
