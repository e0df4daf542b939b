package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube/kubetest"
)

// newNodeOfPods is a Deployment of two pods on the real node, which this is.
func newNodeOfPods(t *testing.T) *shopOfPods {
	api := kubetest.Connect(t)
	s := &shopOfPods{API: api, far: api.Node(t)}
	s.namespace = api.Namespace(t, nil)
	s.Workload(t, "Deployment", s.namespace, "web", s.far, 2)
	return s
}

// answers tells whether a pod answers by HTTP within a second.
func answers(address string) bool {
	c := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + address + ":8080/")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// count tells how many of the pods answer.
func (s *shopOfPods) count(t *testing.T) (n int) {
	for _, p := range s.Running(t, s.namespace, "web") {
		if answers(kubetest.Text(p, "status", "podIP")) {
			n++
		}
	}
	return n
}

// TestKubeNode has faults of the kernel on a pod of this node, felt while they
// are in force, and gone afterwards.
func TestKubeNode(t *testing.T) {
	s := newNodeOfPods(t)
	l := newLab(t)
	kubetest.Until(t, "both answer", func() bool { return s.count(t) == 2 })
	for name, fault := range map[string]string{
		"freeze":    "{type: freeze}",
		"partition": "{type: partition}",
		"latency":   "{type: latency, delay: 3s}",
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			c, _ := l.start(experiment.EventInjected, "run", l.file(s.action(fault, "      for: 4s\n"), "  recovery: {within: 1m}\n"))
			if n := s.count(t); n != 1 {
				t.Errorf("%d of 2 pods answer", n)
			}
			<-c.done
			if code := c.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
			}
			kubetest.Until(t, "both answer again", func() bool { return s.count(t) == 2 })
			l.clean()
		})
	}
	t.Run("burn.cpu", func(t *testing.T) {
		l.t = t
		o := l.expect(0, "run", l.file(s.action("{type: burn.cpu, load: 20}", "      for: 1s\n")))
		if !strings.Contains(o.stdout, "PASS") {
			t.Error(o.stdout)
		}
		l.clean()
	})
	t.Run("kill", func(t *testing.T) {
		l.t = t
		l.expect(0, "run", l.file(s.action("{type: kill}", ""), "  recovery: {within: 1m}\n"))
		kubetest.Until(t, "both answer again", func() bool { return s.count(t) == 2 })
		l.clean()
	})
}

// TestKubeNodeKilled kills the runner while a pod is partitioned.
func TestKubeNodeKilled(t *testing.T) {
	s := newNodeOfPods(t)
	l := newLab(t)
	kubetest.Until(t, "both answer", func() bool { return s.count(t) == 2 })
	c, _ := l.start(experiment.EventInjected, "run", l.file(s.action("{type: partition}", "      for: 1h\n")))
	if n := s.count(t); n != 1 {
		t.Errorf("%d of 2 pods answer", n)
	}
	killed := time.Now()
	_ = c.cmd.Process.Kill()
	kubetest.Until(t, "both answer again", func() bool { return s.count(t) == 2 })
	t.Logf("back within %s", time.Since(killed))
	l.clean()
}
