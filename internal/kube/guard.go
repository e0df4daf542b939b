package kube

import (
	"context"
	"fmt"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// protectLabel keeps a pod, or all of a namespace, from being touched where its
// value is "true", as proc.ProtectLabel does.
const protectLabel = "simian.dev/protect"

// systems are the namespaces of the cluster's own pods.
func systems() []string { return []string{"kube-system", "kube-public", "kube-node-lease"} }

// Guard knows which pods are protected.
type Guard struct {
	Client *Client
	Where  experiment.Cluster
	All    bool // pods of all namespaces are asked about: they are read at once

	known map[string]Namespace
}

// Protects returns a pod's namespace, and why it must not be touched, "" where
// it may. A namespace that cannot be read is an error: it may be protected.
func (g *Guard) Protects(ctx context.Context, pod *Pod) (Namespace, string, error) {
	ns, err := g.namespace(ctx, pod.Namespace)
	if err != nil {
		return ns, "", fmt.Errorf("tell whether namespace %s is protected: %w", pod.Namespace, err)
	}
	switch {
	case slices.Contains(systems(), ns.Name):
		return ns, "it is of the cluster itself (namespace " + ns.Name + ")", nil
	case pod.Mirror():
		return ns, "its node runs it from a file, as it does a control plane", nil
	case ns.Says(protectLabel):
		return ns, fmt.Sprintf("namespace %s has %s=true", ns.Name, protectLabel), nil
	case pod.Labels[protectLabel] == "true", pod.Annotations[protectLabel] == "true":
		return ns, "it has " + protectLabel + "=true", nil
	}
	return ns, "", nil
}

func (g *Guard) namespace(ctx context.Context, name string) (Namespace, error) {
	if !g.All {
		return g.Client.Namespace(ctx, g.Where, name)
	}
	if g.known == nil {
		var err error
		if g.known, err = g.Client.Namespaces(ctx, g.Where); err != nil {
			return Namespace{}, err
		}
	}
	if ns, ok := g.known[name]; ok {
		return ns, nil
	}
	return g.Client.Namespace(ctx, g.Where, name)
}
