// Package dockertest gives tests containers of the runtimes that with.sh
// starts: Docker, Podman and containerd. Their image holds one static program
// and no shell (test/faults/testdata/subject).
package dockertest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Runtime is one of docker, podman and containerd.
type Runtime string

// The runtimes that there are.
const (
	Docker     Runtime = "docker"
	Podman     Runtime = "podman"
	Containerd Runtime = "containerd"
)

// Need skips a test that is not run beside the runtimes of its own. Under
// with.sh it is none that is skipped.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("SIMIAN_DOCKER") != "1" {
		t.Skip("no runtimes of its own run beside this test (sh test/docker/with.sh starts them)")
	}
}

// Network is the network namespace of Docker, where it publishes ports.
func Network(t testing.TB) string {
	t.Helper()
	pid, err := os.ReadFile(os.Getenv("SIMIAN_DOCKER_PID")) // with.sh says it
	if err != nil {
		t.Fatal(err)
	}
	return "/proc/" + strings.TrimSpace(string(pid)) + "/ns/net"
}

// Command runs a command and returns what it prints.
func Command(t testing.TB, args ...string) string {
	t.Helper()
	out, err := run(nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func run(stdin []byte, args ...string) (string, error) {
	c := exec.Command(args[0], args[1:]...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(stdin), &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// CLI is the beginning of a command of r.
func (r Runtime) CLI() []string {
	switch r {
	case Podman:
		return []string{"docker", "-H", os.Getenv("CONTAINER_HOST")}
	case Containerd:
		return []string{"ctr", "-a", os.Getenv("CONTAINERD_ADDRESS")}
	}
	return []string{"docker"}
}

// Command runs a command of r and returns what it prints.
func (r Runtime) Command(t testing.TB, args ...string) string {
	t.Helper()
	return Command(t, append(r.CLI(), args...)...)
}

// Image makes the image in r, from a folder with the program, and returns its
// name. Those of one process are the same.
func (r Runtime) Image(t testing.TB, program string) string {
	t.Helper()
	name := fmt.Sprintf("localhost/simian-test:%d", os.Getpid())
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "subject"), data, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/:\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "root.tar")
	Command(t, "tar", "-C", root, "-cf", archive, ".")
	if r != Containerd {
		r.Command(t, "import", archive, name)
		return name
	}
	Docker.Command(t, "import", archive, name)
	Docker.Command(t, "save", "-o", archive, name)
	r.Command(t, "image", "import", archive)
	return name
}

// Program builds the program of the image.
func Program(t testing.TB) string {
	t.Helper()
	mod := Command(t, "go", "env", "GOMOD")
	file := filepath.Join(t.TempDir(), "subject")
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./test/faults/testdata/subject")
	c.Dir, c.Env = filepath.Dir(mod), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build the image's program: %v: %s", err, out)
	}
	return file
}

var count atomic.Int64

// Name names a container as no other is called.
func Name() string { return fmt.Sprintf("simian-%d-%d", os.Getpid(), count.Add(1)) }

// Run starts a container with more arguments for `docker run`, and removes it
// when the test ends.
func (r Runtime) Run(t testing.TB, image string, options ...string) (name string) {
	t.Helper()
	name = Name()
	shared := t.TempDir()
	t.Cleanup(func() { r.Remove(t, name) })
	if r == Containerd {
		args := append([]string{"run", "-d"}, options...)
		args = append(args, "--mount", "type=bind,src="+shared+",dst=/shared,options=rbind:rw", image, name, "/subject", "serve", "/shared", ":7001", ":7002")
		r.Command(t, args...)
		return name
	}
	args := append([]string{"run", "-d", "--name", name, "-v", shared + ":/shared"}, options...)
	if r == Podman { // its own defaults are higher than this host may set
		args = append(args, "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
	}
	r.Command(t, append(args, image, "/subject", "serve", "/shared", ":7001", ":7002")...)
	return name
}

// Remove removes a container, if it is there still.
func (r Runtime) Remove(t testing.TB, name string) {
	t.Helper()
	if r == Containerd {
		_, _ = run(nil, append(r.CLI(), "task", "rm", "-f", name)...)
		_, _ = run(nil, append(r.CLI(), "container", "rm", name)...)
		return
	}
	var err error
	for range 100 {
		_, err = run(nil, append(r.CLI(), "rm", "-f", name)...)
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "no such container") {
			return
		}
		time.Sleep(100 * time.Millisecond) // it is being removed already, or started
	}
	t.Error(err)
}
