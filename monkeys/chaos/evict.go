package chaos

import (
	"context"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// Evict asks the API server for a pod to go, as a node that is drained does. A
// PodDisruptionBudget may refuse. Its owner makes another one.
type Evict struct {
	Grace *experiment.Duration `json:"grace,omitempty" jsonschema:"how long it may take to end until it is killed, in whole seconds (the pod's terminationGracePeriodSeconds)"`

	kube *kube.Client
}

// Validate implements experiment.Validator.
func (e *Evict) Validate() error { return checkGrace(e.Grace) }

// Instant implements experiment.Instant.
func (e *Evict) Instant() bool { return true }

// Remote implements experiment.Remote.
func (e *Evict) Remote() bool { return true }

// Plan implements experiment.Fault.
func (e *Evict) Plan(_ context.Context, _ experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if err := isPod(t); err != nil {
		return nil, err
	}
	return []experiment.Step{{Do: e.kube.NewEvict(*t.Object, graceOf(e.Grace))}}, nil
}
