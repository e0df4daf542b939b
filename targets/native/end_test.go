package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
)

// TestHowItEnded tells exit codes, signals and the lack of memory apart.
func TestHowItEnded(t *testing.T) {
	t.Parallel()
	for _, init := range []bool{false, true} {
		for want, c := range map[string]struct {
			args   []string
			memory int64
			kill   unix.Signal
		}{
			"exit 0":            {args: []string{"exit", "0"}},
			"exit 3":            {args: []string{"exit", "3"}},
			"exit 137":          {args: []string{"exit", "137"}},
			"killed by SIGKILL": {args: []string{"sleep"}, memory: 64 << 20, kill: unix.SIGKILL},
			"out of memory":     {args: []string{"eat"}, memory: 32 << 20},
		} {
			t.Run(strings.ReplaceAll(want, " ", "-")+map[bool]string{true: "-init"}[init], func(t *testing.T) {
				t.Parallel()
				web := newService(t, "web", c.args...)
				web.Init, web.Limits.MemoryBytes, web.Limits.MemorySwapBytes = init, c.memory, c.memory
				s, err := raise(t.Context(), t, project(web))
				if err != nil && !strings.Contains(err.Error(), "web-1 has ended: "+want) { // it may have ended already
					t.Fatal(err)
				}
				if c.kill != 0 {
					must(t, unix.Kill(s.box("web").Process.PID, c.kill))
				}
				b := s.until("web", "ends", func(b Box) bool { return b.State == experiment.ContainerExited })
				if b.Exit != want || b.Process.PID != 0 {
					t.Errorf("%+v", b)
				}
			})
		}
	}
}

// TestInit has signals passed on by the reaper to the service, whose end is
// the container's.
func TestInit(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "gentle")
	web.Init = true
	s := up(t, web)
	s.said("web-1", "stdout: ready")
	if out, _ := s.exec("web-1", "head", "/proc/1/cmdline"); strings.HasPrefix(out, "/inside") || out == "" {
		t.Errorf("PID 1 is %q", out)
	}
	first := s.byName["web-1"].process
	if first.ID() == first.Workload() || s.box("web").Process != first.Workload() {
		t.Errorf("PID 1 is %v, the service %v, shown is %v", first.ID(), first.Workload(), s.box("web").Process)
	}
	s.byName["web-1"].stop(t.Context())
	b := s.until("web", "ends", func(b Box) bool { return b.State == experiment.ContainerExited })
	if s.said("web-1", "stdout: ended by terminated"); b.Exit != "exit 0" {
		t.Errorf("%+v", b)
	}
}

// TestInitOutlivesNothing ends a container whose service leaves others behind.
func TestInitOutlivesNothing(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "crowd", "3")
	web.Init = true
	s := up(t, web)
	s.said("web-1", "stdout: ready")
	must(t, unix.Kill(s.box("web").Process.PID, unix.SIGKILL))
	s.until("web", "ends", func(b Box) bool { return b.Exit == "killed by SIGKILL" })
	eventually(t, func() string {
		left, _ := filepath.Glob("/sys/fs/cgroup/*/" + s.box("web").Cgroup + "*/cgroup.procs")
		for _, file := range left {
			if data, err := os.ReadFile(file); err == nil && len(data) > 0 {
				return file + ": " + string(data)
			}
		}
		return ""
	})
}

// TestStopOrder stops first what depends on others, each by its own signal.
func TestStopOrder(t *testing.T) {
	t.Parallel()
	db, bus := newService(t, "db", "gentle"), newService(t, "bus", "gentle")
	db.StopSignal = "USR1"
	bus.StopSignal = "SIGUSR1"
	web := after(newService(t, "web", "gentle"), "db", startedCondition, "bus", startedCondition)
	edge := after(newService(t, "edge", "gentle"), "web", startedCondition)
	edge.Replicas = 2
	s := up(t, db, bus, web, edge)
	for _, c := range s.boxes {
		s.said(c.name, "stdout: ready")
	}
	s.Stop(t.Context())
	ended := func(name string) time.Time {
		return s.until(name, "has ended", func(b Box) bool { return b.Exit == "exit 0" }).Since
	}
	for _, c := range [][2]string{{"edge-1", "web-1"}, {"edge-2", "web-1"}, {"web-1", "db-1"}, {"web-1", "bus-1"}} {
		if !ended(c[0]).Before(ended(c[1])) {
			t.Errorf("%s ended at %s, %s at %s", c[0], ended(c[0]), c[1], ended(c[1]))
		}
	}
	s.said("db-1", "stdout: ended by user defined signal 1")
	s.said("bus-1", "stdout: ended by user defined signal 1")
	s.said("web-1", "stdout: ended by terminated")
}

// TestStopGrace waits for one that does not end by itself, and no longer.
func TestStopGrace(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "stubborn")
	web.Restart, web.StopGrace = Restart{Policy: "always"}, 200*time.Millisecond
	s := up(t, web)
	s.said("web-1", "stdout: ready")
	start := time.Now()
	s.Stop(t.Context())
	if took := time.Since(start); took < 200*time.Millisecond || s.box("web").Process.PID == 0 {
		t.Errorf("stopped after %s: %+v", took, s.box("web"))
	}
	s.down()
	if b := s.box("web"); b.Exit != "killed by SIGKILL" || b.Starts != 1 {
		t.Errorf("%+v", b)
	}
}

func TestNoGrace(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "stubborn")
	web.StopGrace = time.Hour
	s := up(t, web)
	must(t, NoGrace(s.dir()))
	s.Stop(t.Context())
	s.down()
	s = up(t, web)
	s.said("web-1", "stdout: ready")
	time.AfterFunc(50*time.Millisecond, func() { _ = NoGrace(s.dir()) }) // while it is being stopped
	s.Stop(t.Context())
}

// TestFrozenContainer takes down what stands still: on cgroup version 1 it
// dies only once it is thawed.
func TestFrozenContainer(t *testing.T) {
	t.Parallel()
	for _, signal := range []bool{false, true} {
		s := up(t, newService(t, "web", "sleep"), newService(t, "db", "sleep"))
		b := s.box("web")
		switch file := "/sys/fs/cgroup/freezer/" + b.Cgroup + "/freezer.state"; {
		case signal:
			must(t, unix.Kill(b.Process.PID, unix.SIGSTOP))
		case write(file, "FROZEN") != nil:
			must(t, write(filepath.Join("/sys/fs/cgroup", b.Cgroup, "cgroup.freeze"), "1"))
		}
		s.down()
	}
}

func write(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// TestCloseWithoutUndo leaves it to the kernel to kill what still runs.
func TestCloseWithoutUndo(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Restart = Restart{Policy: "always"}
	s := up(t, web, newService(t, "db", "stubborn"))
	before := s.State().Boxes
	must(t, s.Close())
	for _, b := range before {
		if proc0.Alive(b.Process) {
			t.Errorf("%s is alive", b.Name)
		}
	}
}

// TestLimits reads back what a container may use.
func TestLimits(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Limits = box.Limits{MemoryBytes: 64 << 20, Pids: 20, CPUs: 0.5}
	s := up(t, web)
	stats, err := box.ReadStats(proc0, s.box("web").Cgroup)
	if err != nil || stats.MemoryLimit != 64<<20 || stats.Pids == 0 {
		t.Errorf("%+v, %v", stats, err)
	}
}
