package kube

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/simianhq/simian/experiment"
)

// restartedBy is the annotation of a pod template by which a run has its pods
// replaced.
const restartedBy = "simian.dev/restarted-by"

// Rollout has a controller replace all pods of a Deployment, StatefulSet or
// DaemonSet, one after the other as its strategy says, by an annotation on its
// template, as kubectl rollout restart does.
type Rollout struct {
	Object experiment.ObjectRef `json:"object"`
	Run    experiment.RunID     `json:"run"`

	client *Client
}

// NewRollout returns the op that has all pods of o replaced.
func (c *Client) NewRollout(o experiment.ObjectRef, run experiment.RunID) *Rollout {
	return &Rollout{Object: o, Run: run, client: c}
}

// Restartable returns o by its identity, where its controller replaces its pods
// when their template changes.
func (c *Client) Restartable(ctx context.Context, o experiment.ObjectRef) (experiment.ObjectRef, error) {
	now, err := c.meta(ctx, o)
	if err != nil {
		return o, err
	}
	if template(now) == nil {
		return o, fmt.Errorf("%s has no rollout (a Deployment, StatefulSet or DaemonSet has): %w", o, experiment.ErrUnsupported)
	}
	if why := keepsPods(now); why != "" {
		return o, fmt.Errorf("%s %s: %w", o, why, experiment.ErrUnsupported)
	}
	o.UID = string(now.GetUID())
	return o, nil
}

// keepsPods says why a controller does not replace pods by itself.
func keepsPods(o object) string {
	switch o := o.(type) {
	case *appsv1.Deployment:
		if o.Spec.Paused {
			return "is paused: its pods are not replaced until it is resumed"
		}
	case *appsv1.StatefulSet:
		if o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
			return "replaces pods only once they are deleted (updateStrategy OnDelete)"
		}
	case *appsv1.DaemonSet:
		if o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType {
			return "replaces pods only once they are deleted (updateStrategy OnDelete)"
		}
	}
	return ""
}

func template(o object) *corev1.PodTemplateSpec {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	}
	return nil
}

// String implements experiment.Op.
func (r *Rollout) String() string { return "restart all pods of " + r.Object.String() }

// Handles implements experiment.Handled.
func (r *Rollout) Handles() []string { return []string{r.Object.Handle() + "#template"} }

// Ends implements experiment.Ending.
func (r *Rollout) Ends() bool { return true }

// Backend implements experiment.Backed.
func (r *Rollout) Backend() string { return backend }

// Leans implements experiment.Leaning.
func (r *Rollout) Leans() string { return r.Object.Kind + " " + r.Object.Name }

// Apply implements experiment.Op.
func (r *Rollout) Apply(ctx context.Context) error {
	return r.client.change(ctx, r.Object, func(o object) (map[string]any, error) {
		if template(o).Annotations[restartedBy] == string(r.Run) {
			return nil, nil
		}
		return map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]any{restartedBy: string(r.Run)},
		}}}}, nil
	})
}

// Verify implements experiment.Verifier.
func (r *Rollout) Verify(ctx context.Context) (experiment.Evidence, error) {
	now, err := r.client.meta(ctx, r.Object)
	if err != nil {
		return experiment.Evidence{}, err
	}
	if template(now).Annotations[restartedBy] != string(r.Run) {
		return experiment.Evidence{What: "its template is as it was"}, nil
	}
	return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: rolled(now)}, nil
}

// rolled says how far a controller has come.
func rolled(o object) string {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return fmt.Sprintf("%d of its %d pods are new", o.Status.UpdatedReplicas, o.Status.Replicas)
	case *appsv1.StatefulSet:
		return fmt.Sprintf("%d of its %d pods are new", o.Status.UpdatedReplicas, o.Status.Replicas)
	case *appsv1.DaemonSet:
		return fmt.Sprintf("%d of its %d pods are new", o.Status.UpdatedNumberScheduled, o.Status.CurrentNumberScheduled)
	}
	return ""
}
