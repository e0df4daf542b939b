package op

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/proc"
)

func versions(t *testing.T, fn func(t *testing.T, version string)) {
	t.Helper()
	for _, version := range []string{FreezerV1, FreezerV2} {
		t.Run(version, func(t *testing.T) { t.Parallel(); fn(t, version) })
	}
}

func TestFreezerConformance(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version string) {
		var dir experiment.CgroupDir
		experimenttest.Op(t, experimenttest.OpCase{
			Ops: All(host),
			Step: func(t testing.TB) experiment.Step {
				dir = newCgroup(t, version, newPrey(t), newPrey(t))
				return experiment.Step{Do: NewFreezer(host, dir, version, true), Undo: NewFreezer(host, dir, version, false)}
			},
			Snapshot: func() string {
				state, err := freezerState(dir.Path, version)
				if err != nil {
					return "gone"
				}
				return state
			},
		})
	})
}

// TestFreezerGone removes the cgroup, and makes another at the same path.
func TestFreezerGone(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version string) {
		dir := newCgroup(t, version)
		must(t, os.Remove(dir.Path))
		ops := []*Freezer{NewFreezer(host, dir, version, true), NewFreezer(host, dir, version, false)}
		gone := func(what string) {
			for _, op := range ops {
				if err := op.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
					t.Errorf("%s: %s: %v, want ErrGone", what, op, err)
				}
				if _, err := op.Verify(t.Context()); !errors.Is(err, experiment.ErrGone) {
					t.Errorf("%s: verify %s: %v, want ErrGone", what, op, err)
				}
			}
		}
		gone("removed")
		must(t, os.Mkdir(dir.Path, 0o755))
		p := newPrey(t)
		join(t, dir.Path, p.id.PID)
		t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
		gone("made anew")
		if state, err := freezerState(dir.Path, version); err != nil || state != "thawed" {
			t.Errorf("the other one is %s, %v", state, err)
		}
		must(t, writeFile(dir.Path, version, true))
		gone("frozen by somebody else")
		must(t, writeFile(dir.Path, version, false))
	})
}

// TestFreezerProtected has a process that must not be frozen move in after the
// plan.
func TestFreezerProtected(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version string) {
		dir := newCgroup(t, version, newPrey(t))
		freeze := NewFreezer(host, dir, version, true)
		guardian := newPrey(t, "threads") // this very program: Simian's own
		below := filepath.Join(dir.Path, "below")
		must(t, os.Mkdir(below, 0o755))
		t.Cleanup(func() {
			_ = guardian.cmd.Process.Kill()
			_ = guardian.cmd.Wait()
			await(t, "rmdir", func() bool { return os.Remove(below) == nil })
		})
		join(t, below, guardian.id.PID)
		if err := freeze.Apply(t.Context()); !errors.Is(err, experiment.ErrProtected) {
			t.Errorf("it gives %v, want ErrProtected", err)
		}
		if state, err := freezerState(dir.Path, version); err != nil || state != "thawed" {
			t.Errorf("it is %s, %v", state, err)
		}
		must(t, NewFreezer(host, dir, version, false).Apply(t.Context())) // thawing hurts nobody
	})
}

func TestCheckThawed(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version string) {
		dir := newCgroup(t, version, newPrey(t))
		must(t, CheckThawed(dir, version))
		below := filepath.Join(dir.Path, "below")
		must(t, os.Mkdir(below, 0o755))
		defer os.Remove(below)
		must(t, writeFile(dir.Path, version, true))
		for _, path := range []string{dir.Path, below} {
			at := experiment.CgroupDir{Path: path}
			await(t, "busy", func() bool { return errors.Is(CheckThawed(at, version), experiment.ErrBusy) })
		}
		must(t, writeFile(dir.Path, version, false))
		if err := CheckThawed(experiment.CgroupDir{Path: dir.Path + "-none"}, version); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("none: %v, want ErrGone", err)
		}
	})
	t.Run("about to be frozen", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.freeze"), []byte("1\n"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.events"), []byte("populated 1\nfrozen 0\n"), 0o600))
		if err := CheckThawed(experiment.CgroupDir{Path: dir}, FreezerV2); !errors.Is(err, experiment.ErrBusy) {
			t.Errorf("it gives %v, want ErrBusy", err)
		}
	})
}

// TestFreezerVerify has somebody else thaw, and freeze, against the op.
func TestFreezerVerify(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version string) {
		dir := newCgroup(t, version, newPrey(t))
		freeze, thaw := NewFreezer(host, dir, version, true), NewFreezer(host, dir, version, false)
		must(t, freeze.Apply(t.Context()))
		inForce(t, freeze)
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if ev, err := thaw.Verify(short); err != nil || ev.InForce {
			t.Errorf("thawed: %+v, %v", ev, err)
		}
		must(t, writeFile(dir.Path, version, false))
		if ev, err := freeze.Verify(short); err != nil || ev.InForce || ev.Hint == "" {
			t.Errorf("frozen: %+v, %v", ev, err)
		}
	})
}

// busy is a process that writes to a file as fast as it can.
func busy(t *testing.T) (p *prey, written func() int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "written")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	cmd := exec.Command("sh", "-c", "while :; do echo; done")
	cmd.Stdout = f
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	written = func() int64 {
		info, err := os.Stat(path)
		must(t, err)
		return info.Size()
	}
	await(t, "a line", func() bool { return written() > 0 })
	return &prey{cmd, id}, written
}

// TestStandsStill measures what is frozen: it uses no CPU and writes nothing;
// then it goes on.
func TestStandsStill(t *testing.T) { // not beside others: it measures
	for _, backend := range []string{FreezerV1, FreezerV2, "SIGSTOP"} {
		t.Run(backend, func(t *testing.T) {
			p, written := busy(t)
			step := experiment.Step{Do: NewStop(host, p.id, "sh", true), Undo: NewStop(host, p.id, "sh", false)}
			if backend != "SIGSTOP" {
				dir := newCgroup(t, backend, p)
				step = experiment.Step{Do: NewFreezer(host, dir, backend, true), Undo: NewFreezer(host, dir, backend, false)}
			}
			if b, ok := step.Do.(experiment.Backed); !ok || b.Backend() != backend {
				t.Errorf("backend %q", b.Backend())
			}
			must(t, step.Do.Apply(t.Context()))
			inForce(t, step.Do)
			before, cpu := written(), cpuOf(t, p)
			time.Sleep(100 * time.Millisecond)
			if n, used := written()-before, cpuOf(t, p)-cpu; n > 0 || used > 0 {
				t.Errorf("frozen, it wrote %d bytes and used %s of CPU", n, used)
			}
			must(t, step.Undo.Apply(t.Context()))
			inForce(t, step.Undo)
			await(t, "more lines", func() bool { return written() > before })
			if !host.Alive(p.id) {
				t.Error("it is dead")
			}
		})
	}
}

func inForce(t *testing.T, op experiment.Op) {
	t.Helper()
	if ev, err := op.(experiment.Verifier).Verify(within(t, 5*time.Second)); err != nil || !ev.InForce {
		t.Fatalf("%s: %+v, %v", op, ev, err)
	}
}

func cpuOf(t *testing.T, p *prey) time.Duration {
	t.Helper()
	st, err := host.Stat(p.id.PID)
	must(t, err)
	return st.CPU
}

// TestKilledByPidfd asks the kernel, not /proc, whether a killed process is
// gone; a signal to a frozen one waits for it.
func TestKilledByPidfd(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, version string) {
		p := newPrey(t)
		dir := newCgroup(t, version, p)
		fd, err := proc.OpenPidfd(p.id)
		must(t, err)
		defer unix.Close(fd)
		must(t, NewFreezer(host, dir, version, true).Apply(t.Context()))
		inForce(t, NewFreezer(host, dir, version, true))
		kill := NewSignal(host, p.id, "sleep", "KILL")
		must(t, kill.Apply(t.Context()))
		ev, err := kill.Verify(within(t, 200*time.Millisecond))
		if dies := version == FreezerV2; err != nil || ev.InForce != dies {
			t.Errorf("frozen: %+v, %v", ev, err)
		}
		must(t, NewFreezer(host, dir, version, false).Apply(t.Context()))
		inForce(t, kill)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 5000); n != 1 {
			t.Errorf("its pidfd does not report it: %v", err)
		}
	})
}
