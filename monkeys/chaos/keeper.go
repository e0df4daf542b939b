package chaos

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
)

// launched tells whether t is a container that Simian launched, and keeps up:
// one that can be started again, and with other settings.
func launched(t experiment.Target) bool {
	return len(t.PIDs) > 0 && t.Runtime != nil && t.Runtime.Runtime == "simian" && t.Runtime.Lab != ""
}

// adopted tells whether t is a container that another runtime keeps.
func adopted(t experiment.Target) bool {
	return len(t.PIDs) > 0 && t.Runtime != nil && t.Runtime.Runtime != "simian" && t.Runtime.Address != ""
}

// startAgain is the undo for a container that ends: a start through its
// runtime. Nil says that there is none.
func startAgain(clients *runtime.Clients, t experiment.Target) experiment.Op {
	if !adopted(t) || t.Runtime.NoStart != "" {
		return nil
	}
	return runtime.NewStart(clients, t)
}

// notLaunched says why a fault that needs the supervisor of t can't be.
func notLaunched(t experiment.Target, can string) error {
	if len(t.PIDs) == 0 {
		return fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	return fmt.Errorf("nothing here could start it again: only a container that Simian launched can be %s (a lab's, found by a target of type native): %w", can, experiment.ErrUnsupported)
}

// ordered returns the step that leaves an order to the keeper of a launched
// container, which is taken back by the same order.
func ordered(fs proc.FS, run experiment.RunID, t experiment.Target, o op.Order) []experiment.Step {
	o.Container, o.Run, o.Process = t.Runtime.ID, run, t.PIDs[0]
	return []experiment.Step{{Do: op.NewKeep(fs, t.Runtime, o, true), Undo: op.NewKeep(fs, t.Runtime, o, false)}}
}

// checkSignal says which signal name is none.
func checkSignal(name string) error {
	if op.SignalNumber(name) != 0 {
		return nil
	}
	names := op.SignalNames()
	near := experiment.Nearest(strings.TrimPrefix(name, "SIG"), names)
	if near != "" {
		near = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return experiment.Fieldf("signal", "unknown signal %q%s\n        signals: %s", name, near, strings.Join(names, " "))
}

// stopping are the signals that leave a process stopped.
func stopping(name string) bool {
	return slices.Contains([]string{"STOP", "TSTP", "TTIN", "TTOU"}, strings.TrimPrefix(name, "SIG"))
}

// CapNames are the names of capabilities in a file: one, or a list of them,
// with or without CAP_, in any case.
type CapNames []string

// UnmarshalJSON implements json.Unmarshaler.
func (c *CapNames) UnmarshalJSON(b []byte) error {
	var list []string
	wrong := errors.New("want a capability such as NET_RAW, or a list of them")
	var err error
	switch jsontext.Value(b).Kind() {
	case '"':
		list = []string{""}
		err = json.Unmarshal(b, &list[0])
	case '[':
		err = json.Unmarshal(b, &list)
	default:
		return wrong
	}
	if err != nil || len(list) == 0 {
		return wrong
	}
	*c = list
	return nil
}

// MarshalJSON implements json.Marshaler: one is written as itself.
func (c CapNames) MarshalJSON() ([]byte, error) {
	if len(c) == 1 {
		return json.Marshal(c[0])
	}
	return json.Marshal([]string(c))
}

// TypeName implements experiment.Typed.
func (CapNames) TypeName() string { return "word or list of them" }

// names returns them as the kernel's headers do, without CAP_, each once and
// in order.
func (c CapNames) names() []string {
	var names []string
	for _, name := range c {
		names = append(names, strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
