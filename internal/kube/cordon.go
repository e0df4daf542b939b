package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/simianhq/simian/experiment"
)

// cordonedBy is the annotation by which a run knows the cordon that it made.
const cordonedBy = "simian.dev/cordoned-by"

// Cordon has no new pods come to a node, or lets them come again.
type Cordon struct {
	Node experiment.ObjectRef `json:"node"`
	Run  experiment.RunID     `json:"run"`
	Back bool                 `json:"back,omitempty"` // takes a cordon of Run's back

	client *Client
}

// NewCordon returns the step that cordons a node.
func (c *Client) NewCordon(node experiment.ObjectRef, run experiment.RunID) experiment.Step {
	return experiment.Step{Do: &Cordon{node, run, false, c}, Undo: &Cordon{node, run, true, c}}
}

// Node reads a node by name. A node that is cordoned already is
// experiment.ErrBusy: that is somebody else's.
func (c *Client) Node(ctx context.Context, where experiment.Cluster, name string) (experiment.ObjectRef, error) {
	ref := experiment.ObjectRef{Kind: "Node", Name: name, Cluster: where}
	now, err := c.meta(ctx, ref)
	if err != nil {
		return ref, err
	}
	if now.(*corev1.Node).Spec.Unschedulable {
		return ref, fmt.Errorf("%s is cordoned already: %w", ref, experiment.ErrBusy)
	}
	ref.UID = string(now.GetUID())
	return ref, nil
}

// String implements experiment.Op.
func (c *Cordon) String() string {
	if c.Back {
		return "uncordon " + c.Node.String()
	}
	return "cordon " + c.Node.String()
}

// Handles implements experiment.Handled.
func (c *Cordon) Handles() []string { return []string{c.Node.Handle() + "#cordon"} }

// Durable implements experiment.Durable.
func (c *Cordon) Durable() bool { return true }

// Ends implements experiment.Ending: what is held is the node. A pod may leave
// it, and its successor's node is not cordoned for that.
func (c *Cordon) Ends() bool { return true }

// Backend implements experiment.Backed.
func (c *Cordon) Backend() string { return backend }

// Apply implements experiment.Op.
func (c *Cordon) Apply(ctx context.Context) error {
	return c.client.change(ctx, c.Node, func(o object) (map[string]any, error) {
		n := o.(*corev1.Node)
		own := n.Annotations[cordonedBy] == string(c.Run)
		switch {
		case !c.Back && own && n.Spec.Unschedulable, c.Back && !own:
			return nil, nil
		case c.Back && !n.Spec.Unschedulable: // somebody else let pods come again: only the mark is ours
			return cordon(nil, nil), nil
		case c.Back:
			return cordon(nil, false), nil
		case n.Spec.Unschedulable:
			return nil, fmt.Errorf("%s was cordoned by somebody else meanwhile: %w", c.Node, experiment.ErrBusy)
		}
		return cordon(string(c.Run), true), nil
	})
}

// cordon is the patch that sets the mark (nil removes it) and, where it is not
// nil, whether pods may come.
func cordon(mark any, unschedulable any) map[string]any {
	p := map[string]any{"metadata": map[string]any{"annotations": map[string]any{cordonedBy: mark}}}
	if unschedulable != nil {
		p["spec"] = map[string]any{"unschedulable": unschedulable}
	}
	return p
}

// Verify implements experiment.Verifier.
func (c *Cordon) Verify(ctx context.Context) (experiment.Evidence, error) {
	o, err := c.client.meta(ctx, c.Node)
	if err != nil {
		return experiment.Evidence{}, err
	}
	n := o.(*corev1.Node)
	own := n.Annotations[cordonedBy] == string(c.Run)
	if c.Back {
		return experiment.Evidence{InForce: !own, What: c.Node.String() + marked(own, n.Spec.Unschedulable)}, nil
	}
	return experiment.Evidence{InForce: own && n.Spec.Unschedulable, What: c.Node.String() + marked(own, n.Spec.Unschedulable)}, nil
}

func marked(own, unschedulable bool) string {
	switch {
	case unschedulable && own:
		return " is cordoned by this run"
	case unschedulable:
		return " is cordoned by somebody else"
	case own:
		return " bears this run's mark, and takes pods"
	}
	return " takes pods"
}
