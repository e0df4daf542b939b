package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/simianhq/simian/experiment"
)

// Query says which pods: of a namespace ("" for all), with labels and fields
// in the API's syntax.
type Query struct {
	Cluster   experiment.Cluster
	Namespace string
	Labels    string
	Fields    string
}

type podQuery struct{ namespace, labels, fields string }

// page is how many pods are asked for at a time. A page is trimmed before the
// next is asked for.
const page = 500

// Pods returns the pods that q names. Asked for the first time they are listed;
// asked again, they are watched from then on (an informer), so that to look
// often costs the API server next to nothing. Where the watch is not known to be
// up to date they are listed nevertheless.
func (c *Client) Pods(ctx context.Context, q Query) ([]Pod, error) {
	one, err := c.conn(q.Cluster)
	if err != nil {
		return nil, err
	}
	key := podQuery{q.Namespace, q.Labels, q.Fields}
	w := one.watch(key)
	if w != nil {
		if pods, ok := w.pods(); ok {
			return pods, nil
		}
	}
	list, err := one.list(ctx, key)
	if err != nil {
		return nil, err
	}
	if w != nil {
		w.compare(list)
	}
	pods := make([]Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = read(&list.Items[i])
	}
	return pods, nil
}

// staleAfterWrite is for how long after a change of ours nothing is taken from a
// watch: it may not have heard of it yet.
const staleAfterWrite = time.Second

// watch returns the watch of a query that is asked for again, nil where it is
// the first time, or where something was changed just now.
func (c *conn) watch(key podQuery) *podWatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked[key] {
		c.asked[key] = true
		return nil
	}
	w := c.watches[key]
	if w == nil {
		w = newPodWatch(c, key)
		c.watches[key] = w
	}
	if time.Since(c.wrote) < staleAfterWrite {
		return nil
	}
	return w
}

func (k podQuery) options(q *rest.Request) {
	if k.labels != "" {
		q.Param("labelSelector", k.labels)
	}
	if k.fields != "" {
		q.Param("fieldSelector", k.fields)
	}
}

// list lists all pods of a query, page by page, trimmed.
func (c *conn) list(ctx context.Context, key podQuery) (*corev1.PodList, error) {
	all := &corev1.PodList{}
	for next := ""; ; {
		var part corev1.PodList
		err := c.ask(ctx, call{verb: "list", resource: "pods", namespace: key.namespace}, &part, func(q *rest.Request) {
			key.options(q)
			q.Param("limit", fmt.Sprint(page))
			if next != "" {
				q.Param("continue", next)
			}
		})
		if err != nil {
			return nil, err
		}
		for i := range part.Items {
			all.Items = append(all.Items, *trim(&part.Items[i]))
		}
		if next = part.Continue; next == "" {
			all.ListMeta = metav1.ListMeta{ResourceVersion: part.ResourceVersion}
			return all, nil
		}
	}
}
