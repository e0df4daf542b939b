package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Drain cordons a node, and has pods leave it.
type Drain struct {
	Node  experiment.ObjectRef   `json:"node"`
	Run   experiment.RunID       `json:"run"`
	Pods  []experiment.ObjectRef `json:"pods"`
	Stay  []string               `json:"stay,omitempty"` // pods that must not be touched, each with the reason
	Grace *int64                 `json:"graceSeconds,omitempty"`

	client *Client
}

// NewDrain returns the step that cordons a node and has pods leave it. Taken
// back, the node takes pods again; those that left run elsewhere by then.
func (c *Client) NewDrain(node experiment.ObjectRef, run experiment.RunID, pods []experiment.ObjectRef, stay []string, grace *time.Duration) experiment.Step {
	return experiment.Step{
		Do:   &Drain{Node: node, Run: run, Pods: pods, Stay: stay, Grace: seconds(grace), client: c},
		Undo: c.NewCordon(node, run).Undo,
	}
}

func (d *Drain) cordon() *Cordon { return &Cordon{d.Node, d.Run, false, d.client} }

// PodsOn returns the pods on a node that leave it when it is drained, and those
// that stay because they must not be touched, each with the reason.
func (c *Client) PodsOn(ctx context.Context, node experiment.ObjectRef) (pods []Pod, stay []string, err error) {
	one, err := c.conn(node.Cluster)
	if err != nil {
		return nil, nil, err
	}
	list, err := one.list(ctx, podQuery{fields: "spec.nodeName=" + node.Name})
	if err != nil {
		return nil, nil, err
	}
	g := Guard{Client: c, Where: node.Cluster, All: true}
	for i := range list.Items {
		p := read(&list.Items[i])
		if p.Mirror() || p.Owner.Kind == "DaemonSet" || p.Phase == "Succeeded" || p.Phase == "Failed" || p.Ending {
			continue
		}
		_, why, err := g.Protects(ctx, &p)
		if err != nil {
			return nil, nil, err
		}
		if why != "" {
			stay = append(stay, p.Namespace+"/"+p.Name+": "+why)
			continue
		}
		pods = append(pods, p)
	}
	return pods, stay, nil
}

// String implements experiment.Op.
func (d *Drain) String() string {
	return fmt.Sprintf("cordon %[2]s, and evict its %[1]d pods", len(d.Pods), d.Node) + graceText(d.Grace)
}

// Handles implements experiment.Handled.
func (d *Drain) Handles() []string {
	handles := d.cordon().Handles()
	for _, p := range d.Pods {
		handles = append(handles, p.Handle())
	}
	return handles
}

// Ends implements experiment.Ending.
func (d *Drain) Ends() bool { return true }

// Backend implements experiment.Backed.
func (d *Drain) Backend() string { return backend }

// Notes implements experiment.Noted.
func (d *Drain) Notes() []string {
	var names []string
	for _, p := range d.Pods {
		names = append(names, p.Namespace+"/"+p.Name)
	}
	notes := []string{"these leave " + d.Node.String() + ": " + strings.Join(names, " ")}
	for _, stays := range d.Stay {
		notes = append(notes, "stays on it: "+stays)
	}
	return notes
}

// again is how long an eviction waits that a budget refuses: what was evicted
// before it comes up elsewhere.
const again = 500 * time.Millisecond

// Apply implements experiment.Op. It asks again, until its context ends, where
// a PodDisruptionBudget refuses.
func (d *Drain) Apply(ctx context.Context) error {
	if err := d.cordon().Apply(ctx); err != nil {
		return err
	}
	ending, cancel := context.WithCancel(ctx)
	if end, ok := ctx.Deadline(); ok { // leave time to say why
		ending, cancel = context.WithDeadline(ctx, end.Add(-time.Second))
	}
	defer cancel()
	left := d.Pods
	for {
		var refused []experiment.ObjectRef
		var errs []error
		for _, pod := range left {
			err := d.client.evict(ctx, pod, d.Grace)
			if errors.Is(err, experiment.ErrBusy) {
				refused, errs = append(refused, pod), append(errs, err)
			} else if err != nil && !isGone(err) {
				return err
			}
		}
		if left = refused; len(left) == 0 {
			return nil
		}
		select {
		case <-ending.Done():
			return errs[0]
		case <-time.After(again):
		}
	}
}

// Verify implements experiment.Verifier.
func (d *Drain) Verify(ctx context.Context) (experiment.Evidence, error) {
	if e, err := d.cordon().Verify(ctx); err != nil || !e.InForce {
		return e, err
	}
	for _, pod := range d.Pods {
		if e, err := d.client.leaving(ctx, pod); err != nil || !e.InForce {
			return e, err
		}
	}
	return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: fmt.Sprintf("%d pods have left %s, or are about to", len(d.Pods), d.Node)}, nil
}
