package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// Capabilities restarts a launched container without some of its capabilities:
// does it really need them?
type Capabilities struct {
	Drop CapNames `json:"drop" jsonschema:"what it is started without: a capability such as NET_RAW, or a list of them"`

	fs proc.FS
}

// Validate implements experiment.Validator.
func (c *Capabilities) Validate() error {
	if len(c.Drop) == 0 {
		return experiment.Fieldf("drop", "say which capability it is to be without, such as NET_RAW")
	}
	if err := op.CheckCaps(c.Drop.names()); err != nil {
		return experiment.Fieldf("drop", "%w", err)
	}
	return nil
}

// Plan implements experiment.Fault.
func (c *Capabilities) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if !launched(t) {
		return nil, notLaunched(t, "restarted without a capability")
	}
	caps, err := c.fs.Caps(t.PIDs[0].PID)
	if !c.fs.Alive(t.PIDs[0]) {
		err = experiment.ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("read its capabilities: %w", err)
	}
	drop, has := c.Drop.names(), caps.Bounding.Names()
	for _, name := range drop {
		if !slices.Contains(has, name) {
			return nil, fmt.Errorf("it does not have %s, so nothing would change\n        it has: %s", name, strings.Join(has, " "))
		}
	}
	o := op.Order{What: op.OrderCapabilities, Drop: drop}
	if caps.Permitted == 0 {
		o.Note = "its user is not root, and its process holds no capability: only a program that gives it some (setuid, file capabilities) would miss one"
	}
	return ordered(c.fs, run, t, o), nil
}
