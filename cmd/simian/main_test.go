package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/proc"
)

// The test binary is also simian itself, when it is started under that name:
// by a test, or by the guardian that such a simian has armed.
func TestMain(m *testing.M) {
	if os.Args[0] != "simian" {
		os.Exit(m.Run())
	}
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	a.tweak = tweakFromEnv
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// tweakFromEnv makes a simian under test misbehave as told: at the nth write
// of the journal it gets a signal, before or after it.
func tweakFromEnv(e *engine.Engine) {
	at, n, ok := strings.Cut(os.Getenv("SIMIAN_TEST_SIGNAL_AT"), ":")
	if !ok || e.Journals == nil {
		return
	}
	name, n, _ := strings.Cut(n, ":")
	count, _ := strconv.Atoi(n)
	e.Journals = &suicidal{Journals: e.Journals, before: at == "before", signal: unix.SignalNum("SIG" + name), left: count}
}

// suicidal sends its own process a signal at a write of the journal.
type suicidal struct {
	engine.Journals
	before bool
	signal unix.Signal
	left   int
}

func (s *suicidal) Append(ctx context.Context, e experiment.Event) error {
	s.left--
	if s.left == 0 && s.before {
		_ = unix.Kill(os.Getpid(), s.signal)
		time.Sleep(20 * time.Millisecond) // a signal to oneself may come a moment later
	}
	err := s.Journals.Append(ctx, e)
	if s.left == 0 && !s.before {
		_ = unix.Kill(os.Getpid(), s.signal)
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// lab is a state directory of its own, and simian run on it.
type lab struct {
	t   *testing.T
	dir string
	env []string

	user *syscall.Credential // nil: whoever runs the tests
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{t: t, dir: filepath.Join(t.TempDir(), "state")}
}

// command returns simian with these arguments, in a session of its own.
func (l *lab) command(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Args = append([]string{"simian", "--state", l.dir}, args...)
	c.Env = append(os.Environ(), l.env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: l.user}
	return c
}

type outcome struct {
	code           int
	stdout, stderr string
}

func (l *lab) simian(args ...string) outcome {
	l.t.Helper()
	c := l.command(args...)
	var out, err bytes.Buffer
	c.Stdout, c.Stderr = &out, &err
	fault := c.Run()
	var exit *exec.ExitError
	if fault != nil && !errors.As(fault, &exit) {
		l.t.Fatal(fault)
	}
	return outcome{c.ProcessState.ExitCode(), out.String(), err.String()}
}

// expect runs simian and wants this exit code.
func (l *lab) expect(code int, args ...string) outcome {
	l.t.Helper()
	o := l.simian(args...)
	if o.code != code {
		l.t.Fatalf("simian %s: exit %d, want %d\n%s%s", strings.Join(args, " "), o.code, code, o.stdout, o.stderr)
	}
	return o
}

// file writes an experiment.
func (l *lab) file(method string, more ...string) string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "experiment.yaml")
	text := "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: test}\nspec:\n  method:\n" + method + strings.Join(more, "")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// clean wants nothing to be left: no unfinished journal, no lock, no guardian.
func (l *lab) clean() {
	l.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := l.left()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}
}

func (l *lab) left() []string {
	left, _ := filepath.Glob(filepath.Join(l.dir, "open", "*"))
	locks, _ := filepath.Glob(journal.SharedLocks + "/*.lock")
	for _, path := range locks {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), l.dir) {
			left = append(left, path)
		}
	}
	fs := proc.Host()
	pids, err := fs.PIDs()
	if err != nil {
		return append(left, err.Error())
	}
	for _, pid := range pids {
		args, err := fs.Cmdline(pid)
		st, serr := fs.Stat(pid)
		if err != nil || serr != nil || st.Exited() {
			continue
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && len(args) == 0 && strings.HasPrefix(filepath.Base(exe), "simian") {
			left = append(left, fmt.Sprintf("process %d: %s, in the midst of execve", pid, exe)) // a guardian that takes over
		}
		if len(args) > 2 && strings.HasPrefix(args[0], "simian") && strings.Contains(strings.Join(args, " "), l.dir) {
			left = append(left, fmt.Sprintf("process %d: %s", pid, strings.Join(args, " ")))
		}
	}
	return left
}

// sleeper is a process to break.
type sleeper struct {
	cmd *exec.Cmd
	pid int
}

func newSleeper(t *testing.T) *sleeper {
	t.Helper()
	return newSleeperAs(t, nil)
}

func newSleeperAs(t *testing.T, user *syscall.Credential) *sleeper {
	t.Helper()
	c := exec.Command("/bin/sleep", "3600")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: user}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return &sleeper{c, c.Process.Pid}
}

// state is the letter of proc_pid_stat(5).
func (s *sleeper) state(t *testing.T) byte {
	t.Helper()
	st, err := proc.Host().Stat(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	return st.State
}

// runs wants the process neither stopped nor frozen.
func (s *sleeper) runs(t *testing.T) {
	t.Helper()
	if st := s.state(t); st != 'S' && st != 'R' {
		t.Errorf("pid %d is in state %c", s.pid, st)
	}
	if dir := s.freezer(); dir != "" {
		if data, err := os.ReadFile(filepath.Join(dir, "freezer.state")); err == nil && strings.TrimSpace(string(data)) != "THAWED" {
			t.Errorf("%s is %s", dir, data)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "cgroup.events")); err == nil && strings.Contains(string(data), "frozen 1") {
			t.Errorf("%s is frozen", dir)
		}
	}
}

func (s *sleeper) freezer() string {
	c, err := proc.Host().Cgroup(s.pid)
	if err != nil {
		return ""
	}
	if dir := c.V1["freezer"]; filepath.Base(dir.Path) == s.cgroupName() {
		return dir.Path
	}
	if filepath.Base(c.V2.Path) == s.cgroupName() {
		return c.V2.Path
	}
	return ""
}

func (s *sleeper) cgroupName() string { return fmt.Sprintf("simian-test-%d", s.pid) }

// inCgroup moves the process into a cgroup of its own, of version 2 where
// that is mounted and of version 1's freezer otherwise.
func (s *sleeper) inCgroup(t *testing.T) string {
	t.Helper()
	needRoot(t)
	roots, err := proc.Host().CgroupRoots()
	if err != nil {
		t.Fatal(err)
	}
	for i := len(roots) - 1; i >= 0; i-- {
		dir := filepath.Join(roots[i], s.cgroupName())
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
			for range 100 {
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("cgroup %s is left", dir)
		})
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(s.pid)), 0); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	t.Skip("no cgroup can be made here")
	return ""
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// freeze is an action on a process.
func freeze(pid int, length string) string {
	return fmt.Sprintf("  - {name: freeze %d, fault: {type: freeze}, target: {type: process, pid: %d}, for: %s}\n", pid, pid, length)
}
