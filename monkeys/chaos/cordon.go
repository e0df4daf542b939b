package chaos

import (
	"context"
	"fmt"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// Cordon has no new pods come to the node that a pod is on.
type Cordon struct {
	kube *kube.Client `json:"-"` // the tag has JSON take a section without a field of its own
}

// Validate implements experiment.Validator.
func (c *Cordon) Validate() error { return nil }

// Remote implements experiment.Remote.
func (c *Cordon) Remote() bool { return true }

// Plan implements experiment.Fault.
func (c *Cordon) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	node, err := nodeOf(ctx, c.kube, t)
	if err != nil {
		return nil, err
	}
	return []experiment.Step{c.kube.NewCordon(node, run)}, nil
}

// nodeOf returns the node that a pod is on, which is not cordoned yet.
func nodeOf(ctx context.Context, k *kube.Client, t experiment.Target) (experiment.ObjectRef, error) {
	if err := isPod(t); err != nil {
		return experiment.ObjectRef{}, err
	}
	if t.Object.Node == "" {
		return experiment.ObjectRef{}, fmt.Errorf("it is on no node yet: %w", experiment.ErrUnsupported)
	}
	return k.Node(ctx, t.Object.Cluster, t.Object.Node)
}
