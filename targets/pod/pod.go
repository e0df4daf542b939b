// Package pod finds Kubernetes' pods, and resolves those on this node to
// handles. It reads only.
package pod

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/fields"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/targets/match"
)

// Pod selects pods, by what the API server knows of them. All that it is told
// must hold; told nothing, it finds every pod that runs in the namespace
// default.
type Pod struct {
	match.Match
	Namespace     string `json:"namespace,omitempty" jsonschema:"the namespace they are in (default); * for all of them"`
	FieldSelector string `json:"fieldSelector,omitempty" jsonschema:"fields in Kubernetes' syntax, such as spec.nodeName=worker-1"`
	Owner         string `json:"owner,omitempty" jsonschema:"what they belong to: its kind and name, such as Deployment/web"`
	Node          string `json:"node,omitempty" jsonschema:"the node they run on"`
	Phase         string `json:"phase,omitempty" jsonschema:"Running (default), Pending, Failed, Succeeded or Unknown"`
	Image         string `json:"image,omitempty" jsonschema:"an image that one of their containers is of; without a tag, any"`
	Container     string `json:"container,omitempty" jsonschema:"which container of them is struck; left out, the one that kubectl would take"`
	Context       string `json:"context,omitempty" jsonschema:"the context of the kubeconfig; left out, its current one"`

	env  Env
	here *here
}

// Env is what reading pods needs.
type Env struct {
	FS    proc.FS
	Kube  *kube.Client
	Local Local // the containers of this node; nil where there are none to be had
}

// Local knows the containers of pods that run on this node.
type Local interface {
	// Containers returns the running containers of the pod with this UID; none
	// where it is not on this node.
	Containers(ctx context.Context, podUID string) ([]runtime.Container, error)
}

// New returns the constructor of the selector.
func New(env Env) func() experiment.Selector {
	here := &here{local: env.Local}
	return func() experiment.Selector { return &Pod{env: env, here: here} }
}

// everywhere is how all namespaces are asked for.
const everywhere = "*"

var phases = []string{"Running", "Pending", "Failed", "Succeeded", "Unknown"}

// Validate implements experiment.Validator.
func (p *Pod) Validate() error {
	if kind, name, ok := strings.Cut(p.Owner, "/"); p.Owner != "" && (!ok || kind == "" || name == "" || strings.Contains(name, "/")) {
		return experiment.Fieldf("owner", "%q is not a kind and a name, such as Deployment/web", p.Owner)
	}
	if p.Phase != "" && !slices.Contains(phases, p.Phase) {
		hint := ""
		if near := experiment.Nearest(p.Phase, phases); near != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", near)
		}
		return experiment.Fieldf("phase", "%q is no phase of a pod%s\n        phases: %s", p.Phase, hint, strings.Join(phases, " "))
	}
	if _, err := fields.ParseSelector(p.FieldSelector); err != nil {
		return experiment.Fieldf("fieldSelector", "%q is not a field selector (such as spec.nodeName=worker-1): %v", p.FieldSelector, err)
	}
	if strings.ContainsAny(p.Namespace, ", /") {
		return experiment.Fieldf("namespace", "%q is not the name of one namespace (or * for all)", p.Namespace)
	}
	return nil
}

// Select implements experiment.Selector. Pods that are protected are left out.
func (p *Pod) Select(ctx context.Context) ([]experiment.Target, error) {
	where, err := p.env.Kube.Cluster(p.Context)
	if err != nil {
		return nil, err
	}
	all, err := p.env.Kube.Pods(ctx, p.query(where))
	if err != nil {
		return nil, err
	}
	found, out, err := p.choose(ctx, all, where)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, p.none(all, out)
	}
	experiment.SortTargets(found)
	return found, nil
}

// choose makes targets of the pods that match and may be touched.
func (p *Pod) choose(ctx context.Context, all []kube.Pod, where experiment.Cluster) (found []experiment.Target, out outcome, err error) {
	g := kube.Guard{Client: p.env.Kube, Where: where, All: p.Namespace == everywhere}
	on := p.here.search()
	for i := range all {
		pod := &all[i]
		if !p.matches(pod) {
			continue
		}
		ns, why, err := g.Protects(ctx, pod)
		if err != nil {
			return nil, out, err
		}
		if !out.keeps(p, pod, why) {
			continue
		}
		containers, err := on.containers(ctx, pod)
		if err != nil {
			return nil, out, err
		}
		t, err := p.target(pod, containers)
		if err != nil {
			return nil, out, err
		}
		describe(&t, pod, ns, where)
		found = append(found, t)
	}
	return found, out, nil
}

// Scope implements the engine's question what a percentage is of: the running
// pods of the namespace.
func (p *Pod) Scope(ctx context.Context) (int, error) {
	where, err := p.env.Kube.Cluster(p.Context)
	if err != nil {
		return 0, err
	}
	all, err := p.env.Kube.Pods(ctx, kube.Query{Cluster: where, Namespace: p.namespace()})
	n := 0
	for i := range all {
		if all[i].Running() {
			n++
		}
	}
	return n, err
}

func (p *Pod) namespace() string {
	switch p.Namespace {
	case "":
		return "default"
	case everywhere:
		return ""
	}
	return p.Namespace
}

// query is the part of what is asked for that the API server can answer.
func (p *Pod) query(where experiment.Cluster) kube.Query {
	q := kube.Query{Cluster: where, Namespace: p.namespace(), Fields: p.FieldSelector}
	if !p.Labels.Empty() {
		q.Labels = p.Labels.String()
	}
	if p.Node != "" {
		q.Fields = strings.TrimPrefix(q.Fields+",spec.nodeName="+fields.EscapeValue(p.Node), ",")
	}
	return q
}

func (p *Pod) matches(pod *kube.Pod) bool {
	return p.Matches(pod.Labels, pod.Name, pod.Namespace+"/"+pod.Name) && p.owned(pod) && p.hasImage(pod)
}

// owned asks for the pod's own controller, and for the one above it.
func (p *Pod) owned(pod *kube.Pod) bool {
	if p.Owner == "" {
		return true
	}
	return slices.ContainsFunc([]kube.Owner{pod.Owner, pod.Workload()}, func(o kube.Owner) bool {
		kind, name, _ := strings.Cut(p.Owner, "/")
		return strings.EqualFold(kind, o.Kind) && name == o.Name
	})
}

func (p *Pod) hasImage(pod *kube.Pod) bool {
	if p.Image == "" {
		return true
	}
	return slices.ContainsFunc(pod.Containers, func(c kube.Container) bool { return isOf(c.Image, p.Image) })
}

// isOf tells whether image is what is wanted: as it is, or without its tag or
// digest, or without its registry.
func isOf(image, want string) bool {
	if image == want {
		return true
	}
	whole, _, _ := strings.Cut(image, "@")
	last := whole[strings.LastIndex(whole, "/")+1:]
	bare := strings.TrimSuffix(whole, last) + strings.Split(last, ":")[0]
	for _, is := range []string{whole, bare} {
		if is == want || strings.HasSuffix(is, "/"+want) {
			return true
		}
	}
	return false
}

// String is the selector in words.
func (p *Pod) String() string {
	words := []string{p.Match.String()}
	add := func(name, value string) {
		if value != "" {
			words = append(words, name+" "+value)
		}
	}
	add("namespace", p.namespace())
	add("fields", p.FieldSelector)
	add("owner", p.Owner)
	add("node", p.Node)
	add("phase", p.Phase)
	add("image", p.Image)
	add("container", p.Container)
	add("context", p.Context)
	return strings.Join(words, ", ")
}
