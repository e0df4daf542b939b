// Package kubetest is for tests beside a real Kubernetes (test/kube/with.sh). It
// asks the API server with the standard library only, so that what the client
// did is seen with another's eyes.
package kubetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// API is the API server of the cluster that tests run beside, asked as an
// administrator.
type API struct {
	dir, token string
	http       *http.Client
}

// Object is an object of the API, or a part of one.
type Object = map[string]any

// host is where with.sh has the API server listen.
const host = "https://127.0.0.1:6443"

// Connect returns the API server, and skips the test where there is none.
func Connect(t testing.TB) *API {
	t.Helper()
	dir := os.Getenv("SIMIAN_KUBE_DIR")
	if dir == "" {
		if os.Getenv("SIMIAN_KUBE") != "" {
			t.Fatal("no Kubernetes runs here")
		}
		t.Skip("no Kubernetes runs here (make kube-test)")
	}
	ca, err := os.ReadFile(filepath.Join(dir, "pki", "apiserver.crt"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := os.ReadFile(filepath.Join(dir, "tokens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	token, _, _ := strings.Cut(string(tokens), ",")
	return &API{dir, token, &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32, TLSClientConfig: &tls.Config{RootCAs: roots}}}}
}

// Node returns the real node's name, and skips the test where there is none.
func (a *API) Node(t testing.TB) string {
	t.Helper()
	if os.Getenv("CONTAINER_RUNTIME_ENDPOINT") == "" {
		if os.Getenv("SIMIAN_KUBE") != "" {
			t.Fatal("no node runs here")
		}
		t.Skip("no node runs here (make kube-test)")
	}
	return "here"
}

// Try asks for a path. The status is 0 where there was no answer.
func (a *API) Try(method, path string, body any) (status int, answer Object, err error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequest(method, host+path, bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return resp.StatusCode, nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
	if resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %v", method, path, answer["message"])
	}
	return resp.StatusCode, answer, err
}

// Must asks for a path, and ends the test where that fails.
func (a *API) Must(t testing.TB, method, path string, body any) Object {
	t.Helper()
	_, answer, err := a.Try(method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Get reads an object, nil where there is none.
func (a *API) Get(t testing.TB, path string) Object {
	t.Helper()
	status, answer, err := a.Try(http.MethodGet, path, nil)
	if status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Make makes an object in a collection, and takes it away when the test ends.
func (a *API) Make(t testing.TB, collection string, o Object) Object {
	t.Helper()
	made := a.Must(t, http.MethodPost, collection, o)
	path := collection + "/" + At(made, "metadata", "name").(string)
	t.Cleanup(func() { a.Remove(t, path) })
	return made
}

// Remove deletes an object, without a grace, and what it owns.
func (a *API) Remove(t testing.TB, path string) {
	t.Helper()
	status, _, err := a.Try(http.MethodDelete, path, Object{"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
	if err != nil && status != http.StatusNotFound {
		t.Errorf("clean up: %v", err)
	}
}

// Until waits until something is so.
func Until(t testing.TB, what string, so func() bool) {
	t.Helper()
	const patience = 90 * time.Second
	for end := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s still not: %s", patience, what)
		}
	}
}

// At returns what lies in o at a path of fields and indices, nil for nothing.
func At(o any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			fields, _ := o.(map[string]any)
			o = fields[step]
		case int:
			list, _ := o.([]any)
			if step >= len(list) {
				return nil
			}
			o = list[step]
		}
	}
	return o
}

// Text is At, as text.
func Text(o any, path ...any) string {
	if v := At(o, path...); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

var names atomic.Int64

// Name returns a name that no other test has.
func Name(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, os.Getpid(), names.Add(1))
}

// Namespace makes a namespace.
func (a *API) Namespace(t testing.TB, labels map[string]string) string {
	t.Helper()
	made := a.Make(t, "/api/v1/namespaces", Object{"metadata": Object{"name": Name("test"), "labels": labels}})
	return Text(made, "metadata", "name")
}
