package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// Delete deletes a pod through the API server, whatever its disruption budgets
// say. Its owner makes another one.
type Delete struct {
	Grace *experiment.Duration `json:"grace,omitempty" jsonschema:"how long it may take to end until it is killed, in whole seconds (the pod's terminationGracePeriodSeconds); 0s does not wait for its node"`

	kube *kube.Client
}

// Validate implements experiment.Validator.
func (d *Delete) Validate() error { return checkGrace(d.Grace) }

// Instant implements experiment.Instant.
func (d *Delete) Instant() bool { return true }

// Remote implements experiment.Remote.
func (d *Delete) Remote() bool { return true }

// Plan implements experiment.Fault.
func (d *Delete) Plan(_ context.Context, _ experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if err := isPod(t); err != nil {
		return nil, err
	}
	return []experiment.Step{{Do: d.kube.NewDelete(*t.Object, graceOf(d.Grace))}}, nil
}

// checkGrace refuses a grace that the API has no field for.
func checkGrace(d *experiment.Duration) error {
	if d != nil && (d.D() < 0 || d.D()%time.Second != 0) {
		return experiment.Fieldf("grace", "%s is not a number of whole seconds, as Kubernetes counts it", d)
	}
	return nil
}

func graceOf(d *experiment.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	grace := d.D()
	return &grace
}

// isPod refuses what the API server knows nothing of.
func isPod(t experiment.Target) error {
	if t.Object == nil || t.Object.Kind != "Pod" {
		return fmt.Errorf("it is no pod (a target of type pod is): %w", experiment.ErrUnsupported)
	}
	return nil
}
