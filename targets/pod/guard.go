package pod

import (
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

// enabledLabel opts in.
const enabledLabel = "simian.dev/enabled"

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
