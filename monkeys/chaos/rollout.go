package chaos

import (
	"context"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// Rollout has all pods of the Deployment, StatefulSet or DaemonSet that a pod is
// of replaced, as kubectl rollout restart does: how many at a time, its strategy
// says. It cannot be taken back.
type Rollout struct {
	kube *kube.Client `json:"-"` // the tag has JSON take a section without a field of its own
}

// Validate implements experiment.Validator.
func (r *Rollout) Validate() error { return nil }

// Instant implements experiment.Instant.
func (r *Rollout) Instant() bool { return true }

// Remote implements experiment.Remote.
func (r *Rollout) Remote() bool { return true }

// Plan implements experiment.Fault.
func (r *Rollout) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	o, err := workloadOf(t, "rolled out", "Deployment", "StatefulSet", "DaemonSet")
	if err != nil {
		return nil, err
	}
	if o, err = r.kube.Restartable(ctx, o); err != nil {
		return nil, err
	}
	return []experiment.Step{{Do: r.kube.NewRollout(o, run)}}, nil
}
