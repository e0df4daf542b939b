package image

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	registrytest "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// startRegistry serves a registry that wants user and password.
func startRegistry(t *testing.T) (host string) {
	t.Helper()
	alone(t)
	in := registrytest.New(registrytest.Logger(discard()))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "me" || p != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		in.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	host = strings.TrimPrefix(s.URL, "http://")
	logIn(t, host, "me:secret")
	return host
}

func logIn(t *testing.T, host, credentials string) {
	t.Helper()
	dir := t.TempDir()
	conf := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(credentials)))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

func push(t *testing.T, ref string, img v1.Image) string {
	t.Helper()
	n, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(n, img, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func pushIndex(t *testing.T, ref string, images ...v1.Image) string {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	for _, img := range images {
		c, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: c.Platform()}})
	}
	n, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(n, index, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		t.Fatal(err)
	}
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// says is what bin/hello of an image says.
func says(t *testing.T, img *Image) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(img.Layers[0], "bin/hello"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestGetFromRegistry(t *testing.T) {
	c, host := openCache(t), startRegistry(t)
	ref := host + "/shop/web:1"
	src := makeImage(t, layerOf(t, pack(t, dir("bin"), file("bin/hello", "lower"))), layerOf(t, pack(t, file("bin/hello", "upper"))))
	digest := push(t, ref, src)
	var progress []Progress
	img, err := c.Get(t.Context(), ref, Options{Progress: func(p Progress) { progress = append(progress, p) }})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := src.ConfigName()
	if img.Digest != id.String() || img.Manifest != digest || img.Ref != ref || img.Platform != "linux/amd64" {
		t.Errorf("got %+v", img)
	}
	if diff := cmp.Diff(Config{Cmd: []string{"/bin/hello"}, Env: []string{"PATH=/bin"}}, img.Config); diff != "" {
		t.Error(diff)
	}
	if len(img.Layers) != 2 || says(t, img) != "upper" || len(filepath.Base(filepath.Dir(img.Layers[0]))) != nameLen {
		t.Errorf("layers %v", img.Layers)
	}
	if len(progress) != 2 || !progress[1].Done || progress[0].From != "registry "+host {
		t.Errorf("progress %+v", progress)
	}
	leftovers(t, c, tmpDir, useDir)
}

func TestGetPullPolicies(t *testing.T) {
	c, host := openCache(t), startRegistry(t)
	ref := host + "/a:1"
	get := func(pull string) string {
		t.Helper()
		img, err := c.Get(t.Context(), ref, Options{Pull: pull})
		if err != nil {
			t.Fatal(err)
		}
		return says(t, img)
	}
	if _, err := c.Get(t.Context(), ref, Options{Pull: "never"}); !errors.Is(err, ErrNotThere) || !strings.Contains(err.Error(), "the cache: not there; docker: none runs at") {
		t.Errorf("never: %v", err)
	}
	push(t, ref, hello(t, "one"))
	if got := get(""); got != "one" {
		t.Errorf("missing: %s", got)
	}
	push(t, ref, hello(t, "two"))
	if got := get("missing"); got != "one" {
		t.Errorf("missing, known: %s", got)
	}
	if got := get("always"); got != "two" {
		t.Errorf("always: %s", got)
	}
	if got := get("never"); got != "two" {
		t.Errorf("never, known: %s", got)
	}
}

func TestGetByDigestAndPlatform(t *testing.T) {
	c, host := openCache(t), startRegistry(t)
	arm := makeImageFor(t, v1.Platform{OS: "linux", Architecture: "arm64"}, layerOf(t, pack(t, file("bin/hello", "arm"))))
	digest := pushIndex(t, host+"/multi:1", hello(t, "amd"), arm)
	for _, c2 := range []struct{ name, ref, platform, want, err string }{
		{"this host's", "/multi:1", "linux/amd64", "amd", ""},
		{"another", "/multi:1", "linux/arm64", "arm", ""},
		{"by digest", "/multi@" + digest, "linux/arm64", "arm", ""},
		{"by tag and digest", "/multi:other@" + digest, "linux/amd64", "amd", ""},
		{"none", "/multi:1", "linux/s390x", "", "it is not there for linux/s390x, only for linux/amd64, linux/arm64"},
		{"another digest", "/multi@" + someDigest, "", "", "registry " + host + ": not there"},
		{"another tag", "/multi:2", "", "", "registry " + host + ": not there"},
	} {
		t.Run(c2.name, func(t *testing.T) {
			img, err := c.Get(t.Context(), host+c2.ref, Options{Platform: c2.platform})
			checkError(t, err, c2.err)
			if err == nil && (says(t, img) != c2.want || img.Manifest != digest) {
				t.Errorf("%s %s", says(t, img), img.Manifest)
			}
		})
	}
	single := push(t, host+"/single:1", arm)
	_, err := c.Get(t.Context(), host+"/single@"+single, Options{Platform: "linux/amd64"})
	checkError(t, err, "it is not there for linux/amd64, only for linux/arm64")
	leftovers(t, c, tmpDir, useDir)
}

func TestGetRefused(t *testing.T) {
	c, host := openCache(t), startRegistry(t)
	push(t, host+"/a:1", hello(t, "x"))
	logIn(t, host, "me:wrong")
	_, err := c.Get(t.Context(), host+"/a:1", Options{})
	checkError(t, err, "it is not there, or not for you (docker login "+host+" gives credentials)")
	if strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the error tells the password, or has several lines: %v", err)
	}
	_, err = c.Get(t.Context(), "127.0.0.1:1/a:1", Options{})
	checkError(t, err, "get image 127.0.0.1:1/a:1: it is nowhere to be had: the cache: not there; docker: none runs at ")
	checkError(t, err, "connection refused")
}

// TestGetBadRegistry gets what is not what it should be.
func TestGetBadRegistry(t *testing.T) {
	alone(t)
	c := openCache(t)
	img := hello(t, "x")
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	in := registrytest.New(registrytest.Logger(discard()))
	var spoil func(path string, body []byte) []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		in.ServeHTTP(rec, r)
		body := append([]byte{}, rec.Body.Bytes()...)
		if spoil != nil && r.Method == http.MethodGet {
			body = spoil(r.URL.Path, body)
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Header().Del("Content-Length")
		if body == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	ref := strings.TrimPrefix(s.URL, "http://") + "/a:1"
	push(t, ref, img)
	layer, config := m.Layers[0].Digest.Hex, m.Config.Digest.Hex
	at := func(part string, change func([]byte) []byte) func(string, []byte) []byte {
		return func(path string, body []byte) []byte {
			if strings.Contains(path, part) {
				return change(body)
			}
			return body
		}
	}
	gone := func([]byte) []byte { return nil }
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	other := func(b []byte) []byte { return bytes.Replace(b, []byte("linux"), []byte("linuy"), 1) }
	for _, x := range []struct {
		name  string
		spoil func(string, []byte) []byte
		err   string
	}{
		{"a missing layer", at(layer, gone), "is missing from the registry"},
		{"a layer cut short", at(layer, cut), "error verifying sha256 checksum"},
		{"another layer", at(layer, func([]byte) []byte { return pack(t, file("evil", "")) }), "error verifying sha256 checksum"},
		{"a missing configuration", at(config, gone), "read its configuration: blob sha256:"},
		{"another configuration", at(config, other), "read its configuration"},
		{"no JSON", at("manifests", func([]byte) []byte { return []byte("<html>") }), "read its manifest"},
	} {
		t.Run(x.name, func(t *testing.T) {
			spoil = x.spoil
			_, err := c.Get(t.Context(), ref, Options{Pull: "always"})
			checkError(t, err, x.err)
			leftovers(t, c, tmpDir, useDir, layerDir, recordDir)
		})
	}
}

func saveDocker(t *testing.T, path string, images map[string]v1.Image) {
	t.Helper()
	byRef := map[name.Reference]v1.Image{}
	for ref, img := range images {
		n, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		byRef[n] = img
	}
	if err := tarball.MultiRefWriteToFile(path, byRef); err != nil {
		t.Fatal(err)
	}
}
