package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

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
// often costs the API server nothing.
func (c *Client) Pods(ctx context.Context, q Query) ([]Pod, error) {
	one, err := c.conn(q.Cluster)
	if err != nil {
		return nil, err
	}
	key := podQuery{q.Namespace, q.Labels, q.Fields}
	if w := one.watch(key); w != nil {
		if pods, ok := w.pods(ctx); ok {
			return pods, nil
		}
	}
	list, err := one.list(ctx, key, metav1.ListOptions{})
	if err != nil {
		return nil, err
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
func (c *conn) list(ctx context.Context, key podQuery, o metav1.ListOptions) (*corev1.PodList, error) {
	all := &corev1.PodList{}
	for next := ""; ; {
		var part corev1.PodList
		err := c.ask(ctx, call{verb: "list", resource: "pods", namespace: key.namespace}, &part, func(q *rest.Request) {
			key.options(q)
			q.Param("limit", fmt.Sprint(page))
			if next != "" {
				q.Param("continue", next)
			} else if o.ResourceVersion != "" {
				q.Param("resourceVersion", o.ResourceVersion)
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

// podWatch keeps the pods of one query up to date.
type podWatch struct {
	conn   *conn
	key    podQuery
	store  cache.Store
	synced chan struct{} // closed once there is a first list
	once   sync.Once

	mu   sync.Mutex
	lost error // why it is not up to date
}

func newPodWatch(c *conn, key podQuery) *podWatch {
	w := &podWatch{conn: c, key: key, store: cache.NewStore(cache.MetaNamespaceKeyFunc), synced: make(chan struct{})}
	quiet := logr.Discard()
	r := cache.NewReflectorWithOptions(plain{&cache.ListWatch{
		ListWithContextFunc:  w.list,
		WatchFuncWithContext: w.watch,
	}}, &corev1.Pod{}, w.store, cache.ReflectorOptions{Name: "pods", Logger: &quiet})
	go r.RunWithContext(klog.NewContext(c.ends, quiet))
	return w
}

// plain is a list and watch that are asked for one after the other, so that
// pages are trimmed as they come.
type plain struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is client-go's way to ask for that.
func (plain) IsWatchListSemanticsUnSupported() bool { return true }

func (w *podWatch) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	list, err := w.conn.list(ctx, w.key, o)
	w.said(err)
	return list, err
}

func (w *podWatch) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	r := call{verb: "watch", resource: "pods", namespace: w.key.namespace}
	q, err := w.conn.request(r)
	if err != nil {
		return nil, err
	}
	w.key.options(q)
	q.Param("watch", "true").Param("resourceVersion", o.ResourceVersion).Param("allowWatchBookmarks", "true")
	if o.TimeoutSeconds != nil {
		q.Param("timeoutSeconds", fmt.Sprint(*o.TimeoutSeconds))
	}
	events, err := q.Watch(ctx)
	w.said(w.conn.explain(r, err))
	if err != nil {
		return nil, err
	}
	w.once.Do(func() { close(w.synced) }) // the list came before it, and is stored
	return watch.Filter(events, func(e watch.Event) (watch.Event, bool) {
		if p, ok := e.Object.(*corev1.Pod); ok {
			e.Object = trim(p)
		}
		return e, true
	}), nil
}

func (w *podWatch) said(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost = err
}

// pods returns what the watch knows, and whether that is up to date.
func (w *podWatch) pods(ctx context.Context) ([]Pod, bool) {
	select {
	case <-w.synced:
	case <-ctx.Done():
		return nil, false
	default: // listing once more is no slower than to wait for it
		return nil, false
	}
	w.mu.Lock()
	lost := w.lost
	w.mu.Unlock()
	if lost != nil {
		return nil, false
	}
	objects := w.store.List()
	pods := make([]Pod, 0, len(objects))
	for _, o := range objects {
		pods = append(pods, read(o.(*corev1.Pod)))
	}
	return pods, true
}
