package kube

import (
	"context"
	"fmt"
	"strconv"

	autoscalingv1 "k8s.io/api/autoscaling/v1"

	"github.com/simianhq/simian/experiment"
)

// Scale sets how many pods a Deployment, StatefulSet or ReplicaSet is to have,
// where that still is as expected.
type Scale struct {
	Object experiment.ObjectRef `json:"object"`
	From   int32                `json:"from"`
	To     int32                `json:"to"`
	Undo   bool                 `json:"undo,omitempty"`

	client *Client
}

// NewScale returns the op that scales o from one number to another, and its undo.
func (c *Client) NewScale(o experiment.ObjectRef, from, to int32) experiment.Step {
	return experiment.Step{
		Do:   &Scale{Object: o, From: from, To: to, client: c},
		Undo: &Scale{Object: o, From: to, To: from, Undo: true, client: c},
	}
}

// Replicas returns how many pods an object is to have, and the object by its
// identity: o may leave out its UID.
func (c *Client) Replicas(ctx context.Context, o experiment.ObjectRef) (int32, experiment.ObjectRef, error) {
	s, err := c.scale(ctx, o)
	if err != nil {
		return 0, o, err
	}
	o.UID = string(s.UID)
	return s.Spec.Replicas, o, nil
}

func scaleCall(verb string, o experiment.ObjectRef) call {
	r := callOn(verb, o)
	r.sub = "scale"
	return r
}

func (c *Client) scale(ctx context.Context, o experiment.ObjectRef) (*autoscalingv1.Scale, error) {
	one, err := c.conn(o.Cluster)
	if err != nil {
		return nil, err
	}
	var s autoscalingv1.Scale
	if err := one.ask(ctx, scaleCall("get", o), &s, nil); err != nil {
		return nil, err
	}
	if o.UID != "" && string(s.UID) != o.UID {
		return nil, another(o, string(s.UID))
	}
	return &s, nil
}

// String implements experiment.Op.
func (s *Scale) String() string {
	return fmt.Sprintf("scale %s from %d to %d", s.Object, s.From, s.To)
}

// Handles implements experiment.Handled.
func (s *Scale) Handles() []string { return []string{s.Object.Handle() + "#replicas"} }

// Durable implements experiment.Durable.
func (s *Scale) Durable() bool { return true }

// Ends implements experiment.Ending: pods come and go with the number, and what
// comes in the place of one is of the same object, which this holds.
func (s *Scale) Ends() bool { return true }

// Backend implements experiment.Backed.
func (s *Scale) Backend() string { return backend }

// Notes implements experiment.Noted.
func (s *Scale) Notes() []string {
	if s.To < s.From {
		return []string{fmt.Sprintf("%d of the %d pods of %s go: which ones, its controller decides", s.From-s.To, s.From, s.Object)}
	}
	return nil
}

// Apply implements experiment.Op.
func (s *Scale) Apply(ctx context.Context) error {
	one, err := s.client.conn(s.Object.Cluster)
	if err != nil {
		return err
	}
	for range tries {
		now, err := s.client.scale(ctx, s.Object)
		if err != nil || now.Spec.Replicas == s.To {
			return err
		}
		if now.Spec.Replicas != s.From {
			return &experiment.SupersededError{
				Object: "replicas of " + s.Object.String(),
				Read:   strconv.Itoa(int(s.To)), Wrote: strconv.Itoa(int(s.From)), Present: strconv.Itoa(int(now.Spec.Replicas)),
			}
		}
		err = one.patch(ctx, scaleCall("patch", s.Object), now, map[string]any{"spec": map[string]any{"replicas": s.To}})
		if !isConflict(err) {
			return err
		}
	}
	return fmt.Errorf("scale %s: others change it all the time: %w", s.Object, experiment.ErrBusy)
}

// Verify implements experiment.Verifier. It is in force once the object says so;
// its pods come and go after that.
func (s *Scale) Verify(ctx context.Context) (experiment.Evidence, error) {
	now, err := s.client.scale(ctx, s.Object)
	if err != nil {
		return experiment.Evidence{}, err
	}
	e := experiment.Evidence{
		InForce: now.Spec.Replicas == s.To,
		What:    fmt.Sprintf("%s is to have %d pods, and has %d", s.Object, now.Spec.Replicas, now.Status.Replicas),
	}
	if !e.InForce && !s.Undo {
		e.Hint = "an autoscaler, or somebody else, has changed it"
	}
	return e, nil
}
