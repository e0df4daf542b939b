package pod

import (
	"strings"
	"testing"

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
