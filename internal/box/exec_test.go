package box

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// execute runs a further process in p and returns what it has written.
func execute(t testing.TB, l *Launcher, p *Process, s *ExecSpec, in *os.File) (string, Exit) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := l.Exec(context.Background(), p.ID(), s, Stdio{In: in, Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String(), x.Wait()
}

// A further process sees the same as the first: namespaces, cgroup,
// capabilities, root.
func TestExecJoins(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, init := range map[string]bool{"PID 1": false, "init": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t, "sleep")
			s.Init, s.Cgroup = init, newCgroup(t, Limits{})
			first := see(t, l, s)
			s.Args = []string{"/inside", "sleep"}
			p, _ := start(t, l, s)
			out, exit := execute(t, l, p, &ExecSpec{Args: []string{"/inside", "see"}, Caps: s.Caps, NoNewPrivs: true}, nil)
			var further report
			if err := json.Unmarshal([]byte(out), &further); err != nil || !exit.Success() {
				t.Fatal(err, exit, out)
			}
			for _, key := range []string{"CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Umask"} {
				if first.Status[key] != further.Status[key] {
					t.Errorf("%s: %s, further %s", key, first.Status[key], further.Status[key])
				}
			}
			if diff := cmp.Diff(first.Cgroup, further.Cgroup); diff != "" {
				t.Error("cgroup", diff)
			}
			if diff := cmp.Diff(first.Env, further.Env); diff != "" {
				t.Error("environment", diff)
			}
			if first.Hostname != further.Hostname || len(first.Mounts) != len(further.Mounts) || len(further.FDs) != len(first.FDs) || further.Session == 0 {
				t.Errorf("first %+v\nfurther %+v", first, further)
			}
			for _, kind := range []string{"mnt", "pid", "ipc", "uts", "net", "user"} {
				theirs, _ := os.Readlink("/proc/" + itoa(p.ID().PID) + "/ns/" + kind)
				if further.Namespaces[kind] != theirs {
					t.Errorf("%s namespace: %s, want %s", kind, further.Namespaces[kind], theirs)
				}
			}
		})
	}
}

func TestExecFails(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "sleep")
	s.Cgroup = newCgroup(t, Limits{})
	p, _ := start(t, l, s)
	_, err := l.Exec(context.Background(), p.ID(), &ExecSpec{Args: []string{"x"}}, Stdio{})
	var e *ExecError
	if !errors.As(err, &e) || e.Code != 127 {
		t.Error(err)
	}
	_, err = l.Exec(context.Background(), p.ID(), &ExecSpec{Args: []string{"/inside"}, Dir: "/nowhere"}, Stdio{})
	if err == nil || err.Error() != "execute in "+p.ID().String()+": enter working directory /nowhere: no such file or directory" {
		t.Error(err)
	}
	_ = p.Kill()
	p.Wait()
	if _, err = l.Exec(context.Background(), p.ID(), &ExecSpec{Args: []string{"/inside"}}, Stdio{}); !errors.Is(err, experiment.ErrGone) {
		t.Error(err)
	}
}

// Exec of another process works too, as simian lab exec does it.
func TestExecOfAnotherLauncher(t *testing.T) {
	t.Parallel()
	l, other := newLauncher(t), newLauncher(t)
	s := newSpec(t, "sleep")
	s.Cgroup = newCgroup(t, Limits{})
	p, _ := start(t, l, s)
	out, exit := execute(t, other, p, &ExecSpec{Args: []string{"inside", "write", "/x"}, Env: []string{"PATH=/nowhere:/"}}, nil)
	if out != "/x <nil>\n" || !exit.Success() {
		t.Error(out, exit)
	}
}
