package kube

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube/kubetest"
)

// TestKubeMany has ten thousand pods: asked again and again, what is kept of
// them fits into 100 MB, and is told within a second.
func TestKubeMany(t *testing.T) {
	const many = 10_000
	api := kubetest.Connect(t)
	node := kubetest.Name("many")
	api.MakeNode(t, node)
	namespace := api.Namespace(t, nil)
	fill(t, api, namespace, node, many)

	c := New()
	t.Cleanup(c.Close)
	where, err := c.Cluster("")
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	q := Query{Cluster: where, Namespace: namespace, Labels: "app=many"}
	var pods []Pod
	ask := func() time.Duration {
		start := time.Now()
		if pods, err = c.Pods(t.Context(), q); err != nil || len(pods) != many {
			t.Fatalf("%d pods, %v", len(pods), err)
		}
		return time.Since(start)
	}
	first := ask()
	ask()
	kubetest.Until(t, "they are watched", func() bool {
		ask()
		return isFresh(t, c, where, podQuery{namespace, "app=many", ""})
	})
	again := ask()
	used := heap() - before
	runtime.KeepAlive(pods)
	t.Logf("first list %s, then %s; %d MB", first.Round(time.Millisecond), again.Round(time.Millisecond), used>>20)
	if again > time.Second {
		t.Errorf("it takes %s to tell what is known", again)
	}
	if used > 100<<20 {
		t.Errorf("%d MB are kept", used>>20)
	}
}

// isFresh tells whether a query, asked twice at least, is answered by its watch.
func isFresh(t *testing.T, c *Client, where experiment.Cluster, key podQuery) bool {
	t.Helper()
	one, err := c.conn(where)
	if err != nil {
		t.Fatal(err)
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	w := one.watches[key]
	if w == nil {
		return false
	}
	_, fresh := w.pods()
	return fresh
}

// heap is what is in use once what is not is gone.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill makes many pods, several at a time.
func fill(t *testing.T, api *kubetest.API, namespace, node string, many int) {
	t.Helper()
	next, errs := make(chan int), make(chan error, 16)
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			for n := range next {
				o := kubetest.Object{
					"metadata": kubetest.Object{"name": "many-" + strconv.Itoa(n), "labels": kubetest.Object{"app": "many"}},
					"spec":     kubetest.PodSpec(node),
				}
				if _, _, err := api.Try(http.MethodPost, kubetest.Collection("Pod", namespace), o); err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for n := range many {
		next <- n
	}
	close(next)
	wg.Wait()
	t.Cleanup(func() { // at once: a namespace that goes takes them one by one
		_, _, _ = api.Try(http.MethodDelete, kubetest.Collection("Pod", namespace), kubetest.Object{"gracePeriodSeconds": 0})
	})
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}
