package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// Scale has the Deployment, StatefulSet or ReplicaSet that a pod is of have
// another number of pods for as long as the action lasts.
type Scale struct {
	Replicas *int `json:"replicas,omitempty" jsonschema:"how many pods it is to have"`
	By       int  `json:"by,omitzero" jsonschema:"how many more than now; fewer where it is negative"`

	kube *kube.Client
}

// mostReplicas is what the API's field holds.
const mostReplicas = 1<<31 - 1

// Validate implements experiment.Validator.
func (s *Scale) Validate() error {
	switch {
	case s.Replicas == nil && s.By == 0:
		return errors.New("says no number: give replicas or by")
	case s.Replicas != nil && s.By != 0:
		return experiment.Fieldf("by", "does not go with replicas: give one of them")
	case s.Replicas != nil && (*s.Replicas < 0 || *s.Replicas > mostReplicas):
		return experiment.Fieldf("replicas", "%d is not a number of pods (0 or more)", *s.Replicas)
	}
	return nil
}

// Remote implements experiment.Remote.
func (s *Scale) Remote() bool { return true }

// Plan implements experiment.Fault.
func (s *Scale) Plan(ctx context.Context, _ experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	o, err := workloadOf(t, "scaled", "Deployment", "StatefulSet", "ReplicaSet")
	if err != nil {
		return nil, err
	}
	now, o, err := s.kube.Replicas(ctx, o)
	if err != nil {
		return nil, err
	}
	to := int(now) + s.By
	if s.Replicas != nil {
		to = *s.Replicas
	}
	switch {
	case to == int(now):
		return nil, fmt.Errorf("%s is to have %d pods already: %w", o, now, experiment.ErrBusy)
	case to < 0 || to > mostReplicas:
		return nil, fmt.Errorf("%s has %d pods: %d fewer are not to be had: %w", o, now, -s.By, experiment.ErrUnsupported)
	}
	return []experiment.Step{s.kube.NewScale(o, now, int32(to))}, nil
}

// workloadOf returns what a pod is of, by name, where that is of one of kinds.
func workloadOf(t experiment.Target, can string, kinds ...string) (experiment.ObjectRef, error) {
	if err := isPod(t); err != nil {
		return experiment.ObjectRef{}, err
	}
	for _, kind := range kinds {
		if name, ok := strings.CutPrefix(t.Workload, kind+" "+t.Object.Namespace+"/"); ok {
			return experiment.ObjectRef{Kind: kind, Namespace: t.Object.Namespace, Name: name, Cluster: t.Object.Cluster}, nil
		}
	}
	of := t.Workload
	if of == "" {
		of = "nothing"
	}
	return experiment.ObjectRef{}, fmt.Errorf("it is of %s, which can't be %s (a %s can): %w", of, can, strings.Join(kinds, ", a "), experiment.ErrUnsupported)
}
