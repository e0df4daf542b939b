package match

import "strings"

// manager is how one manager of containers tells, in labels or in the
// environment, what it has started.
type manager struct {
	name     string
	workload string   // holds the service's name
	within   []string // hold what the service is part of, outermost first
}

// labelled are the managers that label containers, in the order they are
// asked: a container of Kubernetes may carry its image's Compose labels too.
//
// Sources: Nomad's Docker driver (extra_labels; it always sets alloc_id
// alone), the labels of Amazon ECS's task metadata, Docker Swarm's
// com.docker.swarm.service.name (which begins with the stack), the Compose
// specification.
func labelled() []manager {
	return []manager{
		{name: "ecs", workload: "com.amazonaws.ecs.task-definition-family"},
		{name: "nomad", workload: "com.hashicorp.nomad.task_group_name", within: []string{"com.hashicorp.nomad.namespace", "com.hashicorp.nomad.job_name"}},
		{name: "swarm", workload: "com.docker.swarm.service.name"},
		{name: "compose", workload: "com.docker.compose.service", within: []string{"com.docker.compose.project"}},
	}
}

// environed are those that name what they start in its environment, though
// not, or not unless told to, in labels. Sources: Nomad's runtime environment,
// Marathon's task environment variables.
func environed() []manager {
	return []manager{
		{name: "nomad", workload: "NOMAD_GROUP_NAME", within: []string{"NOMAD_NAMESPACE", "NOMAD_JOB_NAME"}},
		{name: "marathon", workload: "MARATHON_APP_ID"},
	}
}

// The labels that the kubelet puts on every container, and the one that a
// Deployment puts on its pods (k8s.io/kubelet types, apps/v1).
const (
	podNamespace  = "io.kubernetes.pod.namespace"
	podName       = "io.kubernetes.pod.name"
	containerName = "io.kubernetes.container.name"
	templateHash  = "pod-template-hash"
)

// Workload returns the workload that the labels of a container name, such as
// "shop/gateway", and which manager gave them; "" where they name none. The
// environment, as NAME=VALUE, is asked where labels say nothing.
func Workload(labels map[string]string, environment ...string) (workload, by string) {
	if name := ofKubernetes(labels); name != "" {
		return name, "kubernetes"
	}
	if name, by := firstOf(labelled(), labels); name != "" {
		return name, by
	}
	env := map[string]string{}
	for _, pair := range environment {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return firstOf(environed(), env)
}

func firstOf(managers []manager, labels map[string]string) (workload, by string) {
	for _, m := range managers {
		if labels[m.workload] == "" {
			continue
		}
		var parts []string
		for _, label := range append(m.within, m.workload) {
			if part := strings.Trim(labels[label], "/"); part != "" {
				parts = append(parts, part)
			}
		}
		return strings.Join(parts, "/"), m.name
	}
	return "", ""
}

// ofKubernetes names the container's namespace, pod and own name. The owner of
// its pod stands in no label, only in the API; but where the hash of a
// Deployment's template is there too, the pod's name begins with the
// Deployment's: NAME-HASH-SUFFIX.
func ofKubernetes(labels map[string]string) string {
	pod := labels[podName]
	if pod == "" {
		return ""
	}
	if hash := labels[templateHash]; hash != "" {
		if owner, _, ok := strings.Cut(pod, "-"+hash+"-"); ok && owner != "" {
			pod = owner
		}
	}
	parts := []string{labels[podNamespace], pod, labels[containerName]}
	if parts[0] == "" {
		parts = parts[1:]
	}
	return strings.TrimSuffix(strings.Join(parts, "/"), "/")
}
