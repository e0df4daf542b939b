package kube

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// TestNoKubeconfig has nothing to find a cluster by.
func TestNoKubeconfig(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	wantError(t, cluster(""), "find a cluster: no kubeconfig: set KUBECONFIG, or have one in ~/.kube/config (this is no pod either: no /var/run/secrets/kubernetes.io/serviceaccount/token): unsupported")
}

// TestKubeconfig reads what a kubeconfig says of contexts, and connects to
// nothing.
func TestKubeconfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	for name, c := range map[string]struct{ text, context, want string }{
		"the current one":  {config, "", ""},
		"another":          {config, "staging", ""},
		"none of the name": {config, "stagin", `kubeconfig FILE has no context "stagin" (did you mean "staging"?)`},
		"no current one":   {strings.ReplaceAll(config, "current-context: test", ""), "", "kubeconfig FILE has no current context: say context"},
		"not YAML":         {"{", "", "read kubeconfig: error loading config file"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("KUBECONFIG", file)
			wantError(t, cluster(c.context), strings.ReplaceAll(c.want, "FILE", file))
		})
	}
}

const config = `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: user, user: {token: t}}]
contexts: [{name: test, context: {cluster: test, user: user}}, {name: staging, context: {cluster: test, user: user}}]
current-context: test
`

func cluster(context string) error {
	_, err := New().Cluster(context)
	return err
}

// TestUnreachable asks an API server that is not there.
func TestUnreachable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := New()
	t.Cleanup(c.Close)
	where := experiment.Cluster{Kubeconfig: file, Context: "test"}
	_, err := c.Pods(context.Background(), Query{Cluster: where, Namespace: "shop"})
	wantError(t, err, "list pods in namespace shop: reach the API server at http://127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused")
	if !c.Alive(experiment.ObjectRef{Kind: "Pod", Namespace: "shop", Name: "web", UID: "1", Cluster: where}) {
		t.Error("a pod is gone because nobody can be asked")
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil && want != "":
		t.Errorf("no error, want %q", want)
	case err != nil && (want == "" || !strings.HasPrefix(err.Error(), want)):
		t.Errorf("got  %q\nwant %q", err, want)
	}
}

// TestWorkload tells a pod's Deployment by names alone.
func TestWorkload(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		owner Owner
		hash  string
		want  string
	}{
		"of a Deployment":            {Owner{Kind: "ReplicaSet", Name: "web-5d8f"}, "5d8f", "Deployment web"},
		"of a ReplicaSet by itself":  {Owner{Kind: "ReplicaSet", Name: "web-5d8f"}, "", "ReplicaSet web-5d8f"},
		"of one of another hash":     {Owner{Kind: "ReplicaSet", Name: "web"}, "5d8f", "ReplicaSet web"},
		"of a StatefulSet":           {Owner{Kind: "StatefulSet", Name: "db"}, "", "StatefulSet db"},
		"of nothing":                 {Owner{}, "5d8f", ""},
		"with nothing but the hash":  {Owner{Kind: "ReplicaSet", Name: "-5d8f"}, "5d8f", "ReplicaSet -5d8f"},
		"of a DaemonSet with a hash": {Owner{Kind: "DaemonSet", Name: "log-5d8f"}, "5d8f", "DaemonSet log-5d8f"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pod{Owner: c.owner, Labels: map[string]string{hashLabel: c.hash}}
			if got := p.Workload().String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
