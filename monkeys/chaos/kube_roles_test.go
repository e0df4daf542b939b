package chaos

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
	"github.com/simianhq/simian/internal/kube/kubetest"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets/pod"
)

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
