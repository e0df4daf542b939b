package chaos

import (
	"context"
	"fmt"
	"math"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/burn"
	"github.com/simianhq/simian/internal/op"
)

// BurnCPU uses up processor time in the target's name: percent of the target's
// quota, not of the host.
type BurnCPU struct {
	Load experiment.Percent `json:"load" jsonschema:"percent of the target's CPU quota; of all processors that it may run on where it has none"`

	host *op.Host
}

// Validate implements experiment.Validator.
func (b *BurnCPU) Validate() error {
	if b.Load <= 0 {
		return experiment.Fieldf("load", "say how much: percent of the target's CPU quota, more than 0")
	}
	return nil
}

// Plan implements experiment.Fault.
func (b *BurnCPU) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	c, err := ownCgroup(b.host.FS, t, "cpu")
	if err != nil {
		return nil, err
	}
	allowed, err := b.host.FS.CPUs(t.PIDs[0].PID)
	if err != nil {
		return nil, err
	}
	of, what := float64(allowed), fmt.Sprintf("%d CPUs (it has no quota)", allowed)
	if quota, ok := b.host.FS.CPUQuota(c.dir); ok && quota < of {
		of, what = quota, fmt.Sprintf("its quota of %.4g CPUs", quota)
	}
	share := of * float64(b.Load) / 100
	return burner(b.host, t, op.Helper{
		Run: run, Name: "burn-cpu", Program: burn.CPUName, Counts: c.beside(t, "cpuset"),
		Words: fmt.Sprintf("burn.cpu for %s: %.4g %% of %s", t.Name, float64(b.Load), what),
	}, burn.CPU{CPUs: share, Workers: int(math.Ceil(share)), Of: of})
}
