package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/report"
	dockertest "github.com/simianhq/simian/test/docker"
)

// onDocker is the action that does a fault to a container.
func onDocker(name, fault, length string) string {
	return fmt.Sprintf("  - {name: test, fault: {%s}, target: {type: docker, names: %s}, for: %s}\n", fault, name, length)
}

// dockerState is all that a fault may change of a container as it runs now.
func dockerState(t *testing.T, name string) string {
	t.Helper()
	host := proc.Host()
	found, err := newApp(nil, nil, nil).loader().Targets["docker"]().Select(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(found, func(t experiment.Target) bool { return t.Name == name })
	if i < 0 {
		return "it does not run"
	}
	seen, err := host.Observe(t.Context(), found[i])
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, o := range seen {
		lines = append(lines, o.Object+"\n"+strings.Join(o.Lines, "\n"))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestDockerRunnerKilled kills the runner by SIGKILL while a container is
// frozen, late, throttled: all is back within seconds. How soon, the log says.
func TestDockerRunnerKilled(t *testing.T) {
	needRoot(t)
	dockertest.Need(t)
	image := dockertest.Docker.Image(t, dockertest.Program(t))
	for _, fault := range []string{"type: freeze", "type: latency, delay: 100ms", "type: throttle, cpus: 0.2"} {
		t.Run(strings.Fields(strings.ReplaceAll(fault, ",", ""))[1], func(t *testing.T) {
			name := dockertest.Docker.Run(t, image, "--cpus", "1")
			l := newLab(t)
			file := l.file(onDocker(name, fault, "1m"))
			before := dockerState(t, name)
			var took []time.Duration
			for range 5 {
				c, _ := l.start(experiment.EventVerified, "run", file)
				if dockerState(t, name) == before {
					t.Fatal("nothing is seen of it")
				}
				_ = c.cmd.Process.Kill()
				start := time.Now()
				for end := start.Add(15 * time.Second); dockerState(t, name) != before; {
					if time.Now().After(end) {
						t.Fatalf("it is not as it was:\n%s\nbut\n%s", before, dockerState(t, name))
					}
				}
				took = append(took, time.Since(start))
				<-c.done
				l.waitForGuardians()
				l.clean()
			}
			slices.Sort(took)
			t.Logf("%s: back %s after SIGKILL (median of %d; %s)", fault, took[len(took)/2].Round(time.Millisecond/10), len(took), took)
		})
	}
}

// TestDockerKilled wants a container to come back by its policy, or by Simian.
func TestDockerKilled(t *testing.T) {
	needRoot(t)
	dockertest.Need(t)
	image := dockertest.Docker.Image(t, dockertest.Program(t))
	for policy, undone := range map[string]bool{"always": false, "no": true} {
		t.Run(policy, func(t *testing.T) {
			name := dockertest.Docker.Run(t, image, "--network", "none", "--restart", policy)
			before := dockertest.Docker.Command(t, "inspect", "--format", "{{.State.StartedAt}}", name)
			l := newLab(t)
			o := l.expect(0, "run", "-o", "json", l.file(onDocker(name, "type: kill", "500ms")))
			var r report.Result
			if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || r.Verdict != experiment.Pass {
				t.Fatalf("%s, %v\n%s", r.Verdict, err, o.stdout)
			}
			l.clean()
			now := dockertest.Docker.Command(t, "inspect", "--format", "{{.State.Running}} {{.State.StartedAt}}", name)
			if running, started, _ := strings.Cut(now, " "); running != "true" || started == before {
				t.Errorf("it is %s, and was started at %s", now, before)
			}
			if got := strings.Contains(o.stdout+o.stderr, "start "+name) || len(l.eventsOf(r.Run)) > 0 && hasUndo(l.eventsOf(r.Run)); got != undone {
				t.Errorf("taken back by Simian: %v, want %v\n%s", got, undone, o.stdout)
			}
		})
	}
}

// hasUndo tells whether a step was taken back.
func hasUndo(events []experiment.Event) bool {
	return slices.ContainsFunc(events, func(e experiment.Event) bool { return e.Kind == experiment.EventUndone })
}

// TestDockerErrors wants one clear error for what can't be done, with nothing
// touched.
func TestDockerErrors(t *testing.T) {
	needRoot(t)
	dockertest.Need(t)
	image := dockertest.Docker.Image(t, dockertest.Program(t))
	hostNet := dockertest.Docker.Run(t, image, "--network", "host")
	protected := dockertest.Docker.Run(t, image, "--network", "none", "--label", "simian.dev/protect=true")
	paused := dockertest.Docker.Run(t, image, "--network", "none")
	dockertest.Docker.Command(t, "pause", paused)
	for name, c := range map[string]struct {
		method, env, want string
	}{
		"protected":      {onDocker(protected, "type: freeze", "1s"), "", protected + " has the label simian.dev/protect=true"},
		"paused":         {onDocker(paused, "type: freeze", "1s"), "", paused + " (paused): not running, or standing still"},
		"removed":        {onDocker(hostNet, "type: remove", "1s"), "", "say irreversible: true"},
		"no Docker":      {onDocker("x", "type: freeze", "1s"), "DOCKER_HOST=unix:///none.sock", "ask Docker at /none.sock: none runs there (DOCKER_HOST or DOCKER_CONTEXT names another one)"},
		"not there":      {onDocker(paused+"x", "type: freeze", "1s"), "", "did you mean " + paused + "?"},
		"stop by signal": {onDocker(hostNet, "type: stop, signal: INT", "1s"), "", "takes no signal for a stop"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			if c.env != "" {
				l.env = []string{c.env}
			}
			o := l.simian("run", l.file(c.method))
			if o.code != 6 && o.code != 2 || !strings.Contains(o.stderr+o.stdout, c.want) {
				t.Errorf("exit %d, want 6 or 2 and %q\n%s%s", o.code, c.want, o.stdout, o.stderr)
			}
			l.clean()
		})
	}
}
