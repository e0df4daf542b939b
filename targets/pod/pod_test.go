package pod

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/kube"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pod  Pod
		want string
	}{
		"nothing":        {Pod{}, ""},
		"all":            {Pod{Namespace: "*", FieldSelector: "spec.nodeName=a", Owner: "Deployment/web", Phase: "Running"}, ""},
		"owner":          {Pod{Owner: "web"}, `owner: "web" is not a kind and a name, such as Deployment/web`},
		"owner of three": {Pod{Owner: "apps/Deployment/web"}, `owner: "apps/Deployment/web" is not a kind and a name`},
		"phase":          {Pod{Phase: "running"}, `phase: "running" is no phase of a pod (did you mean "Running"?)`},
		"fields":         {Pod{FieldSelector: "spec.nodeName"}, `fieldSelector: "spec.nodeName" is not a field selector`},
		"namespace":      {Pod{Namespace: "a,b"}, `namespace: "a,b" is not the name of one namespace (or * for all)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.pod.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), strings.SplitN(c.want, ": ", 2)[1]) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	for image, wants := range map[string]map[string]bool{
		"nginx":                          {"nginx": true, "ginx": false},
		"nginx:1.27":                     {"nginx": true, "nginx:1.27": true, "nginx:1.2": false},
		"registry:5000/shop/gateway:2":   {"gateway": true, "shop/gateway": true, "registry:5000/shop/gateway": true, "registry": false, "gateway:2": true},
		"docker.io/library/redis@sha256": {"redis": true, "library/redis": true},
	} {
		for want, is := range wants {
			if got := isOf(image, want); got != is {
				t.Errorf("%s is of %s: %v", image, want, got)
			}
		}
	}
}

func TestOwned(t *testing.T) {
	t.Parallel()
	pod := kube.Pod{Owner: kube.Owner{Kind: "ReplicaSet", Name: "web-5d8f"}, Labels: map[string]string{"pod-template-hash": "5d8f"}}
	for owner, want := range map[string]bool{
		"": true, "Deployment/web": true, "deployment/web": true, "ReplicaSet/web-5d8f": true, "Deployment/we": false, "StatefulSet/web": false,
	} {
		if got := (&Pod{Owner: owner}).owned(&pod); got != want {
			t.Errorf("owned by %q: %v", owner, got)
		}
	}
}

// TestOptIn reads it of a pod's labels, its annotations, and its namespace's;
// the nearer counts.
func TestOptIn(t *testing.T) {
	t.Parallel()
	yes, no := map[string]string{enabledLabel: "true"}, map[string]string{enabledLabel: "false"}
	for name, c := range map[string]struct {
		pod  kube.Pod
		ns   kube.Namespace
		want string
	}{
		"nothing":                       {kube.Pod{}, kube.Namespace{}, ""},
		"a label":                       {kube.Pod{Labels: yes}, kube.Namespace{}, "true"},
		"an annotation":                 {kube.Pod{Annotations: yes}, kube.Namespace{}, "true"},
		"the namespace's label":         {kube.Pod{}, kube.Namespace{Labels: yes}, "true"},
		"the namespace's annotation":    {kube.Pod{}, kube.Namespace{Annotations: yes}, "true"},
		"a label against the namespace": {kube.Pod{Labels: no}, kube.Namespace{Labels: yes}, "false"},
		"an annotation against it":      {kube.Pod{Annotations: no}, kube.Namespace{Labels: yes}, "false"},
		"a namespace that says no":      {kube.Pod{}, kube.Namespace{Labels: no}, ""},
	} {
		if got := labels(&c.pod, c.ns)[enabledLabel]; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestRow(t *testing.T) {
	t.Parallel()
	web := kube.Pod{Namespace: "shop", Name: "web-5d8f-x", Phase: "Running", Owner: kube.Owner{Kind: "StatefulSet", Name: "web"}}
	ending, done := web, web
	ending.Ending, done.Phase = true, "Succeeded"
	here := experiment.Target{PIDs: []experiment.ProcessID{{PID: 7}}, Runtime: &experiment.RuntimeRef{Runtime: "containerd"}}
	base := experiment.Listed{Kind: "pod", Name: "shop/web-5d8f-x", Workload: "StatefulSet shop/web"}
	with := func(change func(*experiment.Listed)) experiment.Listed { l := base; change(&l); return l }
	for name, c := range map[string]struct {
		pod  kube.Pod
		t    experiment.Target
		why  string
		want experiment.Listed
	}{
		"elsewhere": {web, experiment.Target{}, "", base},
		"here":      {web, here, "", with(func(l *experiment.Listed) { l.PID, l.Runtime = 7, "containerd" })},
		"protected": {web, experiment.Target{}, "it has a label", with(func(l *experiment.Listed) { l.Protected, l.Out = "it has a label", "protected: it has a label" })},
		"ending":    {ending, experiment.Target{}, "", with(func(l *experiment.Listed) { l.Out = "it is ending" })},
		"done":      {done, experiment.Target{}, "", with(func(l *experiment.Listed) { l.Out = "it is Succeeded" })},
	} {
		if d := cmp.Diff(c.want, row(&c.pod, &c.t, c.why)); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
}
