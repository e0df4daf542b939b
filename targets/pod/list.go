package pod

import (
	"cmp"
	"context"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// listFor is how long a cluster may take to tell of all its pods.
const listFor = 10 * time.Second

// List implements experiment.Lister: the pods of all namespaces, of the current
// context where none is said.
func (p *Pod) List(ctx context.Context) ([]experiment.Listed, error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	where, err := p.env.Kube.Cluster(p.Context)
	if err != nil {
		return nil, err
	}
	all, err := p.env.Kube.Pods(ctx, kube.Query{Cluster: where})
	if err != nil {
		return nil, err
	}
	g := kube.Guard{Client: p.env.Kube, Where: where, All: true}
	on := p.here.search()
	rows := make([]experiment.Listed, 0, len(all))
	for i := range all {
		pod := &all[i]
		_, why, err := g.Protects(ctx, pod)
		if err != nil {
			return nil, err
		}
		containers, err := on.containers(ctx, pod)
		if err != nil {
			return nil, err
		}
		t, err := p.target(pod, containers)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row(pod, &t, why))
	}
	return rows, nil
}

// row lists a pod; t has its process, where it is on this node.
func row(pod *kube.Pod, t *experiment.Target, why string) experiment.Listed {
	l := experiment.Listed{Kind: "pod", Name: pod.Namespace + "/" + pod.Name, Workload: workload(pod), Protected: why}
	if t.Runtime != nil {
		l.Runtime = t.Runtime.Runtime
	}
	if len(t.PIDs) > 0 {
		l.PID = t.PIDs[0].PID
	}
	switch {
	case why != "":
		l.Out = "protected: " + why
	case !pod.Running():
		l.Out = "it is " + cmp.Or(state(pod), "Unknown")
	}
	return l
}
