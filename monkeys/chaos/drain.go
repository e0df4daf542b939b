package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// Drain empties the node that a pod is on: no new pods come, and those that are
// there are evicted, as disruption budgets allow. Their owners make others on
// other nodes.
type Drain struct {
	Grace *experiment.Duration `json:"grace,omitempty" jsonschema:"how long each pod may take to end until it is killed, in whole seconds (the pods' own)"`

	kube *kube.Client
}

// Validate implements experiment.Validator.
func (d *Drain) Validate() error { return checkGrace(d.Grace) }

// Remote implements experiment.Remote.
func (d *Drain) Remote() bool { return true }

// Plan implements experiment.Fault.
func (d *Drain) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	node, err := nodeOf(ctx, d.kube, t)
	if err != nil {
		return nil, err
	}
	pods, stay, err := d.kube.PodsOn(ctx, node)
	if err != nil {
		return nil, err
	}
	var leave []experiment.ObjectRef
	var bare []string
	for i := range pods {
		if pods[i].Owner.Kind == "" {
			bare = append(bare, pods[i].Namespace+"/"+pods[i].Name)
		}
		leave = append(leave, pods[i].Ref(t.Object.Cluster))
	}
	if len(bare) > 0 {
		return nil, fmt.Errorf("drain %s: nothing would bring these pods back: %s: %w", node, strings.Join(bare, " "), experiment.ErrUnsupported)
	}
	return []experiment.Step{d.kube.NewDrain(node, run, leave, stay, graceOf(d.Grace))}, nil
}
