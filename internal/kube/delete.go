package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/simianhq/simian/experiment"
)

// Delete deletes one pod, and no other of its name.
type Delete struct {
	Pod   experiment.ObjectRef `json:"pod"`
	Grace *int64               `json:"graceSeconds,omitempty"` // nil is the pod's own; 0 does not wait for the node

	client *Client
}

// NewDelete returns the op that deletes a pod, with a grace in whole seconds.
func (c *Client) NewDelete(pod experiment.ObjectRef, grace *time.Duration) *Delete {
	return &Delete{Pod: pod, Grace: seconds(grace), client: c}
}

func seconds(d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	s := int64(*d / time.Second)
	return &s
}

// String implements experiment.Op.
func (d *Delete) String() string { return "delete " + d.Pod.String() + graceText(d.Grace) }

func graceText(grace *int64) string {
	if grace == nil {
		return ""
	}
	return fmt.Sprintf(" with a grace of %d s", *grace)
}

// Handles implements experiment.Handled.
func (d *Delete) Handles() []string { return []string{d.Pod.Handle()} }

// Ends implements experiment.Ending.
func (d *Delete) Ends() bool { return true }

// Backend implements experiment.Backed.
func (d *Delete) Backend() string { return backend }

// Leans implements experiment.Leaning.
func (d *Delete) Leans() string { return d.Pod.Owner }

// backend is what does the faults of this package.
const backend = "Kubernetes"

// Apply implements experiment.Op.
func (d *Delete) Apply(ctx context.Context) error {
	return d.client.send(ctx, d.Pod, func(one *conn) error {
		return one.ask(ctx, callOn("delete", d.Pod), nil, func(q *rest.Request) { q.Body(deleteOptions(d.Pod, d.Grace)) })
	})
}

// deleteOptions wants this very pod.
func deleteOptions(pod experiment.ObjectRef, grace *int64) *metav1.DeleteOptions {
	uid := types.UID(pod.UID)
	return &metav1.DeleteOptions{GracePeriodSeconds: grace, Preconditions: &metav1.Preconditions{UID: &uid}}
}

// send asks for a pod to go, unless it is on its way already. Where the API
// server says that it is another by now, that is experiment.ErrGone.
func (c *Client) send(ctx context.Context, pod experiment.ObjectRef, ask func(*conn) error) error {
	now, err := c.Pod(ctx, pod)
	if err != nil || now.Ending {
		return err
	}
	one, err := c.conn(pod.Cluster)
	if err != nil {
		return err
	}
	err = ask(one)
	if isConflict(err) { // the precondition
		_, err = c.Pod(ctx, pod)
		if err == nil {
			err = fmt.Errorf("%s was changed at the same time: %w", pod, experiment.ErrBusy)
		}
	}
	return err
}

// Verify implements experiment.Verifier.
func (d *Delete) Verify(ctx context.Context) (experiment.Evidence, error) {
	return d.client.leaving(ctx, d.Pod)
}

// leaving tells whether a pod is gone, or about to go.
func (c *Client) leaving(ctx context.Context, pod experiment.ObjectRef) (experiment.Evidence, error) {
	now, err := c.Pod(ctx, pod)
	switch {
	case isGone(err):
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: pod.String() + " is gone"}, nil
	case err != nil:
		return experiment.Evidence{}, err
	case now.Ending:
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: fmt.Sprintf("%s is ending, and killed %s at the latest", pod, now.EndsBy.Format(time.TimeOnly))}, nil
	}
	return experiment.Evidence{What: pod.String() + " is " + now.Phase, Hint: "the API server has not deleted it"}, nil
}

// Evict asks for one pod to go, which PodDisruptionBudgets may refuse.
type Evict struct {
	Pod   experiment.ObjectRef `json:"pod"`
	Grace *int64               `json:"graceSeconds,omitempty"`

	client *Client
}

// NewEvict returns the op that evicts a pod, with a grace in whole seconds.
func (c *Client) NewEvict(pod experiment.ObjectRef, grace *time.Duration) *Evict {
	return &Evict{Pod: pod, Grace: seconds(grace), client: c}
}

// String implements experiment.Op.
func (e *Evict) String() string { return "evict " + e.Pod.String() + graceText(e.Grace) }

// Handles implements experiment.Handled.
func (e *Evict) Handles() []string { return []string{e.Pod.Handle()} }

// Ends implements experiment.Ending.
func (e *Evict) Ends() bool { return true }

// Backend implements experiment.Backed.
func (e *Evict) Backend() string { return backend }

// Leans implements experiment.Leaning.
func (e *Evict) Leans() string { return e.Pod.Owner }

// Apply implements experiment.Op. It gives experiment.ErrBusy, with the name of
// the PodDisruptionBudget, where one refuses.
func (e *Evict) Apply(ctx context.Context) error {
	return e.client.evict(ctx, e.Pod, e.Grace)
}

func (c *Client) evict(ctx context.Context, pod experiment.ObjectRef, grace *int64) error {
	err := c.send(ctx, pod, func(one *conn) error {
		r := callOn("create", pod)
		r.sub = "eviction"
		return one.ask(ctx, r, nil, func(q *rest.Request) {
			q.Body(&policyv1.Eviction{
				ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
				DeleteOptions: deleteOptions(pod, grace),
			})
		})
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("evict %s: %w", pod, err)
	}
	return err
}

// Verify implements experiment.Verifier.
func (e *Evict) Verify(ctx context.Context) (experiment.Evidence, error) {
	return e.client.leaving(ctx, e.Pod)
}
