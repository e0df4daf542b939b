package kubetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Kubeconfig writes a kubeconfig for who bears a token, and returns its file.
func (a *API) Kubeconfig(t testing.TB, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: user, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
`, host, filepath.Join(a.dir, "pki", "apiserver.crt"), token)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Account makes a service account that may do nothing, and a token of it.
func (a *API) Account(t testing.TB, namespace string) (name, token string) {
	t.Helper()
	name = Name("account")
	a.Make(t, Collection("ServiceAccount", namespace), Object{"metadata": Object{"name": name}})
	answer := a.Must(t, http.MethodPost, Collection("ServiceAccount", namespace)+"/"+name+"/token", Object{"spec": Object{"expirationSeconds": 3600}})
	return name, Text(answer, "status", "token")
}

// Role makes the role of a file of examples/kubernetes/rbac in another namespace
// than shop, under another name, binds it to an account, and returns it.
func (a *API) Role(t testing.TB, file, namespace, account string) (path string, role Object) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte("shop"), []byte(namespace))
	name := Name(strings.TrimSuffix(filepath.Base(file), ".yaml"))
	text = bytes.Replace(text, []byte("{name: simian-"+strings.TrimSuffix(filepath.Base(file), ".yaml")), []byte("{name: "+name), 1)
	kind := "Role"
	if bytes.Contains(text, []byte("kind: ClusterRole")) {
		kind = "ClusterRole"
	}
	role = a.postYAML(t, Collection(kind, namespace), text)
	path = Collection(kind, namespace) + "/" + name
	t.Cleanup(func() { a.Remove(t, path) })
	a.Make(t, Collection(kind+"Binding", namespace), Object{
		"metadata": Object{"name": name},
		"roleRef":  Object{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
		"subjects": []any{Object{"kind": "ServiceAccount", "name": account, "namespace": namespace}},
	})
	return path, role
}

func (a *API) postYAML(t testing.TB, path string, text []byte) Object {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, host+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := a.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%v %s: %s", err, resp.Status, answer)
	}
	var made Object
	if err := json.Unmarshal(answer, &made); err != nil {
		t.Fatal(err)
	}
	return made
}

// Manifests makes the objects of a file, and returns their paths.
func (a *API) Manifests(t testing.TB, file string) (paths []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range bytes.Split(text, []byte("\n---\n")) {
		collection := "/api/v1/namespaces"
		switch {
		case bytes.Contains(one, []byte("kind: Service\n")):
			collection = "/api/v1/namespaces/shop/services"
		case bytes.Contains(one, []byte("kind: Deployment\n")):
			collection = Collection("Deployment", "shop")
		}
		made := a.postYAML(t, collection, one)
		path := collection + "/" + Text(made, "metadata", "name")
		t.Cleanup(func() { a.Remove(t, path) })
		paths = append(paths, path)
	}
	return paths
}
