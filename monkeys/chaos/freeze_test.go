package chaos

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
)

var backends = []string{op.FreezerV1, op.FreezerV2, "SIGSTOP"}

func place(t testing.TB, p *prey, backend string) *prey {
	t.Helper()
	if backend == "SIGSTOP" {
		return p
	}
	return p.inCgroup(t, backend)
}

func TestFreezeConformance(t *testing.T) {
	t.Parallel()
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			var p *prey
			c := experimenttest.FaultCase{
				Fault: &Freeze{fs: host}, Ops: op.All(host), Snapshot: snapshot,
				Target: func(t testing.TB) experiment.Target {
					p = place(t, newPrey(t), backend)
					return p.target(t)
				},
			}
			if backend == "SIGSTOP" {
				c.Fault = &Freeze{Backend: "signal", fs: host}
			}
			c.Gone = func(t testing.TB, _ experiment.Target) {
				p.kill()
				if p.cgroup != "" { // another one comes, of the same path
					must(t, os.Remove(p.cgroup))
					must(t, os.Mkdir(p.cgroup, 0o755))
				}
			}
			experimenttest.Fault(t, c)
		})
	}
}

// TestFreezeBackend asks which backend is planned for what.
func TestFreezeBackend(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, backend, in string
		want              string // the backend planned, or the error
	}{
		{"own v1 cgroup", "", op.FreezerV1, op.FreezerV1},
		{"own v2 cgroup", "", op.FreezerV2, op.FreezerV2},
		{"no cgroup of its own", "", "SIGSTOP", "SIGSTOP"},
		{"signal is forced", "signal", op.FreezerV2, "SIGSTOP"},
		{"cgroup is forced", "cgroup", op.FreezerV1, op.FreezerV1},
		{"cgroup is forced, and there is none", "cgroup", "SIGSTOP", "no cgroup of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := place(t, newPrey(t), c.in)
			steps, err := (&Freeze{Backend: c.backend, fs: host}).Plan(t.Context(), "abcd23", p.target(t))
			if err != nil {
				if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("it gives %v, want %s", err, c.want)
				}
				return
			}
			if got := steps[0].Do.(experiment.Backed).Backend(); len(steps) != 1 || got != c.want {
				t.Errorf("%d steps, backend %s, want %s", len(steps), got, c.want)
			}
		})
	}
	t.Run("a cgroup shared with another", func(t *testing.T) {
		t.Parallel()
		p, other := newPrey(t).inCgroup(t, op.FreezerV1), newPrey(t)
		must(t, os.WriteFile(filepath.Join(p.cgroup, "cgroup.procs"), []byte(strconv.Itoa(other.id.PID)), 0))
		t.Cleanup(other.kill)
		steps, err := (&Freeze{fs: host}).Plan(t.Context(), "abcd23", p.target(t))
		must(t, err)
		if got := steps[0].Do.(experiment.Backed).Backend(); got != "SIGSTOP" {
			t.Errorf("backend %s: it would freeze the other too", got)
		}
	})
}

// TestFreezeBusy meets what stands still already, by somebody else.
func TestFreezeBusy(t *testing.T) {
	t.Parallel()
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			p := place(t, newPrey(t), backend)
			switch backend {
			case op.FreezerV1:
				must(t, os.WriteFile(filepath.Join(p.cgroup, "freezer.state"), []byte("FROZEN"), 0))
			case op.FreezerV2:
				must(t, os.WriteFile(filepath.Join(p.cgroup, "cgroup.freeze"), []byte("1"), 0))
			default:
				must(t, unix.Kill(p.id.PID, unix.SIGSTOP))
			}
			target := p.target(t)
			await(t, "busy", func() bool {
				_, err := (&Freeze{fs: host}).Plan(t.Context(), "abcd23", target)
				return errors.Is(err, experiment.ErrBusy)
			})
			if backend == op.FreezerV2 {
				must(t, os.WriteFile(filepath.Join(p.cgroup, "cgroup.freeze"), []byte("0"), 0))
			}
		})
	}
}

// TestUnprivileged plans as a user who may not touch the target: that must be
// found out now, not when it is too late.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	p := newPrey(t)
	inV1 := newPrey(t).inCgroup(t, op.FreezerV1)
	for _, c := range []struct {
		what string
		pid  int
	}{
		{"kill PID", p.id.PID},
		{"freeze PID", p.id.PID},
		{"freeze PID signal", p.id.PID},
		{"freeze PID cgroup", inV1.id.PID},
		{"clock PID", p.id.PID},
	} {
		t.Run(c.what, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Dir = "/"
			cmd.Env = append(os.Environ(), planEnv+"="+strings.Replace(c.what, "PID", strconv.Itoa(c.pid), 1))
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			out, err := cmd.CombinedOutput()
			must(t, err)
			if got := string(out); !strings.HasPrefix(got, "permission: ") || !strings.Contains(got, "needs root") && !strings.HasSuffix(c.what, "cgroup") { // CheckFreezer does not say it yet
				t.Errorf("it gives %s", got)
			}
			if !host.Alive(p.id) || !host.Alive(inV1.id) {
				t.Error("it is dead")
			}
		})
	}
}

func TestFreezeValidate(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]string{"": "", "cgroup": "", "signal": "", "docker": "unknown backend \"docker\"", "Cgroup": "unknown backend"} {
		if err := (&Freeze{Backend: backend}).Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", backend, err, want)
		}
	}
}
