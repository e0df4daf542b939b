package kube

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/internal/kube/kubetest"
)

// TestKubeBack kills the API server twice, so that the watch is slow to try
// again, and changes pods once it is back: what is told of them is soon what the
// API's own list says, watch or not.
func TestKubeBack(t *testing.T) {
	api := kubetest.Connect(t)
	node, namespace := api.FarNode(t), api.Namespace(t, nil)
	pods := kubetest.Collection("Pod", namespace)
	add := func(name string) {
		api.Make(t, pods, kubetest.Object{"metadata": kubetest.Object{"name": name, "labels": kubetest.Object{"app": "web"}}, "spec": kubetest.PodSpec(node)})
	}
	add("web-0")
	c := New()
	t.Cleanup(c.Close)
	where, err := c.Cluster("")
	if err != nil {
		t.Fatal(err)
	}
	told := func() []string {
		pods, err := c.Pods(t.Context(), Query{Cluster: where, Namespace: namespace})
		if err != nil {
			return []string{err.Error()}
		}
		return running(pods)
	}
	listed := func() (names []string) {
		for _, p := range api.Running(t, namespace, "web") {
			names = append(names, kubetest.Text(p, "metadata", "name"))
		}
		slices.Sort(names)
		return names
	}
	look := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			told()
		}
	}
	watched := func() bool { told(); return isFresh(t, c, where, podQuery{namespace: namespace}) }
	kubetest.Until(t, "the pod is watched", watched)
	api.Away(t, func() { look(5 * time.Second) })
	kubetest.Until(t, "the pod is watched again", watched)
	api.Away(t, func() { look(time.Second) })
	add("web-1")
	add("web-2")
	api.Remove(t, pods+"/web-0")
	want := []string{"web-1", "web-2"}
	kubetest.Until(t, "the API's list has it", func() bool { return cmp.Equal(want, listed()) })
	const slack = 3 * time.Second // a stream that is live may be that late on a busy machine
	look(slack)
	if d := cmp.Diff(want, told()); d != "" {
		t.Errorf("%s after the list (-want +got)\n%s", slack, d)
	}
	kubetest.Until(t, "they are watched again", watched)
	if d := cmp.Diff(want, told()); d != "" {
		t.Errorf("the watch (-want +got)\n%s", d)
	}
}

func running(pods []Pod) (names []string) {
	for _, p := range pods {
		if p.Running() {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}
