package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/simianhq/simian/experiment"
)

// Namespace is what Simian reads of a namespace.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}

// Says tells whether a label or an annotation of the namespace is "true".
func (n Namespace) Says(what string) bool {
	return n.Labels[what] == "true" || n.Annotations[what] == "true"
}

type knownNamespace struct {
	Namespace
	at time.Time
}

// namespaceFor is for how long a namespace is taken to be as it was read.
const namespaceFor = 5 * time.Second

// Namespace reads a namespace.
func (c *Client) Namespace(ctx context.Context, where experiment.Cluster, name string) (Namespace, error) {
	one, err := c.conn(where)
	if err != nil {
		return Namespace{}, err
	}
	one.mu.Lock()
	known, ok := one.namespaces[name]
	one.mu.Unlock()
	if ok && time.Since(known.at) < namespaceFor {
		return known.Namespace, nil
	}
	var n corev1.Namespace
	if err := one.ask(ctx, call{verb: "get", resource: "namespaces", name: name}, &n, nil); err != nil {
		return Namespace{}, err
	}
	return one.know(&n), nil
}

// Namespaces reads all namespaces.
func (c *Client) Namespaces(ctx context.Context, where experiment.Cluster) (map[string]Namespace, error) {
	one, err := c.conn(where)
	if err != nil {
		return nil, err
	}
	all := map[string]Namespace{}
	for next := ""; ; {
		var list corev1.NamespaceList
		err := one.ask(ctx, call{verb: "list", resource: "namespaces"}, &list, func(q *rest.Request) {
			q.Param("limit", fmt.Sprint(page)).Param("continue", next)
		})
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			all[list.Items[i].Name] = one.know(&list.Items[i])
		}
		if next = list.Continue; next == "" {
			return all, nil
		}
	}
}

func (c *conn) know(n *corev1.Namespace) Namespace {
	found := Namespace{n.Name, n.Labels, n.Annotations}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.namespaces[n.Name] = knownNamespace{found, time.Now()}
	return found
}
