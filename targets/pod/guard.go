package pod

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/proc"
)

// enabledLabel opts in.
const enabledLabel = "simian.dev/enabled"

// systems are the namespaces of the cluster's own pods.
var systems = []string{"kube-system", "kube-public", "kube-node-lease"}

// guard knows which pods are protected.
type guard struct {
	kube  *kube.Client
	where experiment.Cluster
	all   bool // of all namespaces: they are read at once
	known map[string]kube.Namespace
}

// protects returns a pod's namespace, and why it must not be touched, "" where
// it may. A namespace that cannot be read is an error: it may be protected.
func (g *guard) protects(ctx context.Context, pod *kube.Pod) (kube.Namespace, string, error) {
	ns, err := g.namespace(ctx, pod.Namespace)
	if err != nil {
		return ns, "", fmt.Errorf("tell whether namespace %s is protected: %w", pod.Namespace, err)
	}
	switch {
	case slices.Contains(systems, ns.Name):
		return ns, "it is of the cluster itself (namespace " + ns.Name + ")", nil
	case pod.Mirror():
		return ns, "its node runs it from a file, as it does a control plane", nil
	case ns.Says(proc.ProtectLabel):
		return ns, fmt.Sprintf("namespace %s has %s=true", ns.Name, proc.ProtectLabel), nil
	case pod.Labels[proc.ProtectLabel] == "true", pod.Annotations[proc.ProtectLabel] == "true":
		return ns, "it has " + proc.ProtectLabel + "=true", nil
	}
	return ns, "", nil
}

func (g *guard) namespace(ctx context.Context, name string) (kube.Namespace, error) {
	if !g.all {
		return g.kube.Namespace(ctx, g.where, name)
	}
	if g.known == nil {
		var err error
		if g.known, err = g.kube.Namespaces(ctx, g.where); err != nil {
			return kube.Namespace{}, err
		}
	}
	if ns, ok := g.known[name]; ok {
		return ns, nil
	}
	return g.kube.Namespace(ctx, g.where, name)
}

// outcome is what became of the pods that match.
type outcome struct{ protected, idle []string }

// keeps tells whether a pod can be struck, and notes why not.
func (o *outcome) keeps(p *Pod, pod *kube.Pod, why string) bool {
	name := pod.Namespace + "/" + pod.Name
	switch {
	case why != "":
		o.protected = append(o.protected, name+": "+why)
	case p.Phase != "" && p.Phase != "Running":
		if pod.Phase == p.Phase && !pod.Ending {
			return true
		}
		o.idle = append(o.idle, name+" is "+state(pod))
	case !pod.Running():
		o.idle = append(o.idle, name+" is "+state(pod))
	default:
		return true
	}
	return false
}

func state(pod *kube.Pod) string {
	if pod.Ending {
		return "ending"
	}
	return pod.Phase
}

// none says why nothing was found, and what there is.
func (p *Pod) none(all []kube.Pod, o outcome) error {
	var names []string
	for i := range all {
		names = append(names, all[i].Name)
	}
	in := " in namespace " + p.namespace()
	if p.Namespace == everywhere {
		in = ""
	}
	switch {
	case len(o.protected) > 0:
		return fmt.Errorf("pods that must not be touched%s: %s: %w", in, some(o.protected), experiment.ErrProtected)
	case len(o.idle) > 0:
		return fmt.Errorf("no pod that runs is %s: %s: %w", p, some(o.idle), experiment.ErrNoMatch)
	case p.Empty():
		return fmt.Errorf("no pod is %s: %w", p, experiment.ErrNoMatch)
	}
	return fmt.Errorf("%w%s", p.None("pod", names), in)
}

// some lists a few of many.
func some(list []string) string {
	const few = 3
	if len(list) <= few {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:few], "; "), len(list)-few)
}
