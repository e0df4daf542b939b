package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// endpoint is where a Docker or Podman is asked.
type endpoint struct {
	host       string // unix:///var/run/docker.sock, tcp://10.0.0.1:2376
	certs      string // the folder of ca.pem, cert.pem and key.pem; "" is no TLS
	unverified bool   // with certs: whoever answers is believed
}

// local tells whether the daemon is asked over a socket of this machine.
func (e endpoint) local() bool { return strings.HasPrefix(e.host, "unix://") }

// String gives the endpoint as journals keep it: as a URL, which names the
// folder of the TLS material, and never holds what is in it.
func (e endpoint) String() string {
	if e.certs == "" {
		return e.host
	}
	q := url.Values{"certs": {e.certs}}
	if e.unverified {
		q.Set("verify", "no")
	}
	return e.host + "?" + q.Encode()
}

func parseEndpoint(text string) (endpoint, error) {
	host, query, _ := strings.Cut(text, "?")
	q, err := url.ParseQuery(query)
	if err != nil || host == "" {
		return endpoint{}, fmt.Errorf("%q does not say where a runtime is asked", text)
	}
	return endpoint{host: host, certs: q.Get("certs"), unverified: q.Get("verify") == "no"}, nil
}

// dockerEndpoint finds Docker as the docker command does: DOCKER_HOST, else the
// context that DOCKER_CONTEXT or config.json names, else the usual socket, else
// that of a Docker without root.
func dockerEndpoint(getenv func(string) string) (endpoint, error) {
	if host := getenv("DOCKER_HOST"); host != "" {
		return checked(withEnvTLS(getenv, endpoint{host: host}), "DOCKER_HOST")
	}
	dir := dockerConfig(getenv)
	name, from := getenv("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
	if name == "" {
		var err error
		if name, err = currentContext(dir); err != nil {
			return endpoint{}, err
		}
		from = "currentContext of " + filepath.Join(dir, "config.json")
	}
	if name != "" && name != "default" {
		e, err := contextEndpoint(dir, name)
		if err != nil {
			return e, fmt.Errorf("read Docker's context %q (%s): %w", name, from, err)
		}
		return checked(e, fmt.Sprintf("Docker's context %q", name))
	}
	return endpoint{host: "unix://" + firstSocket("/var/run/docker.sock", inRuntimeDir(getenv, "docker.sock"))}, nil
}

// podmanEndpoint finds Podman's socket, which speaks Docker's language too.
func podmanEndpoint(getenv func(string) string) (endpoint, error) {
	if host := getenv("CONTAINER_HOST"); host != "" {
		return checked(endpoint{host: host}, "CONTAINER_HOST")
	}
	return endpoint{host: "unix://" + firstSocket("/run/podman/podman.sock", inRuntimeDir(getenv, "podman/podman.sock"))}, nil
}

// checked refuses a way to a daemon that only leads to other machines.
func checked(e endpoint, from string) (endpoint, error) {
	scheme, _, ok := strings.Cut(e.host, "://")
	switch {
	case !ok:
		return e, fmt.Errorf("%s is %q, which is not as unix:///run/docker.sock or tcp://127.0.0.1:2375", from, e.host)
	case scheme == "ssh":
		return e, fmt.Errorf("%s is %s: the containers there are on another machine, and are broken by a Simian that runs there: %w", from, e.host, experiment.ErrUnsupported)
	case scheme != "unix" && scheme != "tcp" && scheme != "http" && scheme != "https":
		return e, fmt.Errorf("%s is %s, and %s:// is not spoken here (unix, tcp): %w", from, e.host, scheme, experiment.ErrUnsupported)
	}
	return e, nil
}

// withEnvTLS adds what the docker command takes from the environment for a
// daemon over TCP.
func withEnvTLS(getenv func(string) string, e endpoint) endpoint {
	certs, verify := getenv("DOCKER_CERT_PATH"), getenv("DOCKER_TLS_VERIFY") != ""
	if e.local() || certs == "" && !verify {
		return e
	}
	if certs == "" {
		certs = dockerConfig(getenv)
	}
	e.certs, e.unverified = certs, !verify
	return e
}

// dockerConfig is the folder of the docker command's settings.
func dockerConfig(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	return filepath.Join(getenv("HOME"), ".docker")
}

// currentContext reads which context config.json names, "" for none.
func currentContext(dir string) (string, error) {
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return "", nil
	}
	var config struct{ CurrentContext string }
	if err == nil {
		err = json.Unmarshal(data, &config)
	}
	if err != nil {
		return "", fmt.Errorf("read Docker's context of %s: %w", file, err)
	}
	return config.CurrentContext, nil
}

// contextEndpoint reads a context of the docker command: a folder named by the
// digest of its name (docker/cli, cli/context/store).
func contextEndpoint(dir, name string) (endpoint, error) {
	sum := sha256.Sum256([]byte(name))
	digest := hex.EncodeToString(sum[:])
	data, err := os.ReadFile(filepath.Join(dir, "contexts/meta", digest, "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return endpoint{}, errors.New("there is none of that name (docker context ls lists them)")
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err == nil {
		err = json.Unmarshal(data, &meta)
	}
	if err != nil {
		return endpoint{}, err
	}
	docker, ok := meta.Endpoints["docker"]
	if !ok || docker.Host == "" {
		return endpoint{}, errors.New("it has no Docker")
	}
	e := endpoint{host: docker.Host}
	if certs := filepath.Join(dir, "contexts/tls", digest, "docker"); !e.local() && exists(certs) {
		e.certs, e.unverified = certs, docker.SkipTLSVerify
	}
	return e, nil
}

// inRuntimeDir is where a daemon without root has its socket, "" where there is
// no such place.
func inRuntimeDir(getenv func(string) string, name string) string {
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, name)
	}
	return ""
}

// firstSocket returns the first of paths that is there, else the first.
func firstSocket(paths ...string) string {
	for _, path := range paths {
		if path != "" && exists(path) {
			return path
		}
	}
	return paths[0]
}

// exists tells whether something is at a path; where that can't be seen, that
// is said when it is opened.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
