package runtime

import (
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
)

// Labels that say what a container is.
const (
	// podLabel is where the kubelet's runtimes note the UID of the pod that a
	// container is of (k8s.io/kubelet/pkg/types).
	podLabel = "io.kubernetes.pod.uid"
	// kindLabel tells containers of pods from the sandboxes that hold their
	// namespaces (containerd, internal/cri).
	kindLabel   = "io.cri-containerd.kind"
	sandboxKind = "sandbox"
	// dockerSpace is the namespace in which Docker keeps its containers.
	dockerSpace = "moby"
)

// nameOf is what people call a container of containerd: nerdctl's name, or
// Kubernetes' for it and its pod, else its ID.
func nameOf(c containers.Container) string {
	if name := c.Labels["nerdctl/name"]; name != "" {
		return name
	}
	pod, name := c.Labels["io.kubernetes.pod.name"], c.Labels["io.kubernetes.container.name"]
	if pod != "" && name != "" {
		return pod + "/" + name
	}
	return Short(c.ID)
}

// keptByKubelet is why a pod's container is not stopped behind its back.
const keptByKubelet = "the kubelet keeps it, by its pod's restartPolicy (the fault delete has its pod replaced, scale takes it away)"

// keptBy says who starts a container in containerd's place, "" for nobody.
func keptBy(space string, c Container) string {
	switch {
	case c.Pod != "":
		return keptByKubelet
	case space == dockerSpace:
		return "Docker keeps it (a target of type docker is started again)"
	}
	return ""
}

// monitored reads which policy containerd's restart monitor keeps to
// (core/runtime/restart), as Compose writes it.
func monitored(labels map[string]string) string {
	stopped, _ := strconv.ParseBool(labels["containerd.io/restart.explicitly-stopped"])
	if labels["containerd.io/restart.status"] != "running" || stopped {
		return "no"
	}
	policy, tries, _ := strings.Cut(labels["containerd.io/restart.policy"], ":")
	most, _ := strconv.Atoi(tries)
	used, _ := strconv.Atoi(labels["containerd.io/restart.count"])
	switch {
	case policy == "":
		return "always"
	case policy == "on-failure" && most > 0 && used >= most:
		return "no"
	}
	return policy
}
