package kube

import (
	"context"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/simianhq/simian/experiment"
)

// Pod is what Simian reads of a pod.
type Pod struct {
	Namespace, Name, UID string
	Labels, Annotations  map[string]string
	Node                 string    // "" where it has none yet
	Phase                string    // Pending, Running, Succeeded, Failed, Unknown
	Ready                bool      // its readiness says so
	Ending               bool      // it is about to go
	EndsBy               time.Time // then it is killed at the latest
	Restart              string    // restartPolicy: Always, OnFailure, Never
	HostNetwork          bool
	Owner                Owner // its controller
	Containers           []Container
}

// Container is one of a pod's.
type Container struct {
	Name, Image string
	ID          string // of the runtime, without "containerd://"
	Running     bool
}

// Owner is the controller of an object: what makes another in its place.
type Owner struct{ Kind, Name, UID string }

// String gives "ReplicaSet web-5d8f"; "" for none.
func (o Owner) String() string { return strings.TrimSpace(o.Kind + " " + o.Name) }

// Running tells whether it runs, and is not about to go.
func (p *Pod) Running() bool { return p.Phase == "Running" && !p.Ending }

// Mirror tells whether it is the API's picture of a pod that a node runs from
// a file, such as those of a control plane.
func (p *Pod) Mirror() bool {
	_, static := p.Annotations[corev1.MirrorPodAnnotationKey]
	return static || p.Owner.Kind == "Node"
}

// hashLabel is what a Deployment tells the ReplicaSets of its revisions, and
// their pods, apart by: it is the last part of a ReplicaSet's name.
const hashLabel = "pod-template-hash"

// Workload returns the pod's topmost owner: the Deployment of its ReplicaSet,
// which their names tell without asking. "" where nothing owns it.
func (p *Pod) Workload() Owner {
	o := p.Owner
	if hash := p.Labels[hashLabel]; o.Kind == "ReplicaSet" && hash != "" {
		if name, ok := strings.CutSuffix(o.Name, "-"+hash); ok && name != "" {
			return Owner{Kind: "Deployment", Name: name}
		}
	}
	return o
}

// Ref names the pod.
func (p *Pod) Ref(where experiment.Cluster) experiment.ObjectRef {
	return experiment.ObjectRef{
		Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, Node: p.Node, Owner: p.Owner.String(), Cluster: where,
	}
}

// trim leaves of a pod what Simian reads: ten thousand of them are kept.
func trim(p *corev1.Pod) *corev1.Pod {
	small := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: p.Labels,
			DeletionTimestamp: p.DeletionTimestamp, Annotations: ours(p.Annotations),
		},
		Spec:   corev1.PodSpec{NodeName: p.Spec.NodeName, RestartPolicy: p.Spec.RestartPolicy, HostNetwork: p.Spec.HostNetwork},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}
	if o := metav1.GetControllerOf(p); o != nil {
		small.OwnerReferences = []metav1.OwnerReference{*o}
	}
	for _, c := range p.Spec.Containers {
		small.Spec.Containers = append(small.Spec.Containers, corev1.Container{Name: c.Name, Image: c.Image})
	}
	for _, s := range p.Status.ContainerStatuses {
		kept := corev1.ContainerStatus{Name: s.Name, ContainerID: s.ContainerID}
		if s.State.Running != nil {
			kept.State.Running = &corev1.ContainerStateRunning{}
		}
		small.Status.ContainerStatuses = append(small.Status.ContainerStatuses, kept)
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			small.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return small
}

// ours are the annotations that Simian reads.
func ours(all map[string]string) map[string]string {
	var kept map[string]string
	for k, v := range all {
		if strings.HasPrefix(k, "simian.dev/") || k == corev1.MirrorPodAnnotationKey || k == defaultContainer {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[k] = v
		}
	}
	return kept
}

// defaultContainer is the annotation by which a pod says which of its
// containers is meant where none is named, as kubectl has it.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// Main returns the name of the container that is meant where none is named.
func (p *Pod) Main() string {
	if name := p.Annotations[defaultContainer]; name != "" {
		return name
	}
	if len(p.Containers) == 0 {
		return ""
	}
	return p.Containers[0].Name
}

// read makes a Pod of the API's.
func read(p *corev1.Pod) Pod {
	pod := Pod{
		Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Labels: maps.Clone(p.Labels), Annotations: ours(p.Annotations),
		Node: p.Spec.NodeName, Phase: string(p.Status.Phase), Restart: string(p.Spec.RestartPolicy), HostNetwork: p.Spec.HostNetwork,
		Ending: p.DeletionTimestamp != nil,
	}
	if pod.Ending {
		pod.EndsBy = p.DeletionTimestamp.Time
	}
	if o := metav1.GetControllerOf(p); o != nil {
		pod.Owner = Owner{o.Kind, o.Name, string(o.UID)}
	}
	for _, c := range p.Status.Conditions {
		pod.Ready = pod.Ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}
	for _, c := range p.Spec.Containers {
		one := Container{Name: c.Name, Image: c.Image}
		for _, s := range p.Status.ContainerStatuses {
			if s.Name == c.Name {
				_, one.ID, _ = strings.Cut(s.ContainerID, "://")
				one.Running = s.State.Running != nil
			}
		}
		pod.Containers = append(pod.Containers, one)
	}
	return pod
}

// Pod reads one pod. It gives experiment.ErrGone where that is another by now.
func (c *Client) Pod(ctx context.Context, o experiment.ObjectRef) (Pod, error) {
	one, err := c.conn(o.Cluster)
	if err != nil {
		return Pod{}, err
	}
	var p corev1.Pod
	if err := one.ask(ctx, call{verb: "get", resource: "pods", namespace: o.Namespace, name: o.Name}, &p, nil); err != nil {
		return Pod{}, err
	}
	if p.UID != types.UID(o.UID) {
		return Pod{}, another(o, string(p.UID))
	}
	return read(&p), nil
}
