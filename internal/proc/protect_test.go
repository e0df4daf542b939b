package proc

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

func protection(t *testing.T) *Protection {
	t.Helper()
	p, err := Host().Protected()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refused checks that a process is protected for a reason, by every way in.
func refused(t *testing.T, pid int, reason string) {
	t.Helper()
	p := protection(t)
	if why := p.Why(pid); !strings.Contains(why, reason) {
		t.Errorf("pid %d: %q, want %q", pid, why, reason)
	}
	target := experiment.Target{Name: "test", PIDs: []experiment.ProcessID{{PID: pid}}}
	err := p.Check(target)
	if !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), reason) {
		t.Errorf("check: %v", err)
	}
}

func TestProtectedHostInit(t *testing.T) { refused(t, 1, "the host's init") }
func TestProtectedSelf(t *testing.T)     { refused(t, os.Getpid(), "Simian itself") }
func TestProtectedParent(t *testing.T)   { refused(t, os.Getppid(), "ancestor of Simian") }
func TestProtectedInvisible(t *testing.T) {
	refused(t, 0, "in a PID namespace that this one cannot see")
}

func TestProtectedGrandparent(t *testing.T) {
	parent, err := Host().Stat(os.Getppid())
	if err != nil {
		t.Fatal(err)
	}
	if parent.PPID <= 1 {
		t.Skip("the test's parent is the host's init's child")
	}
	refused(t, parent.PPID, "ancestor of Simian")
}

func TestProtectedKernelThread(t *testing.T) {
	if s, err := Host().Stat(2); err != nil || !s.Kernel() {
		t.Skipf("pid 2 is no kernel thread: a PID namespace of its own (%v)", err)
	}
	refused(t, 2, "a kernel thread")
}

func TestProtectedSecondStart(t *testing.T) {
	t.Parallel()
	cmd := start(t, os.Args[0], "wait")
	refused(t, cmd.Process.Pid, "another process of Simian")
}

func TestProtectedByFirstArgument(t *testing.T) {
	for _, name := range []string{"simian", "/usr/local/bin/simian", "simian-guardian"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("sleep", "300")
			cmd.Args[0] = name
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			await(t, func() bool {
				args, err := Host().Cmdline(cmd.Process.Pid)
				return err == nil && len(args) > 0 && args[0] == name
			})
			refused(t, cmd.Process.Pid, "another process of Simian")
		})
	}
}

func TestProtectedDaemons(t *testing.T) {
	for name, reason := range map[string]string{
		"dockerd": "container runtime", "containerd": "container runtime",
		"containerd-shim": "container runtime", "containerd-shim-runc-v2": "container runtime",
		"runc": "container runtime", "crun": "container runtime", "conmon": "container runtime",
		"podman": "container runtime", "crio": "container runtime",
		"kubelet": "Kubernetes", "systemd": "systemd", "systemd-journald": "systemd",
		"dbus-daemon": "message bus", "dbus-broker": "message bus", "dbus-broker-launch": "message bus",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, copied(t, name), reason)
		})
	}
}

func TestNotProtected(t *testing.T) {
	for _, name := range []string{"worker", "simian-quickstart", "dockerd-proxy", "mycontainerd", "podman2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pid := copied(t, name)
			if err := protection(t).Check(target(t, pid)); err != nil {
				t.Error(err)
			}
		})
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	if why := protection(t).Why(gone.Process.Pid); why != "" {
		t.Error("a process that is gone:", why)
	}
}

func TestProtectedByLabel(t *testing.T) {
	t.Parallel()
	got := target(t, sleeper(t))
	got.Labels = map[string]string{ProtectLabel: "true"}
	err := protection(t).Check(got)
	if !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), ProtectLabel) {
		t.Error(err)
	}
	got.Labels[ProtectLabel] = "false"
	if err := protection(t).Check(got); err != nil {
		t.Error(err)
	}
}

func TestProtectedInACgroup(t *testing.T) {
	dir := makeCgroup(t, "freezer", "protected")
	below := makeDir(t, dir+"/below")
	join(t, dir, sleeper(t))
	if err := protection(t).CheckCgroup(dir); err != nil {
		t.Error(err)
	}
	join(t, below, copied(t, "dockerd"))
	err := protection(t).CheckCgroup(dir)
	if !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "dockerd") {
		t.Error(err)
	}
	if err := protection(t).CheckCgroup(cgroupRoot(t, "freezer")); !errors.Is(err, experiment.ErrProtected) {
		t.Error("the root of a hierarchy:", err)
	}
}

func BenchmarkWhy(b *testing.B) {
	p, err := Host().Protected()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for b.Loop() {
		p.Why(cmd.Process.Pid)
	}
}
