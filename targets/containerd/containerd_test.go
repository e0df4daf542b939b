package containerd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/monkeys/chaos"
	"github.com/simianhq/simian/targets/match"
	dockertest "github.com/simianhq/simian/test/docker"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func selector(t testing.TB, name string) *Selector {
	t.Helper()
	s := New(proc.Host(), runtime.New())().(*Selector)
	if name != "" {
		n, err := match.ParseName(name)
		must(t, err)
		s.Names = match.Names{n}
	}
	return s
}

func one(t testing.TB, s *Selector) experiment.Target {
	t.Helper()
	found, err := s.Select(t.Context())
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%d containers are found: %v", len(found), found)
	}
	return found[0]
}

// TestContainerd finds, kills, stops and starts a plain container.
func TestContainerd(t *testing.T) {
	dockertest.Need(t)
	image := dockertest.Containerd.Image(t, dockertest.Program(t))
	name := dockertest.Containerd.Run(t, image, "--label", "com.docker.compose.service=web")
	s := selector(t, name)
	target := one(t, s)
	if target.Kind != "containerd" || target.Workload != "web" || target.Runtime.Namespace != "default" || target.Runtime.Restart != "no" {
		t.Errorf("it is %+v of %s, %+v", target.Name, target.Workload, target.Runtime)
	}
	if _, _, ok := proc.Host().OwnCgroup(target); !ok {
		t.Error("it has no cgroup of its own")
	}
	for _, fault := range []string{"kill", "stop"} {
		target = one(t, s)
		steps, err := chaos.All(proc.Host())[fault]().Plan(t.Context(), "abcdef", target)
		must(t, err)
		must(t, steps[0].Do.Apply(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ev, err := steps[0].Do.(experiment.Verifier).Verify(ctx)
		cancel()
		if err != nil || !ev.InForce {
			t.Fatalf("%s: %+v, %v", fault, ev, err)
		}
		if _, err := s.Select(t.Context()); fault == "stop" && (!errors.Is(err, experiment.ErrNoMatch) || !strings.Contains(err.Error(), "not running")) {
			t.Errorf("after its stop: %v", err)
		}
		must(t, steps[0].Undo.Apply(t.Context()))
		must(t, steps[0].Undo.Apply(t.Context()))
		if now := one(t, s); now.PIDs[0] == target.PIDs[0] {
			t.Errorf("%s: it is the same process", fault)
		}
	}
	if _, err := chaos.All(proc.Host())["remove"]().Plan(t.Context(), "abcdef", target); !errors.Is(err, experiment.ErrUnsupported) {
		t.Errorf("to remove it: %v", err)
	}
}

// TestContainerdOfDocker finds a container of Docker's, and leaves its life to
// Docker.
func TestContainerdOfDocker(t *testing.T) {
	dockertest.Need(t)
	image := dockertest.Docker.Image(t, dockertest.Program(t))
	name := dockertest.Docker.Run(t, image, "--network", "none")
	id := dockertest.Docker.Command(t, "inspect", "--format", "{{.Id}}", name)
	s := selector(t, id)
	s.Namespace = "moby"
	target := one(t, s)
	if n, err := s.Scope(t.Context()); err != nil || n < 1 {
		t.Errorf("%d run there, %v", n, err)
	}
	_, err := chaos.All(proc.Host())["stop"]().Plan(t.Context(), "abcdef", target)
	if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "Docker keeps it") {
		t.Errorf("to stop it: %v", err)
	}
	steps, err := chaos.All(proc.Host())["kill"]().Plan(t.Context(), "abcdef", target)
	if err != nil || steps[0].Undo != nil {
		t.Errorf("to kill it: %v, %v", steps, err)
	}
	s.Namespace = "nowhere"
	if _, err := s.Select(t.Context()); !errors.Is(err, experiment.ErrNoMatch) || !strings.Contains(err.Error(), "other namespaces:") {
		t.Errorf("where nothing is: %v", err)
	}
}

func TestContainerdNone(t *testing.T) {
	t.Setenv("CONTAINERD_ADDRESS", t.TempDir()+"/none.sock")
	_, err := selector(t, "").Select(t.Context())
	if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "none runs there (CONTAINERD_ADDRESS names another one)") {
		t.Error(err)
	}
}
