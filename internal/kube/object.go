package kube

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/simianhq/simian/experiment"
)

// object is any object of the API that Simian has the type of.
type object interface {
	runtime.Object
	metav1.Object
}

// empty returns an object of a kind to read into, nil for one that Simian has
// not the type of.
func empty(kind string) object {
	switch kind {
	case "Pod":
		return &corev1.Pod{}
	case "Node":
		return &corev1.Node{}
	case "Deployment":
		return &appsv1.Deployment{}
	case "StatefulSet":
		return &appsv1.StatefulSet{}
	case "DaemonSet":
		return &appsv1.DaemonSet{}
	case "ReplicaSet":
		return &appsv1.ReplicaSet{}
	}
	return nil
}

// meta reads an object, whichever now has its name.
func (c *Client) meta(ctx context.Context, o experiment.ObjectRef) (object, error) {
	into := empty(o.Kind)
	if into == nil {
		return nil, fmt.Errorf("read %s: Simian does not know this kind: %w", o, experiment.ErrUnsupported)
	}
	one, err := c.conn(o.Cluster)
	if err != nil {
		return nil, err
	}
	r := callOn("get", o)
	if err := one.ask(ctx, r, into, nil); err != nil {
		return nil, err
	}
	if o.UID != "" && string(into.GetUID()) != o.UID {
		return nil, another(o, string(into.GetUID()))
	}
	return into, nil
}

// callOn is a request for an object.
func callOn(verb string, o experiment.ObjectRef) call {
	group, resource := resourceOf(o.Kind)
	return call{verb: verb, group: group, resource: resource, namespace: o.Namespace, name: o.Name}
}

// another says that an object's name is another's by now.
func another(o experiment.ObjectRef, uid string) error {
	return fmt.Errorf("%s is another by now (uid %s, not %s): %w", o, uid, o.UID, experiment.ErrGone)
}

// tries is how often a change is begun anew where somebody else changes the same
// object at the same time, as controllers do.
const tries = 8

// change reads an object of this very UID, and changes what decide says (a JSON
// merge patch, RFC 7386; nil to leave it), unless somebody else has changed it
// meanwhile: then it begins anew.
func (c *Client) change(ctx context.Context, o experiment.ObjectRef, decide func(object) (map[string]any, error)) error {
	one, err := c.conn(o.Cluster)
	if err != nil {
		return err
	}
	for range tries {
		now, err := c.meta(ctx, o)
		if err != nil {
			return err
		}
		patch, err := decide(now)
		if err != nil || patch == nil {
			return err
		}
		if err = one.patch(ctx, callOn("patch", o), now, patch); !isConflict(err) {
			return err
		}
	}
	return fmt.Errorf("change %s: others change it all the time: %w", o, experiment.ErrBusy)
}

// patch changes fields of an object, as long as it is as read.
func (c *conn) patch(ctx context.Context, r call, read metav1.Object, fields map[string]any) error {
	meta, _ := fields["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["uid"], meta["resourceVersion"] = read.GetUID(), read.GetResourceVersion()
	fields["metadata"] = meta
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return c.ask(ctx, r, nil, func(q *rest.Request) {
		q.SetHeader("Content-Type", "application/merge-patch+json").Body(body)
	})
}
