package pod

import (
	"errors"
	"fmt"
	"maps"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/runtime"
)

// describe says what a target is, whatever handles it has.
func describe(t *experiment.Target, pod *kube.Pod, ns kube.Namespace, where experiment.Cluster) {
	ref := pod.Ref(where)
	t.Kind, t.Name, t.Object = "pod", pod.Namespace+"/"+pod.Name, &ref
	t.ID = "pod:" + pod.UID
	if len(t.PIDs) > 0 { // a container that is started anew is another target
		t.ID += ":" + t.Runtime.ID
	}
	t.Labels = labels(pod, ns)
	t.Workload = workload(pod)
	t.Unhealthy = pod.Running() && !pod.Ready
}

// workload names what a pod is one of: "Deployment shop/web", "" for nothing.
func workload(pod *kube.Pod) string {
	if w := pod.Workload(); w.Name != "" {
		return fmt.Sprintf("%s %s/%s", w.Kind, pod.Namespace, w.Name)
	}
	return ""
}

// labels are the pod's; opting in counts from its annotation and its namespace
// too, unless it says otherwise itself.
func labels(pod *kube.Pod, ns kube.Namespace) map[string]string {
	all := maps.Clone(pod.Labels)
	if _, own := all[enabledLabel]; own {
		return all
	}
	if all == nil {
		all = map[string]string{}
	}
	switch value, own := pod.Annotations[enabledLabel]; {
	case own:
		all[enabledLabel] = value
	case ns.Says(enabledLabel):
		all[enabledLabel] = "true"
	}
	return all
}

// target resolves a pod of this node, whose containers are given, to the handles
// of one of them. One of another node has none, and faults of the API only.
func (p *Pod) target(pod *kube.Pod, containers []runtime.Container) (experiment.Target, error) {
	want := p.Container
	if want == "" {
		want = pod.Main()
	} else if !has(pod, want) {
		return experiment.Target{}, p.noContainer(pod)
	}
	for _, c := range containers {
		if c.Name != want {
			continue
		}
		c.Ref.Restart = restart(pod.Restart)
		t, err := runtime.Resolve(p.env.FS, c, true)
		if errors.Is(err, experiment.ErrGone) || errors.Is(err, experiment.ErrUnsupported) { // it has just ended, or is out of sight
			return experiment.Target{}, nil
		}
		return t, err
	}
	return experiment.Target{}, nil
}

// restart is a pod's restart policy in Docker's words, as faults know it.
func restart(policy string) string {
	switch policy {
	case "Always":
		return "always"
	case "OnFailure":
		return "on-failure"
	}
	return "no"
}

func has(pod *kube.Pod, container string) bool {
	for _, c := range pod.Containers {
		if c.Name == container {
			return true
		}
	}
	return false
}

func (p *Pod) noContainer(pod *kube.Pod) error {
	var names []string
	for _, c := range pod.Containers {
		names = append(names, c.Name)
	}
	hint := ""
	if near := experiment.Nearest(p.Container, names); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return fmt.Errorf("pod %s/%s has no container %q%s: it has %s: %w", pod.Namespace, pod.Name, p.Container, hint, some(names), experiment.ErrNoMatch)
}
