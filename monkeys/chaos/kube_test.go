package chaos

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/kube/kubetest"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets/pod"
)

// cluster is a namespace of a real cluster, and a node without a machine.
type cluster struct {
	*kubetest.API
	client         *kube.Client
	namespace, far string
}

func newCluster(t *testing.T) *cluster {
	api := kubetest.Connect(t)
	client := kube.New()
	t.Cleanup(client.Close)
	c := &cluster{API: api, client: client, far: api.FarNode(t)}
	c.namespace = api.Namespace(t, nil)
	return c
}

// target makes a workload of pods on the far node, and returns one of them.
func (c *cluster) target(t testing.TB, kind string, replicas int) experiment.Target {
	t.Helper()
	name := kubetest.Name("web")
	c.Workload(t, kind, c.namespace, name, c.far, replicas)
	return c.pods(t, kind+"/"+name)[0]
}

// pods selects the pods of a workload.
func (c *cluster) pods(t testing.TB, owner string) []experiment.Target {
	t.Helper()
	s := pod.New(pod.Env{FS: proc.Host(), Kube: c.client})().(*pod.Pod)
	s.Namespace, s.Owner = c.namespace, owner
	var found []experiment.Target
	kubetest.Until(t, "a watch has heard of "+owner, func() bool {
		var err error
		if found, err = s.Select(t.Context()); err != nil && !errors.Is(err, experiment.ErrNoMatch) {
			t.Fatal(err)
		}
		return err == nil
	})
	return found
}

// text is an object's part, as the API server tells it.
func (c *cluster) text(t testing.TB, path string, parts ...[]any) string {
	o := c.Get(t, path)
	var all []any
	for _, part := range parts {
		all = append(all, kubetest.At(o, part...))
	}
	line, _ := json.Marshal(all)
	return string(line)
}

func (c *cluster) podPath(t experiment.Target) string {
	return kubetest.Collection("Pod", c.namespace) + "/" + t.Object.Name
}

// replace has another pod of the same name come.
func (c *cluster) replace(t testing.TB, target experiment.Target) {
	t.Helper()
	c.Remove(t, c.podPath(target))
	kubetest.Until(t, "another "+target.Name+" is there", func() bool {
		now := c.Get(t, c.podPath(target))
		return now != nil && kubetest.Text(now, "metadata", "uid") != target.Object.UID && kubetest.Text(now, "status", "phase") == "Running"
	})
}

func TestKubePodConformance(t *testing.T) {
	c := newCluster(t)
	second := experiment.Duration(time.Second)
	for name, fault := range map[string]experiment.Fault{
		"delete":             &Delete{kube: c.client},
		"delete in a second": &Delete{Grace: &second, kube: c.client},
		"evict":              &Evict{kube: c.client},
	} {
		t.Run(name, func(t *testing.T) {
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: c.client.Ops(), NoUndo: true,
				Target:   func(t testing.TB) experiment.Target { return c.target(t, "StatefulSet", 1) },
				Snapshot: func(target experiment.Target) string { return c.same(t, target) },
				Gone:     c.replace,
			})
		})
	}
}

// same tells whether a pod is that one still, and stays.
func (c *cluster) same(t testing.TB, target experiment.Target) string {
	now := c.Get(t, c.podPath(target))
	if kubetest.Text(now, "metadata", "uid") != target.Object.UID || kubetest.At(now, "metadata", "deletionTimestamp") != nil {
		return "has left"
	}
	return "is there"
}

func TestKubeScaleConformance(t *testing.T) {
	c := newCluster(t)
	none := 0
	for name, fault := range map[string]*Scale{"to none": {Replicas: &none}, "up": {By: 2}} {
		for _, kind := range []string{"Deployment", "StatefulSet", "ReplicaSet"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				fault := *fault
				fault.kube = c.client
				path := func(target experiment.Target) string {
					return kubetest.Collection(kind, c.namespace) + "/" + target.Workload[strings.LastIndex(target.Workload, "/")+1:]
				}
				experimenttest.Fault(t, experimenttest.FaultCase{
					Fault: &fault, Ops: c.client.Ops(),
					Target:   func(t testing.TB) experiment.Target { return c.target(t, kind, 1) },
					Snapshot: func(target experiment.Target) string { return c.text(t, path(target), []any{"spec", "replicas"}) },
					Gone: func(t testing.TB, target experiment.Target) {
						was := c.Get(t, path(target))
						c.Remove(t, path(target))
						delete(was["metadata"].(kubetest.Object), "uid")
						delete(was["metadata"].(kubetest.Object), "resourceVersion")
						delete(was, "status")
						kubetest.Until(t, "it can be made again", func() bool {
							status, _, _ := c.Try(http.MethodPost, kubetest.Collection(kind, c.namespace), was)
							return status == http.StatusCreated
						})
					},
				})
			})
		}
	}
}

func TestKubeRolloutConformance(t *testing.T) {
	c := newCluster(t)
	for _, kind := range []string{"Deployment", "StatefulSet"} {
		t.Run(kind, func(t *testing.T) {
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: &Rollout{kube: c.client}, Ops: c.client.Ops(), NoUndo: true,
				Target: func(t testing.TB) experiment.Target { return c.target(t, kind, 1) },
				Snapshot: func(target experiment.Target) string {
					path := kubetest.Collection(kind, c.namespace) + "/" + target.Workload[strings.LastIndex(target.Workload, "/")+1:]
					return c.text(t, path, []any{"spec", "template", "metadata", "annotations"})
				},
			})
		})
	}
}

func TestKubeNodeConformance(t *testing.T) {
	c := newCluster(t)
	for name, fault := range map[string]experiment.Fault{"cordon": &Cordon{kube: c.client}, "drain": &Drain{kube: c.client}} {
		t.Run(name, func(t *testing.T) {
			node := func(target experiment.Target) string { return "/api/v1/nodes/" + target.Object.Node }
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: c.client.Ops(),
				Target: func(t testing.TB) experiment.Target { // each on a node of its own
					own := *c
					own.far = c.FarNode(t)
					return own.target(t, "Deployment", 2)
				},
				Snapshot: func(target experiment.Target) string {
					return c.text(t, node(target), []any{"spec", "unschedulable"}, []any{"metadata", "annotations", "simian.dev/cordoned-by"})
				},
			})
		})
	}
}

// TestKubeDrainSpares leaves a pod on its node that is protected.
func TestKubeDrainSpares(t *testing.T) {
	c := newCluster(t)
	own := *c
	own.far = c.FarNode(t)
	target, other := own.target(t, "Deployment", 2), own.target(t, "StatefulSet", 2)
	c.Must(t, http.MethodPatch, c.podPath(other), kubetest.Object{"metadata": kubetest.Object{"labels": kubetest.Object{"simian.dev/protect": "true"}}})
	steps, err := (&Drain{kube: c.client}).Plan(t.Context(), "abcd23", target)
	if err != nil {
		t.Fatal(err)
	}
	do := steps[0].Do.(*kube.Drain)
	for _, p := range do.Pods {
		if p.UID == other.Object.UID {
			t.Errorf("%s is to leave", other.Name)
		}
	}
	if notes := strings.Join(do.Notes(), "\n"); !strings.Contains(notes, other.Name[strings.LastIndex(other.Name, "/")+1:]+": it has simian.dev/protect=true") {
		t.Errorf("the plan says %s", notes)
	}
}

// TestKubeBudget has a PodDisruptionBudget refuse: no pod leaves, and the error
// names it.
func TestKubeBudget(t *testing.T) {
	c := newCluster(t)
	target := c.target(t, "StatefulSet", 2)
	app := target.Labels["app"]
	c.Make(t, kubetest.Collection("PodDisruptionBudget", c.namespace), kubetest.Object{
		"metadata": kubetest.Object{"name": "all-of-it"},
		"spec":     kubetest.Object{"minAvailable": 2, "selector": kubetest.Object{"matchLabels": kubetest.Object{"app": app}}},
	})
	budget := kubetest.Collection("PodDisruptionBudget", c.namespace) + "/all-of-it"
	kubetest.Until(t, "the budget has counted its pods", func() bool {
		return kubetest.Text(c.Get(t, budget), "status", "currentHealthy") == "2"
	})
	for name, fault := range map[string]experiment.Fault{"evict": &Evict{kube: c.client}, "drain": &Drain{kube: c.client}} {
		steps, err := fault.Plan(t.Context(), "abcd23", target)
		if err != nil {
			t.Fatal(err)
		}
		err = steps[0].Do.Apply(bounded(t, 4*time.Second))
		if !errors.Is(err, experiment.ErrBusy) || !strings.Contains(err.Error(), "a PodDisruptionBudget refuses: The disruption budget all-of-it needs 2 healthy pods and has 2 currently") {
			t.Errorf("%s: %v", name, err)
		}
		if steps[0].Undo != nil {
			if err := steps[0].Undo.Apply(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if c.same(t, target) != "is there" {
			t.Errorf("%s: %s has left", name, target.Name)
		}
	}
}

// TestKubeSuperseded has somebody else scale meanwhile: that stays.
func TestKubeSuperseded(t *testing.T) {
	c := newCluster(t)
	target := c.target(t, "Deployment", 1)
	steps, err := (&Scale{By: 1, kube: c.client}).Plan(t.Context(), "abcd23", target)
	if err != nil {
		t.Fatal(err)
	}
	if err := steps[0].Do.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := kubetest.Collection("Deployment", c.namespace) + "/" + target.Labels["app"]
	c.Must(t, http.MethodPatch, path, kubetest.Object{"spec": kubetest.Object{"replicas": 5}})
	var superseded *experiment.SupersededError
	if err := steps[0].Undo.Apply(t.Context()); !errors.As(err, &superseded) || superseded.Present != "5" || superseded.Wrote != "2" {
		t.Errorf("the undo gives %v", err)
	}
	if got := kubetest.Text(c.Get(t, path), "spec", "replicas"); got != "5" {
		t.Errorf("it is to have %s pods", got)
	}
}

// TestKubeExpired shows a token that the API server does not accept.
func TestKubeExpired(t *testing.T) {
	c := newCluster(t)
	t.Setenv("KUBECONFIG", c.Kubeconfig(t, "expired"))
	err := c.once(t, nil)
	if err == nil || !strings.Contains(err.Error(), "the API server at https://127.0.0.1:6443 does not accept these credentials: the token or certificate has expired, or was revoked") {
		t.Errorf("got %v", err)
	}
}
