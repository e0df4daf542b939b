package chaos

import (
	"context"
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
	found, err := s.Select(t.Context())
	if err != nil {
		t.Fatal(err)
	}
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

// TestKubeRoles has each fault done by an account that may do what
// examples/kubernetes/rbac says, and nothing else; and, verb by verb, less.
func TestKubeRoles(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		fault func(*kube.Client) experiment.Fault
	}{
		"read":    {[]string{"read"}, nil},
		"delete":  {[]string{"read", "delete"}, func(k *kube.Client) experiment.Fault { return &Delete{kube: k} }},
		"evict":   {[]string{"read", "evict"}, func(k *kube.Client) experiment.Fault { return &Evict{kube: k} }},
		"scale":   {[]string{"read", "scale"}, func(k *kube.Client) experiment.Fault { return &Scale{By: 1, kube: k} }},
		"rollout": {[]string{"read", "rollout"}, func(k *kube.Client) experiment.Fault { return &Rollout{kube: k} }},
		"cordon":  {[]string{"read", "cordon"}, func(k *kube.Client) experiment.Fault { return &Cordon{kube: k} }},
		"drain":   {[]string{"read", "drain"}, func(k *kube.Client) experiment.Fault { return &Drain{kube: k} }},
	} {
		t.Run(name, func(t *testing.T) { roles(t, c.files, c.fault) })
	}
}

func roles(t *testing.T, files []string, fault func(*kube.Client) experiment.Fault) {
	c := newCluster(t)
	c.Workload(t, "Deployment", c.namespace, "web", c.far, 1)
	account, token := c.Account(t, c.namespace)
	t.Setenv("KUBECONFIG", c.Kubeconfig(t, token))
	for _, file := range files {
		path, role := c.Role(t, "../../examples/kubernetes/rbac/"+file+".yaml", c.namespace, account)
		for _, missing := range verbs(role) {
			if !wants(files, file, missing) {
				continue
			}
			c.Must(t, http.MethodPatch, path, kubetest.Object{"rules": missing.rules})
			want := "it takes the verb " + missing.verb + " on " + missing.resource
			kubetest.Until(t, "an error says: "+want, func() bool {
				err := c.once(t, fault)
				return err != nil && strings.Contains(err.Error(), want) && strings.Contains(err.Error(), "not allowed to system:serviceaccount:"+c.namespace+":"+account)
			})
		}
		c.Must(t, http.MethodPatch, path, kubetest.Object{"rules": role["rules"]})
	}
	kubetest.Until(t, "it works with these roles", func() bool {
		err := c.once(t, fault)
		if err != nil && !strings.Contains(err.Error(), "not allowed") {
			t.Fatal(err)
		}
		return err == nil
	})
}

// wants tells whether the last of files needs a verb: a watch that may not be is
// a list each time; a single pod is read by who deletes it; what one role lacks
// may be in the other.
func wants(files []string, file string, missing lesser) bool {
	last := files[len(files)-1]
	switch missing.verb + " " + missing.resource {
	case "watch pods":
		return false
	case "get pods":
		return last == "delete" || last == "evict"
	}
	return file == last || last != "drain"
}

// once selects, plans, applies, verifies and takes back, as a client that
// connects anew.
func (c *cluster) once(t *testing.T, fault func(*kube.Client) experiment.Fault) error {
	k := kube.New()
	defer k.Close()
	s := pod.New(pod.Env{FS: proc.Host(), Kube: k})().(*pod.Pod)
	s.Namespace, s.Owner = c.namespace, "Deployment/web"
	found, err := s.Select(t.Context())
	if errors.Is(err, experiment.ErrNoMatch) { // the last one has just gone
		time.Sleep(100 * time.Millisecond)
		return errors.New("not allowed to be quicker than the controller")
	}
	if err != nil || fault == nil {
		return err
	}
	steps, err := fault(k).Plan(t.Context(), "abcd23", found[0])
	if err != nil {
		return err
	}
	err = steps[0].Do.Apply(bounded(t, 5*time.Second))
	if err == nil {
		_, err = steps[0].Do.(experiment.Verifier).Verify(bounded(t, 5*time.Second))
	}
	if steps[0].Undo != nil {
		err = errors.Join(err, steps[0].Undo.Apply(t.Context()))
	}
	return err
}

func bounded(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// lesser is a role without one of its verbs.
type lesser struct {
	verb, resource string
	rules          []any
}

func verbs(role kubetest.Object) []lesser {
	var list []lesser
	rules := role["rules"].([]any)
	for i, rule := range rules {
		for _, verb := range kubetest.At(rule, "verbs").([]any) {
			less := lesser{verb: verb.(string), resource: used(rule)}
			for j, r := range rules {
				r := copyOf(r)
				if i == j {
					r["verbs"] = without(r["verbs"].([]any), verb)
				}
				if len(r["verbs"].([]any)) > 0 {
					less.rules = append(less.rules, r)
				}
			}
			if less.rules == nil {
				less.rules = []any{}
			}
			list = append(list, less)
		}
	}
	return list
}

// used is the one of a rule's resources that the test uses.
func used(rule any) string {
	return kubetest.At(rule, "resources", 0).(string)
}

func copyOf(o any) kubetest.Object {
	c := kubetest.Object{}
	for k, v := range o.(kubetest.Object) {
		c[k] = v
	}
	return c
}

func without(list []any, one any) []any {
	kept := []any{}
	for _, v := range list {
		if v != one {
			kept = append(kept, v)
		}
	}
	return kept
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
