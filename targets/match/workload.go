package match

// manager is how one manager of containers labels what it starts.
type manager struct {
	name     string
	workload string   // the label that holds the service's name
	within   []string // those that hold what the service is part of, outermost first
}

// managers are asked in this order: a container of Kubernetes may carry the
// labels of its image's Compose project too.
//
// Sources: Compose specification (labels), Docker Swarm (docker service
// create), Kubernetes CRI (io.kubernetes.*), Nomad's Docker driver
// (extra_labels), Amazon ECS task metadata, Marathon's Docker containerizer.
func managers() []manager {
	return []manager{
		{"ecs", "com.amazonaws.ecs.task-definition-family", []string{"com.amazonaws.ecs.cluster"}},
		{"nomad", "com.hashicorp.nomad.task_group_name", []string{"com.hashicorp.nomad.namespace", "com.hashicorp.nomad.job_name"}},
		{"marathon", "MARATHON_APP_ID", nil},
		{"swarm", "com.docker.swarm.service.name", nil},
		{"compose", "com.docker.compose.service", []string{"com.docker.compose.project"}},
	}
}

// Workload returns the workload that the labels of a container name, such as
// "shop/gateway", and which manager gave them; "" where they name none.
func Workload(labels map[string]string) (workload, by string) {
	for _, m := range managers() {
		name := labels[m.workload]
		if name == "" {
			continue
		}
		for i := len(m.within) - 1; i >= 0; i-- {
			if part := labels[m.within[i]]; part != "" {
				name = part + "/" + name
			}
		}
		return name, m.name
	}
	return "", ""
}
