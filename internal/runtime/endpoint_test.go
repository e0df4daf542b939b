package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// home makes a folder of the docker command's settings, with one context.
func home(t *testing.T, current string) string {
	t.Helper()
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("far"))
	digest := hex.EncodeToString(sum[:])
	for file, text := range map[string]string{
		"config.json":                               `{"currentContext": "` + current + `", "auths": {}}`,
		"contexts/meta/" + digest + "/meta.json":    `{"Name": "far", "Endpoints": {"docker": {"Host": "tcp://10.0.0.1:2376", "SkipTLSVerify": false}}}`,
		"contexts/tls/" + digest + "/docker/ca.pem": "",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDockerEndpoint(t *testing.T) {
	t.Parallel()
	none, far := home(t, ""), home(t, "far")
	for name, c := range map[string]struct {
		env        map[string]string
		want, fail string
	}{
		"named":             {env: map[string]string{"DOCKER_HOST": "unix:///a.sock"}, want: "unix:///a.sock"},
		"named, TLS":        {env: map[string]string{"DOCKER_HOST": "tcp://h:1", "DOCKER_CERT_PATH": "/c", "DOCKER_TLS_VERIFY": "1"}, want: "tcp://h:1?certs=%2Fc"},
		"named, unverified": {env: map[string]string{"DOCKER_HOST": "tcp://h:1", "DOCKER_CERT_PATH": "/c"}, want: "tcp://h:1?certs=%2Fc&verify=no"},
		"over a context":    {env: map[string]string{"DOCKER_HOST": "unix:///a.sock", "DOCKER_CONFIG": far}, want: "unix:///a.sock"},
		"current context":   {env: map[string]string{"DOCKER_CONFIG": far}, want: "tcp://10.0.0.1:2376?certs="},
		"named context":     {env: map[string]string{"DOCKER_CONFIG": none, "DOCKER_CONTEXT": "far"}, want: "tcp://10.0.0.1:2376?certs="},
		"default context":   {env: map[string]string{"DOCKER_CONFIG": far, "DOCKER_CONTEXT": "default"}, want: "unix://"},
		"unknown context":   {env: map[string]string{"DOCKER_CONFIG": none, "DOCKER_CONTEXT": "near"}, fail: `read Docker's context "near" (DOCKER_CONTEXT): there is none of that name`},
		"ssh":               {env: map[string]string{"DOCKER_HOST": "ssh://me@h"}, fail: "DOCKER_HOST is ssh://me@h: the containers there are on another machine"},
		"no scheme":         {env: map[string]string{"DOCKER_HOST": "h:1"}, fail: `DOCKER_HOST is "h:1", which is not as unix:///run/docker.sock`},
		"no TLS here":       {env: map[string]string{"DOCKER_HOST": "npipe://x"}, fail: "npipe:// is not spoken here"},
	} {
		e, err := dockerEndpoint(func(name string) string { return c.env[name] })
		switch {
		case c.fail != "":
			if err == nil || !strings.Contains(err.Error(), c.fail) {
				t.Errorf("%s: %v, not %q", name, err, c.fail)
			}
			continue
		case err != nil || !strings.HasPrefix(e.String(), c.want):
			t.Errorf("%s: %s, %v, not %s", name, e, err, c.want)
		}
		if again, err := parseEndpoint(e.String()); err != nil || again != e {
			t.Errorf("%s: read back it is %+v, %v", name, again, err)
		}
	}
}

func TestPodmanEndpoint(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "podman"), 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "podman/podman.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"XDG_RUNTIME_DIR": dir}
	e, err := podmanEndpoint(func(name string) string { return env[name] })
	if _, there := os.Stat("/run/podman/podman.sock"); err != nil || there != nil && e.host != "unix://"+socket {
		t.Errorf("without root it is at %s, %v", e, err)
	}
}

func TestMonitored(t *testing.T) {
	t.Parallel()
	const status, policy, count = "containerd.io/restart.status", "containerd.io/restart.policy", "containerd.io/restart.count"
	for _, c := range []struct {
		labels map[string]string
		want   string
	}{
		{nil, "no"},
		{map[string]string{policy: "always"}, "no"},
		{map[string]string{status: "running"}, "always"},
		{map[string]string{status: "running", policy: "unless-stopped"}, "unless-stopped"},
		{map[string]string{status: "running", policy: "on-failure:3", count: "2"}, "on-failure"},
		{map[string]string{status: "running", policy: "on-failure:3", count: "3"}, "no"},
		{map[string]string{status: "running", "containerd.io/restart.explicitly-stopped": "true"}, "no"},
	} {
		if got := monitored(c.labels); got != c.want {
			t.Errorf("%v: %s, not %s", c.labels, got, c.want)
		}
	}
}
