package image

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// needDocker skips where no Docker runs.
func needDocker(t *testing.T) {
	t.Helper()
	if os.Getenv("DOCKER_HOST") == "" {
		if _, err := os.Stat("/var/run/docker.sock"); err != nil {
			t.Skip("no Docker runs here: nothing at /var/run/docker.sock")
		}
	}
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("the docker command, which makes the test's image, is not there")
	}
}

func run(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// importDocker makes an image as docker import does.
func importDocker(t *testing.T, name, content string) {
	t.Helper()
	run(t, pack(t, dir("bin"), file("bin/hello", content)), "docker", "import", "--change", `CMD ["/bin/hello"]`, "-", name)
}

func TestDocker(t *testing.T) {
	needDocker(t)
	t.Setenv("CONTAINERD_ADDRESS", t.TempDir()+"/none")
	c := openCache(t)
	const name = "simian-image-test:1"
	t.Cleanup(func() { _ = exec.Command("docker", "image", "rm", "-f", name).Run() })
	importDocker(t, name, "one")
	id := run(t, nil, "docker", "image", "inspect", "--format", "{{.Id}}", name)
	for _, x := range []struct{ ref, pull, rebuilt, want string }{
		{name, "", "", "one"},
		{"docker:" + name, "", "", "one"},
		{name, "never", "two", "two"}, // built anew under the same name
		{"docker:" + name, "", "", "two"},
		{"docker:" + strings.TrimPrefix(id, "sha256:")[:12], "", "", "one"},
	} {
		if x.rebuilt != "" {
			importDocker(t, name, x.rebuilt)
		}
		img, err := c.Get(t.Context(), x.ref, Options{Pull: x.pull})
		if err != nil {
			t.Fatalf("%s: %v", x.ref, err)
		}
		if says(t, img) != x.want || img.Config.Cmd[0] != "/bin/hello" {
			t.Errorf("%s: %s, %v", x.ref, says(t, img), img.Config)
		}
	}
	_, err := c.Get(t.Context(), "docker:simian-image-test:none", Options{})
	checkError(t, err, "docker: not there")
	_, err = c.Get(t.Context(), "docker:"+name, Options{Platform: "linux/s390x"})
	checkError(t, err, "it is not there for linux/s390x, only for linux/amd64")
	save := t.TempDir() + "/saved.tar"
	run(t, nil, "docker", "save", "-o", save, name)
	if img, err := c.Get(t.Context(), "docker-archive:"+save, Options{}); err != nil || says(t, img) != "two" {
		t.Errorf("what docker save made: %v", err)
	}
	leftovers(t, c, tmpDir, useDir)
	t.Setenv("DOCKER_HOST", "unix:///nowhere")
	if img, err := c.Get(t.Context(), name, Options{}); err != nil || says(t, img) != "two" {
		t.Errorf("known, and Docker is gone: %v", err)
	}
	_, err = c.Get(t.Context(), "docker:"+name, Options{})
	checkError(t, err, "docker: none runs at /nowhere")
}

func TestContainerd(t *testing.T) {
	socket := os.Getenv("CONTAINERD_ADDRESS")
	if socket == "" {
		socket = "/run/containerd/containerd.sock"
	}
	if _, err := os.Stat(socket); err != nil {
		t.Skip("no containerd runs here: nothing at " + socket)
	}
	if _, err := exec.LookPath("ctr"); err != nil {
		t.Skip("the ctr command, which imports the test's image, is not there")
	}
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none")
	c := openCache(t)
	const name = "docker.io/library/simian-image-test:1"
	for _, ns := range []string{"k8s.io", "simian-image-test"} {
		t.Cleanup(func() {
			_ = exec.Command("ctr", "-a", socket, "-n", ns, "image", "rm", name).Run()
			_ = exec.Command("ctr", "-a", socket, "namespace", "rm", "simian-image-test").Run()
		})
		path := t.TempDir() + "/i.tar"
		saveDocker(t, path, map[string]v1.Image{"simian-image-test:1": hello(t, ns)})
		run(t, nil, "ctr", "-a", socket, "-n", ns, "image", "import", path)
	}
	list := run(t, nil, "ctr", "-a", socket, "-n", "k8s.io", "image", "ls", "name=="+name)
	digest := list[strings.Index(list, "sha256:"):][:71]
	for _, x := range []struct{ ref, want string }{
		{"simian-image-test:1", "k8s.io"},
		{"containerd:simian-image-test:1", "k8s.io"},
		{"containerd:k8s.io/simian-image-test:1", "k8s.io"},
		{"containerd:simian-image-test/docker.io/library/simian-image-test:1", "simian-image-test"},
		{"simian-image-test@" + digest, "k8s.io"},
	} {
		img, err := c.Get(t.Context(), x.ref, Options{Pull: "never"})
		if err != nil {
			t.Errorf("%s: %v", x.ref, err)
			continue
		}
		if says(t, img) != x.want {
			t.Errorf("%s: %s", x.ref, says(t, img))
		}
	}
	_, err := c.Get(t.Context(), "containerd:simian-image-test:2", Options{})
	checkError(t, err, "containerd: not there, in the namespaces default, k8s.io, moby")
	leftovers(t, c, tmpDir, useDir)
}

// TestStoresThatAreNotThere are passed over, and quickly.
func TestStoresThatAreNotThere(t *testing.T) {
	alone(t)
	c := openCache(t)
	began := time.Now()
	_, err := c.Get(t.Context(), "shop:1", Options{Pull: "never"})
	if !errors.Is(err, ErrNotThere) || time.Since(began) > time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	checkError(t, err, "get image shop:1: it is nowhere to be had: the cache: not there; docker: none runs at "+
		strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")+"; containerd: none runs at "+os.Getenv("CONTAINERD_ADDRESS"))
	// Sockets that nobody listens at any more.
	for _, path := range []string{strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://"), os.Getenv("CONTAINERD_ADDRESS")} {
		listenAndLeave(t, path)
	}
	began = time.Now()
	_, err = c.Get(t.Context(), "shop:1", Options{Pull: "never"})
	checkError(t, err, "docker: none runs at")
	checkError(t, err, "containerd: none runs at")
	if time.Since(began) > time.Second {
		t.Errorf("it took %v", time.Since(began))
	}
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
	_, err = c.Get(t.Context(), "docker:shop:1", Options{})
	checkError(t, err, "only a Docker on this machine is asked")
}
