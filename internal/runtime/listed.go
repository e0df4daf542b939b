package runtime

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Listed lists a container, with the reason where it is out: a label protects
// it, or it does not run, or stands still.
func (c *Container) Listed(workload string) experiment.Listed {
	l := experiment.Listed{Kind: c.Ref.Runtime, Name: c.Name, Workload: workload, Runtime: c.Ref.Runtime, PID: c.PID}
	if c.Labels[proc.ProtectLabel] == "true" {
		l.Protected = "it has the label " + proc.ProtectLabel + "=true"
	}
	switch {
	case !c.Running || c.Paused():
		l.Out = c.State
	case l.Protected != "":
		l.Out = "protected: " + l.Protected
	}
	return l
}
