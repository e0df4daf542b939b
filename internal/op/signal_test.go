package op

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/proc"
)

func TestSignalConformance(t *testing.T) {
	t.Parallel()
	var p *prey
	experimenttest.Op(t, experimenttest.OpCase{
		Ops: All(host),
		Step: func(t testing.TB) experiment.Step {
			p = newPrey(t)
			return experiment.Step{Do: NewSignal(host, p.id, "sleep", "KILL")}
		},
		Snapshot: func() string {
			if host.Alive(p.id) {
				return "alive"
			}
			return "gone"
		},
		Gone:   func(testing.TB) { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() },
		NoUndo: true,
	})
}

// TestEverySignal sends each signal to a process that does nothing about it.
func TestEverySignal(t *testing.T) {
	t.Parallel()
	names := SignalNames()
	if len(names) != 31 {
		t.Errorf("%d names: %v", len(names), names)
	}
	for _, name := range names {
		n := SignalNumber(name)
		if n == 0 || SignalNumber("SIG"+name) != n {
			t.Errorf("%s is %d, SIG%s is %d", name, n, name, SignalNumber("SIG"+name))
		}
		if stops(n) {
			continue // freeze does that; kill refuses them
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPrey(t)
			fd, err := proc.OpenPidfd(p.id)
			must(t, err)
			defer unix.Close(fd)
			s := NewSignal(host, p.id, "sleep", name)
			must(t, s.Apply(t.Context()))
			ev, err := s.Verify(within(t, 5*time.Second))
			must(t, err)
			if ignored := ignoredByDefault(n); ev.InForce == ignored || ignored != (ev.Felt == experiment.FeltNo) || ignored && ev.Hint == "" {
				t.Errorf("evidence %+v", ev)
			}
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, _ := unix.Poll(fds, 0); (n == 1) != ev.InForce {
				t.Errorf("its pidfd says exited: %v; evidence %+v", n == 1, ev)
			}
		})
	}
	for _, name := range []string{"", "SIG", "NONE", "kill", "SIGSIGKILL", "9", "RTMIN"} {
		if n := SignalNumber(name); n != 0 {
			t.Errorf("%q is %d", name, n)
		}
	}
}

// TestSignalAndMasks sends HUP to processes that do something about it.
func TestSignalAndMasks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		role    []string
		inForce bool
		felt    experiment.Felt
		what    string
	}{
		{"ignored", []string{"ignore", "HUP"}, false, experiment.FeltNo, "ignores HUP"},
		{"blocked", []string{"block", "HUP"}, false, experiment.FeltNo, "blocks HUP"},
		{"caught", []string{"catch", "HUP"}, true, experiment.FeltYes, "handled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPrey(t, c.role...)
			s := NewSignal(host, p.id, "web", "HUP")
			must(t, s.Apply(t.Context()))
			ev, err := s.Verify(within(t, 200*time.Millisecond))
			if err != nil || ev.InForce != c.inForce || ev.Felt != c.felt || !strings.Contains(ev.What, c.what) || !c.inForce && ev.Hint == "" {
				t.Errorf("evidence %+v, %v", ev, err)
			}
			if !host.Alive(p.id) {
				t.Error("it is dead")
			}
		})
	}
	t.Run("pending on a stopped process", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t)
		must(t, unix.Kill(p.id.PID, unix.SIGSTOP))
		await(t, "stop", func() bool { return p.state() == "T" })
		s := NewSignal(host, p.id, "sleep", "TERM")
		must(t, s.Apply(t.Context()))
		ev, err := s.Verify(within(t, 100*time.Millisecond))
		if err != nil || ev.InForce || !strings.Contains(ev.What, "pending") || !strings.Contains(ev.Hint, "stopped") {
			t.Errorf("evidence %+v, %v", ev, err)
		}
		must(t, unix.Kill(p.id.PID, unix.SIGCONT))
		if ev, err := s.Verify(within(t, 5*time.Second)); err != nil || !ev.InForce {
			t.Errorf("once it goes on: %+v, %v", ev, err)
		}
	})
	t.Run("KILL to a stopped process", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t)
		must(t, unix.Kill(p.id.PID, unix.SIGSTOP))
		s := NewSignal(host, p.id, "sleep", "KILL")
		must(t, s.Apply(t.Context()))
		if ev, err := s.Verify(within(t, 5*time.Second)); err != nil || !ev.InForce {
			t.Errorf("evidence %+v, %v", ev, err)
		}
	})
	t.Run("KILL to a process of many threads", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t, "threads")
		s := NewSignal(host, p.id, "web", "KILL")
		must(t, s.Apply(t.Context()))
		if ev, err := s.Verify(within(t, 5*time.Second)); err != nil || !ev.InForce || host.Alive(p.id) {
			t.Errorf("evidence %+v, %v", ev, err)
		}
	})
}

// TestIdentity has ops meet another process than the one planned: it must not
// get a signal.
func TestIdentity(t *testing.T) {
	t.Parallel()
	ops := func(id experiment.ProcessID) []experiment.Op {
		return []experiment.Op{
			NewSignal(host, id, "web", "KILL"), NewSignal(host, id, "web", "HUP"),
			NewStop(host, id, "web", true), NewStop(host, id, "web", false),
		}
	}
	t.Run("the pid was reused", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t)
		must(t, unix.Kill(p.id.PID, unix.SIGSTOP)) // what takes back must not take this back
		await(t, "stop", func() bool { return p.state() == "T" })
		for _, start := range []uint64{p.id.Start - 1, p.id.Start + 1, 0} {
			for _, op := range ops(experiment.ProcessID{PID: p.id.PID, Start: start}) {
				if err := op.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
					t.Errorf("%s: %v, want ErrGone", op, err)
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
		sigs, err := host.Signals(p.id.PID)
		if err != nil || sigs.Pending != 0 || p.state() != "T" {
			t.Errorf("it got %x (%v), and is %s", sigs.Pending, err, p.state())
		}
	})
	t.Run("a zombie", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t)
		must(t, p.cmd.Process.Kill())
		await(t, "zombie", func() bool { return p.state() == "Z" })
		for _, op := range ops(p.id) {
			if err := op.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
				t.Errorf("%s: %v, want ErrGone", op, err)
			}
		}
		if ev, err := NewSignal(host, p.id, "web", "KILL").Verify(t.Context()); err != nil || !ev.InForce {
			t.Errorf("evidence %+v, %v", ev, err)
		}
	})
	t.Run("no such process", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t)
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		for _, op := range ops(p.id) {
			if err := op.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
				t.Errorf("%s: %v, want ErrGone", op, err)
			}
		}
	})
}

func TestStopConformance(t *testing.T) {
	t.Parallel()
	for name, role := range map[string][]string{"one thread": nil, "many threads": {"threads"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *prey
			experimenttest.Op(t, experimenttest.OpCase{
				Ops: All(host),
				Step: func(t testing.TB) experiment.Step {
					p = newPrey(t, role...)
					return experiment.Step{Do: NewStop(host, p.id, "web", true), Undo: NewStop(host, p.id, "web", false)}
				},
				Snapshot: func() string { return p.threads() },
				Gone:     func(testing.TB) { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() },
			})
		})
	}
}

// threads tells in one word whether the process is stopped.
func (p *prey) threads() string {
	threads, err := host.Threads(p.id.PID)
	if err != nil {
		return "gone"
	}
	stopped := func(s proc.Stat) bool { return s.State == 'T' }
	switch {
	case !slices.ContainsFunc(threads, stopped):
		return "running"
	case slices.ContainsFunc(threads, func(s proc.Stat) bool { return !stopped(s) }):
		return "partly stopped"
	}
	return "stopped"
}

func TestCheckStoppable(t *testing.T) {
	t.Parallel()
	p := newPrey(t, "threads")
	must(t, CheckStoppable(host, p.id, "web"))
	must(t, unix.Kill(p.id.PID, unix.SIGSTOP))
	await(t, "stop", func() bool { return p.threads() == "stopped" })
	if err := CheckStoppable(host, p.id, "web"); !errors.Is(err, experiment.ErrBusy) {
		t.Errorf("stopped: %v, want ErrBusy", err)
	}
	if err := CheckStoppable(host, experiment.ProcessID{PID: p.id.PID, Start: 1}, "web"); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("another: %v, want ErrGone", err)
	}
}

// TestStopTakenBackEarly takes a stop back that the process has not come to
// yet: it must not stop afterwards.
func TestStopTakenBackEarly(t *testing.T) {
	t.Parallel()
	t.Run("while it is frozen", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t)
		dir := newCgroup(t, FreezerV1, p)
		must(t, writeFile(dir.Path, FreezerV1, true))
		must(t, NewStop(host, p.id, "web", true).Apply(t.Context()))
		must(t, NewStop(host, p.id, "web", false).Apply(t.Context()))
		must(t, writeFile(dir.Path, FreezerV1, false))
		time.Sleep(50 * time.Millisecond)
		if got := p.threads(); got != "running" {
			t.Errorf("it is %s", got)
		}
	})
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		p := newPrey(t, "threads")
		rounds := 3000
		if testing.Short() { // on an emulated kernel they would outlast their victim
			rounds = 200
		}
		for i := range rounds {
			must(t, NewStop(host, p.id, "web", true).Apply(t.Context()))
			must(t, NewStop(host, p.id, "web", false).Apply(t.Context()))
			ev, err := NewStop(host, p.id, "web", false).Verify(t.Context())
			if err != nil || !ev.InForce {
				t.Fatalf("%+v, %v", ev, err)
			}
			time.Sleep(200 * time.Microsecond)
			if got := p.threads(); got != "running" {
				t.Fatalf("round %d: it is %s", i, got)
			}
		}
	})
}
