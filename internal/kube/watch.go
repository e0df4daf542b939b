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
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// quiet is for how long a watch that hears nothing is believed: nothing may have
// happened, or its connection is dead and nobody has noticed. Then the API's own
// list says which.
const quiet = 10 * time.Second

// podWatch keeps the pods of one query up to date. It is a shortcut only: what
// it knows is told while its stream is open and was heard of a moment ago.
type podWatch struct {
	conn  *conn
	key   podQuery
	store cache.Store

	mu    sync.Mutex
	live  watch.Interface // the stream that is open, nil for none
	heard time.Time       // when the store was last known to be as the API's list is
}

func newPodWatch(c *conn, key podQuery) *podWatch {
	w := &podWatch{conn: c, key: key, store: cache.NewStore(cache.MetaNamespaceKeyFunc)}
	silent := logr.Discard()
	r := cache.NewReflectorWithOptions(plain{&cache.ListWatch{
		ListWithContextFunc:  w.list,
		WatchFuncWithContext: w.watch,
	}}, &corev1.Pod{}, w.store, cache.ReflectorOptions{
		Name: "pods", Logger: &silent,
		// client-go's own goes up to a minute, and stays there for two once all is well
		Backoff: &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 5 * time.Second},
	})
	go r.RunWithContext(klog.NewContext(c.ends, silent))
	return w
}

// plain is a list and watch that are asked for one after the other, so that
// pages are trimmed as they come.
type plain struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is client-go's way to ask for that.
func (plain) IsWatchListSemanticsUnSupported() bool { return true }

// list asks for the pods as they are now. The version that client-go would have
// them no older than is left out: together with a limit it means exactly that
// version to an API server, which after a broken watch is the past.
func (w *podWatch) list(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	return w.conn.list(ctx, w.key)
}

// watch opens a stream. It begins where the list before it, or the last stream,
// ended; whether that is too long ago the API server may say in the stream only.
func (w *podWatch) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	q, err := w.conn.request(call{verb: "watch", resource: "pods", namespace: w.key.namespace})
	if err != nil {
		return nil, err
	}
	w.key.options(q)
	q.Param("watch", "true").Param("resourceVersion", o.ResourceVersion).Param("allowWatchBookmarks", "true")
	if o.TimeoutSeconds != nil {
		q.Param("timeoutSeconds", fmt.Sprint(*o.TimeoutSeconds))
	}
	stream, err := q.Watch(ctx)
	if err != nil {
		return nil, err
	}
	events := make(chan watch.Event)
	out := watch.NewProxyWatcher(events)
	w.mu.Lock()
	w.live, w.heard = stream, time.Time{}
	w.mu.Unlock()
	go func() {
		defer close(events)
		defer w.ended(stream)
		w.relay(stream, events, out.StopChan())
	}()
	return out, nil
}

// relay hands on what a stream tells, trimmed, until it ends, is stopped, or
// tells of an error.
func (w *podWatch) relay(stream watch.Interface, to chan<- watch.Event, stop <-chan struct{}) {
	for {
		var e watch.Event
		var more bool
		select {
		case e, more = <-stream.ResultChan():
		case <-stop:
		}
		if !more {
			return
		}
		if p, ok := e.Object.(*corev1.Pod); ok {
			e.Object = trim(p)
		}
		if e.Type == watch.Error {
			w.ended(stream)
		}
		select {
		case to <- e:
		case <-stop:
			return
		}
		w.hear(stream)
	}
}

// hear notes that a stream has told something.
func (w *podWatch) hear(stream watch.Interface) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live == stream {
		w.heard = time.Now()
	}
}

func (w *podWatch) ended(stream watch.Interface) {
	stream.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.live == stream {
		w.live = nil
	}
}

// pods returns what the watch knows, and whether that is up to date.
func (w *podWatch) pods() ([]Pod, bool) {
	w.mu.Lock()
	fresh := w.live != nil && time.Since(w.heard) < quiet
	w.mu.Unlock()
	if !fresh {
		return nil, false
	}
	objects := w.store.List()
	pods := make([]Pod, 0, len(objects))
	for _, o := range objects {
		pods = append(pods, read(o.(*corev1.Pod)))
	}
	return pods, true
}

// compare believes a quiet watch again where it knows what the API's list says.
func (w *podWatch) compare(list *corev1.PodList) {
	w.mu.Lock()
	stream := w.live
	w.mu.Unlock()
	if stream == nil || len(list.Items) != len(w.store.ListKeys()) {
		return
	}
	for i := range list.Items {
		known, ok, err := w.store.Get(&list.Items[i])
		if err != nil || !ok || known.(*corev1.Pod).ResourceVersion != list.Items[i].ResourceVersion {
			return
		}
	}
	w.hear(stream)
}
