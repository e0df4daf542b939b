package native

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// TestHealth follows a container from not healthy to healthy, and back.
func TestHealth(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "sleep"), "there", "/data/ready")
	data := t.TempDir()
	web.Mounts = []Mount{{Type: "bind", Source: data, Target: "/data", ReadOnly: true}}
	web.Health.Retries, web.Health.StartPeriod, web.Health.Interval = 2, time.Hour, 20*time.Millisecond
	web.Health.StartInterval = 20 * time.Millisecond
	time.AfterFunc(150*time.Millisecond, func() { _ = os.WriteFile(data+"/ready", nil, 0o644) })
	s := up(t, web)
	b := s.until("web", "is healthy", func(b Box) bool { return b.State == experiment.ContainerHealthy })
	if b.Health != "" || b.Starts != 1 {
		t.Errorf("%+v", b)
	}
	s.byName["web-1"].health.StartPeriod = 0
	must(t, os.Remove(data+"/ready"))
	b = s.until("web", "is unhealthy", func(b Box) bool { return b.State == experiment.ContainerUnhealthy })
	if !strings.Contains(b.Health, "exit 1: stat /data/ready: no such file") || b.Process.PID == 0 || b.Starts != 1 {
		t.Errorf("%+v", b)
	}
	must(t, os.WriteFile(data+"/ready", nil, 0o644))
	s.until("web", "is healthy again", func(b Box) bool { return b.State == experiment.ContainerHealthy })
}

func TestHealthCheckThatHangs(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "sleep"), "stubborn")
	web.Health.Timeout, web.Health.Retries = 50*time.Millisecond, 2
	start := time.Now()
	s := cannotRaise(t, project(web), 20*time.Second, "web-1 is unhealthy: no answer of its health check within 50ms")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("that took %s", took)
	}
	if n := processesIn(s.cgroup() + "/web-1"); n > 1 {
		t.Errorf("%d processes in it: checks that hung are left", n)
	}
}

// processesIn counts the processes of a cgroup.
func processesIn(name string) int {
	for _, dir := range []string{"/sys/fs/cgroup/pids/", "/sys/fs/cgroup/"} {
		if data, err := os.ReadFile(dir + name + "/cgroup.procs"); err == nil {
			return len(strings.Fields(string(data)))
		}
	}
	return 0
}

// TestHealthCheckThatLeavesOthers passes, though what it leaves keeps its
// output open.
func TestHealthCheckThatLeavesOthers(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "sleep"), "orphan")
	web.Health.Interval = time.Hour
	s := up(t, web)
	if b := s.box("web"); b.State != experiment.ContainerHealthy {
		t.Errorf("%+v", b)
	}
}

// TestHealthCheckThatSaysMuch keeps the beginning of it.
func TestHealthCheckThatSaysMuch(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "sleep"), "both", "100000")
	s := up(t, web)
	if b := s.box("web"); b.State != experiment.ContainerHealthy {
		t.Errorf("%+v", b)
	}
}

func TestHealthCheckThatIsNotThere(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Health = &Health{Test: []string{"CMD-SHELL", "true"}, Interval: 10 * time.Millisecond, Timeout: time.Second, Retries: 2}
	cannotRaise(t, project(web), 20*time.Second, "web-1 is unhealthy", `exec: "/bin/sh": no such file or directory`)
}

func TestNoHealthCheck(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Health = &Health{Test: []string{"NONE"}}
	if b := up(t, web).box("web"); b.State != experiment.ContainerRunning {
		t.Errorf("%+v", b)
	}
}

// TestHealthOfWhatDies has a container whose check passes killed again and
// again: it is never healthy and down at once.
func TestHealthOfWhatDies(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "sleep"), "there", "/")
	web.Health.Interval = time.Millisecond
	web.Restart = Restart{Policy: "always", Delay: time.Millisecond, Window: time.Millisecond}
	s := up(t, web)
	for range 20 {
		b := s.until("web", "runs", func(b Box) bool { return b.State == experiment.ContainerHealthy })
		if b.Process.PID == 0 {
			t.Fatalf("healthy, and down: %+v", b)
		}
		must(t, unix.Kill(b.Process.PID, unix.SIGKILL))
		s.until("web", "ends", func(now Box) bool { return now.Process != b.Process })
	}
	marks := s.told("web-1")
	for i, m := range marks[1:] {
		before := marks[i]
		if m.State == experiment.ContainerHealthy && (before.Start != m.Start || before.State == experiment.ContainerExited) {
			t.Errorf("%+v comes after %+v", m, before)
		}
	}
}

// TestEagerWaits never come to nothing, however long a container takes.
func TestEagerWaits(t *testing.T) {
	t.Parallel()
	h := Health{Test: []string{"CMD", "x"}, StartInterval: time.Minute}.withDefaults()
	wait, before := time.Duration(0), time.Duration(0)
	for range 100 {
		if wait, before = h.early(wait), wait; wait < before || wait == 0 || wait > healthInterval {
			t.Fatalf("wait %s after %s", wait, before)
		}
	}
}
