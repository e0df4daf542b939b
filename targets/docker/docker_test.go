package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// selector is one of type docker or podman, for containers of a name.
func selector(t testing.TB, r dockertest.Runtime, clients *runtime.Clients, name string) *Selector {
	t.Helper()
	build := New
	if r == dockertest.Podman {
		build = NewPodman
	}
	s := build(proc.Host(), clients)().(*Selector)
	if name != "" {
		n, err := match.ParseName(name)
		must(t, err)
		s.Names = match.Names{n}
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// both runs a test on Docker and on Podman, each with an image.
func both(t *testing.T, test func(t *testing.T, r dockertest.Runtime, image string)) {
	dockertest.Need(t)
	program := dockertest.Program(t)
	for _, r := range []dockertest.Runtime{dockertest.Docker, dockertest.Podman} {
		t.Run(string(r), func(t *testing.T) { test(t, r, r.Image(t, program)) })
	}
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

// eventually waits until ok gives no reason.
func eventually(t testing.TB, ok func() string) {
	t.Helper()
	why := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if why = ok(); why == "" {
			return
		}
	}
	t.Fatal(why)
}

func TestDockerSelect(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		name := r.Run(t, image, "--network", "none", "--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web")
		clients := runtime.New()
		target := one(t, selector(t, r, clients, name))
		id := r.Command(t, "inspect", "--format", "{{.Id}}", name)
		if target.Kind != string(r) || target.Name != name || target.Workload != "shop/web" {
			t.Errorf("it is %s %s of %s", target.Kind, target.Name, target.Workload)
		}
		if ref := target.Runtime; ref == nil || ref.ID != id || ref.Runtime != string(r) || ref.Restart != "no" || ref.Started == "" {
			t.Errorf("its runtime is %+v", ref)
		}
		if args, err := proc.Host().Cmdline(target.PIDs[0].PID); err != nil || args[0] != "/subject" {
			t.Errorf("its first process is %v, %v", args, err)
		}
		if own, _, ok := proc.Host().OwnCgroup(target); !ok {
			t.Errorf("it has no cgroup of its own: %+v", own)
		}
		if byID := one(t, selector(t, r, clients, id[:12])); byID.ID != target.ID {
			t.Errorf("by its ID it is %s, not %s", byID.ID, target.ID)
		}
		if n, err := selector(t, r, clients, "").Scope(t.Context()); err != nil || n < 1 {
			t.Errorf("%d containers run, %v", n, err)
		}
		group, err := selector(t, r, clients, "none").Group(t.Context(), "shop/web")
		if err != nil || len(group) != 1 || group[0].ID != target.ID {
			t.Errorf("of its workload are %v, %v", group, err)
		}
	})
}

func TestDockerNotFound(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		name := r.Run(t, image, "--network", "none")
		clients := runtime.New()
		_, err := selector(t, r, clients, name+"x").Select(t.Context())
		if !errors.Is(err, experiment.ErrNoMatch) || !strings.Contains(err.Error(), "did you mean "+name+"?") {
			t.Errorf("one that is not there: %v", err)
		}
		r.Command(t, "stop", "-t", "0", name)
		_, err = selector(t, r, clients, name).Select(t.Context())
		if !errors.Is(err, experiment.ErrNoMatch) || !strings.Contains(err.Error(), name+" (exited): not running") {
			t.Errorf("one that is stopped: %v", err)
		}
	})
}

func TestDockerNone(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	t.Setenv("CONTAINER_HOST", "unix://"+t.TempDir()+"/none.sock")
	for r, hint := range map[dockertest.Runtime]string{dockertest.Docker: "DOCKER_HOST", dockertest.Podman: "CONTAINER_HOST"} {
		_, err := selector(t, r, runtime.New(), "").Select(t.Context())
		if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "none runs there") || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", r, err)
		}
	}
}

// TestDockerFollows looks again and again while a container is killed and
// started anew, as the engine does.
func TestDockerFollows(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		name := r.Run(t, image, "--network", "none")
		s := selector(t, r, runtime.New(), name)
		before := one(t, s)
		for range 20 {
			if again := one(t, s); again.ID != before.ID {
				t.Fatalf("it is %s, and was %s", again.ID, before.ID)
			}
		}
		for range 3 {
			r.Command(t, "restart", "-t", "0", name)
			eventually(t, func() string { // Podman takes a moment to know it itself
				now, err := s.Select(t.Context())
				if err != nil || len(now) != 1 || now[0].ID == before.ID || now[0].Runtime.Started == before.Runtime.Started {
					return fmt.Sprintf("after a restart it is %v, %v", now, err)
				}
				before = now[0]
				return ""
			})
		}
		r.Command(t, "kill", name)
		eventually(t, func() string {
			if _, err := s.Select(t.Context()); !errors.Is(err, experiment.ErrNoMatch) {
				return "a killed one is found"
			}
			return ""
		})
	})
}

// do applies the only step that a fault plans.
func do(t *testing.T, fault string, target experiment.Target) experiment.Step {
	t.Helper()
	f := chaos.All(proc.Host())[fault]()
	steps, err := f.Plan(t.Context(), "abcdef", target)
	must(t, err)
	if len(steps) != 1 {
		t.Fatalf("%d steps are planned", len(steps))
	}
	must(t, steps[0].Do.Apply(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ev, err := steps[0].Do.(experiment.Verifier).Verify(ctx)
	if err != nil || !ev.InForce {
		t.Fatalf("%s: %+v, %v", steps[0].Do, ev, err)
	}
	return steps[0]
}

// back takes a step back, twice, and wants its container to run.
func back(t *testing.T, step experiment.Step, s *Selector) experiment.Target {
	t.Helper()
	must(t, step.Undo.Apply(t.Context()))
	must(t, step.Undo.Apply(t.Context()))
	ev, err := step.Undo.(experiment.Verifier).Verify(t.Context())
	if err != nil || !ev.InForce {
		t.Fatalf("%s: %+v, %v", step.Undo, ev, err)
	}
	return one(t, s)
}

// TestDockerKilled wants a container without a policy to be started again by
// Simian, and one with a policy by its runtime.
func TestDockerKilled(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		t.Run("no policy", func(t *testing.T) {
			s := selector(t, r, runtime.New(), r.Run(t, image, "--network", "none"))
			target := one(t, s)
			if now := back(t, do(t, "kill", target), s); now.PIDs[0] == target.PIDs[0] {
				t.Error("it is the same process")
			}
		})
		t.Run("always", func(t *testing.T) {
			s := selector(t, r, runtime.New(), r.Run(t, image, "--network", "none", "--restart", "always"))
			target := one(t, s)
			step := do(t, "kill", target)
			if step.Undo != nil {
				t.Errorf("it would be taken back by %s", step.Undo)
			}
			if by := step.Do.(experiment.Leaning).Leans(); by != "restart: always" {
				t.Errorf("it leans on %q", by)
			}
			eventually(t, func() string {
				if found, err := s.Select(t.Context()); err != nil || found[0].ID == target.ID {
					return "it is not restarted"
				}
				return ""
			})
		})
		t.Run("removed when it ends", func(t *testing.T) {
			s := selector(t, r, runtime.New(), r.Run(t, image, "--network", "none", "--rm"))
			steps, err := chaos.All(proc.Host())["kill"]().Plan(t.Context(), "abcdef", one(t, s))
			if err != nil || steps[0].Undo != nil {
				t.Errorf("nothing could start it again, and the plan is %v, %v", steps, err)
			}
		})
	})
}

func TestDockerStopped(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		name := r.Run(t, image, "--network", "none", "--restart", "always", "--stop-timeout", "1")
		s := selector(t, r, runtime.New(), name)
		step := do(t, "stop", one(t, s))
		must(t, step.Do.Apply(t.Context())) // again
		if state := r.Command(t, "inspect", "--format", "{{.State.Running}}", name); state != "false" {
			t.Errorf("running is %s", state)
		}
		back(t, step, s)
		if err := step.Do.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("to stop what was started since: %v", err)
		}
		r.Remove(t, name)
		if err := step.Undo.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("to start what is removed: %v", err)
		}
	})
}

func TestDockerRemoved(t *testing.T) {
	both(t, func(t *testing.T, r dockertest.Runtime, image string) {
		s := selector(t, r, runtime.New(), r.Run(t, image, "--network", "none"))
		if step := do(t, "remove", one(t, s)); step.Undo != nil {
			t.Errorf("it would be taken back by %s", step.Undo)
		}
	})
}

// TestDockerHostSpaces wants a container with the host's PID namespace to be
// its own processes and nobody else's.
func TestDockerHostSpaces(t *testing.T) {
	dockertest.Need(t)
	image := dockertest.Docker.Image(t, dockertest.Program(t))
	name := dockertest.Docker.Run(t, image, "--network", "none", "--pid", "host")
	target := one(t, selector(t, dockertest.Docker, runtime.New(), name))
	within, err := proc.Host().Within(target)
	must(t, err)
	if len(within) != 1 || within[0].ID() != target.PIDs[0] {
		t.Errorf("its processes are %v", within)
	}
	if os.Getpid() == target.PIDs[0].PID {
		t.Error("it is this test")
	}
}

// TestDockerCached looks often while nothing changes, and then while names do.
func TestDockerCached(t *testing.T) {
	dockertest.Need(t)
	image := dockertest.Docker.Image(t, dockertest.Program(t))
	name := dockertest.Docker.Run(t, image, "--network", "none")
	s := selector(t, dockertest.Docker, runtime.New(), name)
	for range 3 {
		one(t, s)
	}
	const looks = 200
	start := time.Now()
	for range looks {
		one(t, s)
	}
	t.Logf("%s a look", time.Since(start)/looks)
	for range 3 {
		dockertest.Docker.Command(t, "rename", name, name+"-x")
		dockertest.Docker.Command(t, "rename", name+"-x", name)
	}
	eventually(t, func() string {
		if found, err := s.Select(t.Context()); err != nil || len(found) != 1 {
			return fmt.Sprint(found, err)
		}
		return ""
	})
}
