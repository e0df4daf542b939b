package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube/kubetest"
)

// shopOfPods is a namespace with a Deployment of three pods on a node that
// Simian is not on.
type shopOfPods struct {
	*kubetest.API
	namespace, far string
}

func newShopOfPods(t *testing.T) *shopOfPods {
	api := kubetest.Connect(t)
	s := &shopOfPods{API: api, far: api.FarNode(t)}
	s.namespace = api.Namespace(t, nil)
	s.Workload(t, "Deployment", s.namespace, "web", s.far, 3)
	return s
}

func (s *shopOfPods) action(fault, more string) string {
	return fmt.Sprintf("    - fault: %s\n      target: {type: pod, namespace: %s, owner: Deployment/web}\n%s", fault, s.namespace, more)
}

func (s *shopOfPods) replicas(t *testing.T) string {
	return kubetest.Text(s.Get(t, kubetest.Collection("Deployment", s.namespace)+"/web"), "spec", "replicas")
}

// TestKubeRuns runs each fault of the API from a file: injected, in force, and
// as many pods run at its end as before.
func TestKubeRuns(t *testing.T) {
	s := newShopOfPods(t)
	l := newLab(t)
	for name, action := range map[string]string{
		"delete":  s.action("{type: delete}", ""),
		"evict":   s.action("{type: evict, grace: 1s}", ""),
		"rollout": s.action("{type: rollout}", ""),
		"scale":   s.action("{type: scale, replicas: 0}", "      for: 1s\n"),
		"cordon":  s.action("{type: cordon}", "      for: 500ms\n"),
		"drain":   s.action("{type: drain}", "      for: 500ms\n"),
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			o := l.expect(0, "run", l.file(action, "  recovery: {within: 1m}\n"))
			if !strings.Contains(o.stdout, "PASS") {
				t.Errorf("%s", o.stdout)
			}
			l.clean()
			kubetest.Until(t, "three pods run, and a rollout's extra one is gone", func() bool { return len(s.Running(t, s.namespace, "web")) == 3 })
			if node := s.Get(t, "/api/v1/nodes/"+s.far); kubetest.At(node, "spec", "unschedulable") != nil {
				t.Error("the node is cordoned")
			}
		})
	}
}

// TestKubeElsewhere has a fault of the kernel refused on a pod of another node.
func TestKubeElsewhere(t *testing.T) {
	s := newShopOfPods(t)
	l := newLab(t)
	for _, fault := range []string{"{type: freeze}", "{type: kill}", "{type: latency, delay: 10ms}", "{type: burn.cpu, load: 10}"} {
		o := l.expect(experiment.Errored.ExitCode(), "plan", l.file(s.action(fault, "      for: 1s\n")))
		want := "it has no process that Simian can reach from here (it is on node " + s.far + "): this fault needs Simian on that node"
		if !strings.Contains(o.stderr, want) || !strings.Contains(o.stderr, "pod "+s.namespace+"/web-") {
			t.Errorf("%s: %s", fault, o.stderr)
		}
	}
}

// TestKubeProtected leaves alone what a namespace's label protects, and the
// cluster's own.
func TestKubeProtected(t *testing.T) {
	s := newShopOfPods(t)
	l := newLab(t)
	namespace := "/api/v1/namespaces/" + s.namespace
	for _, place := range []string{"labels", "annotations"} {
		s.Must(t, http.MethodPatch, namespace, kubetest.Object{"metadata": kubetest.Object{place: kubetest.Object{"simian.dev/protect": "true"}}})
		o := l.expect(2, "plan", l.file(s.action("{type: delete}", "")))
		if !strings.Contains(o.stderr, "namespace "+s.namespace+" has simian.dev/protect=true") {
			t.Errorf("%s: %s", place, o.stderr)
		}
		s.Must(t, http.MethodPatch, namespace, kubetest.Object{"metadata": kubetest.Object{place: kubetest.Object{"simian.dev/protect": nil}}})
	}
	l.expect(0, "plan", l.file(s.action("{type: delete}", "")))
	s.Workload(t, "Deployment", "kube-system", "dns", s.far, 1)
	o := l.expect(2, "plan", l.file("    - fault: {type: delete}\n      target: {type: pod, namespace: kube-system, owner: Deployment/dns}\n"))
	if !strings.Contains(o.stderr, "it is of the cluster itself (namespace kube-system)") {
		t.Error(o.stderr)
	}
}

// TestKubeTargets lists pods of all namespaces, with what protects them.
func TestKubeTargets(t *testing.T) {
	s := newShopOfPods(t)
	l := newLab(t)
	kept := s.Namespace(t, map[string]string{"simian.dev/protect": "true"})
	s.Workload(t, "Deployment", kept, "db", s.far, 1)
	o := l.expect(0, "targets", "pod", "-o", "json")
	var rows []experiment.Listed
	if err := json.Unmarshal([]byte(o.stdout), &rows); err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, row := range rows {
		if row.Kind == "pod" {
			found[row.Workload+": "+row.Out]++
		}
	}
	for row, want := range map[string]int{
		"Deployment " + s.namespace + "/web: ":                                                      3,
		"Deployment " + kept + "/db: protected: namespace " + kept + " has simian.dev/protect=true": 1,
	} {
		if found[row] != want {
			t.Errorf("%d of %q are listed: %s", found[row], row, o.stdout)
		}
	}
}

// TestKubeKilled kills the runner while a Deployment is scaled to nothing: the
// guardian scales it back.
func TestKubeKilled(t *testing.T) {
	s := newShopOfPods(t)
	l := newLab(t)
	c, _ := l.start(experiment.EventInjected, "run", l.file(s.action("{type: scale, replicas: 0}", "      for: 1h\n")))
	if n := s.replicas(t); n != "0" {
		t.Fatalf("it is to have %s pods", n)
	}
	_ = c.cmd.Process.Kill()
	kubetest.Until(t, "the guardian has scaled it back", func() bool { return s.replicas(t) == "3" })
	kubetest.Until(t, "its pods run", func() bool { return len(s.Running(t, s.namespace, "web")) == 3 })
	l.clean()
}

// TestKubeAway has the API server go away in the midst of a run, and come back
// after its action's end: the undo is tried until it works, and the run sees
// that as many pods run as before.
func TestKubeAway(t *testing.T) {
	s := newShopOfPods(t)
	l := newLab(t)
	for name, c := range map[string]struct {
		action string
		struck func(t *testing.T) bool
	}{
		"cordon": {s.action("{type: cordon}", "      for: 2s\n"), func(t *testing.T) bool {
			return kubetest.At(s.Get(t, "/api/v1/nodes/"+s.far), "spec", "unschedulable") != nil
		}},
		"scale": {s.action("{type: scale, replicas: 1}", "      for: 2s\n"), func(t *testing.T) bool { return s.replicas(t) != "3" }},
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			run, _ := l.start(experiment.EventInjected, "run", l.file(c.action, "  recovery: {within: 3m}\n"))
			if !c.struck(t) {
				t.Error("nothing was changed")
			}
			s.Away(t, func() { time.Sleep(4 * time.Second) })
			<-run.done
			if code := run.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit %d\n%s%s", code, run.out.String(), run.err.String())
			}
			if c.struck(t) {
				t.Error("it was not put back")
			}
			l.clean()
		})
	}
}

// TestKubeShop has the API server take the shop's manifests, and run them, all
// but their program.
func TestKubeShop(t *testing.T) {
	api := kubetest.Connect(t)
	made := api.Manifests(t, "../../examples/shop/kubernetes/shop.yaml")
	if len(made) != 15 {
		t.Errorf("%d objects were made", len(made))
	}
	l := newLab(t)
	kubetest.Until(t, "the plan says that its pod does not run", func() bool {
		o := l.expect(2, "plan", "../../examples/shop/kubernetes/recommendations-deleted.yaml")
		return strings.Contains(o.stderr, "no pod that runs is") && strings.Contains(o.stderr, "shop/recommendations-")
	})
}
