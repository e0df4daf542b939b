package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/report"
)

func TestFreezeAndPutBack(t *testing.T) {
	stopped, frozen := newSleeper(t), newSleeper(t)
	frozen.inCgroup(t)
	l := newLab(t)
	o := l.expect(0, "run", "-o", "json", l.file(freeze(stopped.pid, "50ms")+freeze(frozen.pid, "50ms")))
	var r report.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, o.stdout)
	}
	if r.Verdict != experiment.Pass || len(r.Faults) != 2 || r.Faults[0].Backend != "SIGSTOP" || !strings.HasPrefix(r.Faults[1].Backend, "cgroup v") {
		t.Errorf("%s", o.stdout)
	}
	if len(r.Drift)+len(r.Residue) > 0 {
		t.Errorf("drift %v, residue %v", r.Drift, r.Residue)
	}
	l.clean()
	stopped.runs(t)
	frozen.runs(t)
	l.expect(0, "report", string(r.Run))
	if o := l.expect(0, "runs"); !strings.Contains(o.stdout, string(r.Run)) {
		t.Errorf("runs:\n%s", o.stdout)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "history.db"), []byte("not a database, but long enough to be taken for one"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.expect(6, "runs")
	o = l.expect(0, "run", l.file(freeze(stopped.pid, "1ms")))
	if !strings.Contains(o.stderr, "reindex") {
		t.Errorf("a damaged history is not mentioned:\n%s", o.stderr)
	}
	l.expect(0, "reindex")
	if o := l.expect(0, "runs"); !strings.Contains(o.stdout, string(r.Run)) {
		t.Errorf("runs after reindex:\n%s", o.stdout)
	}
}

// TestKillUnrestarted kills what nobody restarts: a workload is not whole any
// more, and Simian cannot start it.
func TestKillUnrestarted(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	file := l.file(fmt.Sprintf("  - {fault: {type: kill}, target: {type: process, pid: %d}, irreversible: true}\n", s.pid), "  recovery: {within: 200ms}\n")
	o := l.expect(experiment.Residue.ExitCode(), "run", file)
	if !strings.Contains(o.stdout, "RESIDUE") {
		t.Error(o.stdout)
	}
	l.clean()
}

// TestSupervisedKill kills one of two processes behind a shell that restarts
// them.
func TestSupervisedKill(t *testing.T) {
	length := fmt.Sprintf("36%d", os.Getpid())
	keep := "while :; do /bin/sleep " + length + "; done"
	for range 2 {
		c := exec.Command("/bin/sh", "-c", keep)
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL); _ = c.Wait() })
	}
	time.Sleep(100 * time.Millisecond)
	l := newLab(t)
	target := "{type: process, command: '^/bin/sleep " + length + "$'}"
	o := l.expect(0, "run", "-o", "json", l.file("  - {fault: {type: kill, every: 100ms}, target: "+target+", irreversible: true, for: 450ms}\n", "  blastRadius: {targets: 1, percent: 50}\n"))
	var r report.Result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Faults[0].Strikes < 2 {
		t.Errorf("struck %d times in 450 ms, every 100 ms\n%s", r.Faults[0].Strikes, o.stdout)
	}
	l.clean()
}

// TestIgnoredSignal sends a signal that hits nothing.
func TestIgnoredSignal(t *testing.T) {
	c := exec.Command("/bin/sh", "-c", "trap '' HUP; echo ready; exec /bin/sleep 3600")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	_, _ = out.Read(make([]byte, 16))
	l := newLab(t)
	o := l.expect(experiment.NotInjected.ExitCode(), "run", l.file(fmt.Sprintf("  - {fault: {type: kill, signal: HUP}, target: {type: process, pid: %d}, irreversible: true}\n", c.Process.Pid)))
	if !strings.Contains(o.stdout, "ignores HUP") {
		t.Error(o.stdout)
	}
	l.clean()
}

// TestInterrupted sends each of the signals that end a run, twice.
func TestInterrupted(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			s := newSleeper(t)
			l := newLab(t)
			c, _ := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "1h")))
			_ = unix.Kill(c.cmd.Process.Pid, sig)
			_ = unix.Kill(c.cmd.Process.Pid, sig)
			<-c.done
			if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
				t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
			}
			l.clean()
			s.runs(t)
		})
	}
}

// TestRollbackOfALiveRun ends a run from outside, and waits for it.
func TestRollbackOfALiveRun(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	c, run := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "1h")))
	if o := l.expect(0, "status", "-o", "json"); !strings.Contains(o.stdout, run) || !strings.Contains(o.stdout, `"alive": true`) {
		t.Errorf("status: %s", o.stdout)
	}
	l.expect(0, "rollback", run)
	s.runs(t)
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
		t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
	}
	l.clean()
	l.undoneOnce(t, run)
}

// TestGuardianKilled kills the guardian: the runner takes back and aborts.
func TestGuardianKilled(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	c, run := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "1h")))
	data, err := os.ReadFile(filepath.Join(l.dir, "open", run+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var guardian int
	for _, line := range bytes.Split(data, []byte("\n")) {
		var e struct {
			Guardian struct{ Process experiment.ProcessID }
		}
		if json.Unmarshal(line, &e) == nil && e.Guardian.Process.PID != 0 {
			guardian = e.Guardian.Process.PID
		}
	}
	_ = unix.Kill(guardian, unix.SIGKILL)
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
		t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
	}
	l.clean()
	s.runs(t)
}

// TestBothKilled leaves the run to the next command's sweep.
func TestBothKilled(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	c, run := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "1h")))
	for _, what := range l.left() {
		var pid int
		if _, err := fmt.Sscanf(what, "process %d:", &pid); err == nil && pid != c.cmd.Process.Pid {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	if s.state(t) != 'T' {
		t.Skip("the runner had seen its guardian die before it was killed itself")
	}
	if o := l.expect(0, "status"); !strings.Contains(o.stdout, "rollback "+run) || s.state(t) != 'T' {
		t.Errorf("a command that only reads took back, or does not say what to do:\n%s", o.stdout)
	}
	other := newSleeper(t)
	o := l.expect(0, "run", l.file(freeze(other.pid, "1ms")))
	if !strings.Contains(o.stderr, run) {
		t.Errorf("the sweep is not mentioned:\n%s", o.stderr)
	}
	s.runs(t)
	l.clean()
}

// TestBusy runs two experiments on one process.
func TestBusy(t *testing.T) {
	s := newSleeper(t)
	first, second := newLab(t), newLab(t)
	c, run := first.start(experiment.EventInjected, "run", first.file(freeze(s.pid, "1h")))
	o := second.simian("run", second.file(fmt.Sprintf("  - {fault: {type: kill}, target: {type: process, pid: %d}, irreversible: true}\n", s.pid)))
	if o.code != 6 || !strings.Contains(o.stdout+o.stderr, run) {
		t.Errorf("exit %d, want 6 and the name of run %s\n%s%s", o.code, run, o.stdout, o.stderr)
	}
	if s.state(t) != 'T' {
		t.Error("the second run touched the process")
	}
	second.clean()
	_ = c.cmd.Process.Signal(unix.SIGINT)
	<-c.done
	first.clean()
	s.runs(t)
}

// TestNeverATarget tries what must never be touched, one by one.
func TestNeverATarget(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name string
		pid  int
	}{{"the host's init", 1}, {"an ancestor", os.Getpid()}, {"an ancestor further up", os.Getppid()}, {"a kernel thread", 2}} {
		t.Run(c.name, func(t *testing.T) {
			file := l.file(fmt.Sprintf("  - {fault: {type: kill, signal: WINCH}, target: {type: process, pid: %d}, irreversible: true}\n", c.pid))
			for _, command := range []string{"plan", "run"} {
				if o := l.simian(command, file); o.code != 2 || !strings.Contains(o.stderr, file+":6: spec.method[0].target") {
					t.Errorf("%s: exit %d\n%s%s", command, o.code, o.stdout, o.stderr)
				}
			}
			l.clean()
		})
	}
}

// TestStateDirectory runs on a state directory that cannot be used: nothing is
// injected, and the message says why.
func TestStateDirectory(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name, want string
		spoil      func(t *testing.T, dir string)
	}{
		{"somebody else's", "own", func(t *testing.T, dir string) {
			if err := os.Chown(dir, 12345, 12345); err != nil {
				t.Fatal(err)
			}
		}},
		{"writable by others", "writ", func(t *testing.T, dir string) {
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}},
		{"full", "no space left", func(t *testing.T, dir string) {
			mount(t, dir, "tmpfs", "size=16k,mode=700")
			if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); err == nil {
				t.Fatal("the tmpfs does not fill up")
			}
		}},
		{"read-only", "read-only", func(t *testing.T, dir string) {
			mount(t, dir, "tmpfs", "size=1m,mode=700")
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSleeper(t)
			l := newLab(t)
			if err := os.Mkdir(l.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, l.dir)
			o := l.simian("run", l.file(freeze(s.pid, "1ms")))
			if o.code != 6 || !strings.Contains(o.stderr, c.want) {
				t.Errorf("exit %d, want 6 and %q\n%s%s", o.code, c.want, o.stdout, o.stderr)
			}
			s.runs(t)
		})
	}
}

func mount(t *testing.T, dir, kind, options string) {
	t.Helper()
	if err := unix.Mount("simian-test", dir, kind, 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestDiskFillsWhileFrozen fills the disk once the fault is in force: it is
// put back all the same, and the message says what could not be written.
func TestDiskFillsWhileFrozen(t *testing.T) {
	needRoot(t)
	s := newSleeper(t)
	l := newLab(t)
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, l.dir, "tmpfs", "size=256k,mode=700")
	c, run := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "300ms")))
	filler := filepath.Join(l.dir, "filler")
	_ = os.WriteFile(filler, make([]byte, 1<<20), 0o600)
	// What is left of the journal's last page is filled by its own events, or not.
	<-c.done
	s.runs(t)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if len(l.left()) > 0 {
		if !strings.Contains(c.err.String(), "no space left") {
			t.Errorf("unfinished, and the message does not say why:\n%s", c.err.String())
		}
		l.expect(0, "rollback", run)
	}
	l.clean()
}

// TestCutJournal takes back a run whose last line was cut.
func TestCutJournal(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	c, run := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "1h")))
	for _, what := range l.left() {
		var pid int
		if _, err := fmt.Sscanf(what, "process %d:", &pid); err == nil {
			_ = unix.Kill(pid, unix.SIGSTOP)
			defer unix.Kill(pid, unix.SIGKILL)
		}
	}
	for _, what := range l.left() {
		var pid int
		if _, err := fmt.Sscanf(what, "process %d:", &pid); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	<-c.done
	path := filepath.Join(l.dir, "open", run+".jsonl")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-7); err != nil {
		t.Fatal(err)
	}
	l.expect(0, "rollback", "--all")
	s.runs(t)
	l.clean()
}

func TestUsage(t *testing.T) {
	l := newLab(t)
	good := l.file("  - {fault: {type: freeze}, target: {type: process, name: no-such-process-here}, for: 1s}\n")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown command", []string{"rnu"}, `did you mean "run"`},
		{"unknown flag", []string{"run", "--dryrun", good}, "unknown flag"},
		{"no file", []string{"run"}, "FILE is missing"},
		{"two files", []string{"run", good, good}, "one argument too many"},
		{"missing file", []string{"run", "no-such.yaml"}, "no such file"},
		{"unknown format", []string{"run", "-o", "yaml", good}, "formats: text json"},
		{"nothing matches", []string{"run", good}, good + ":6: spec.method[0].target"},
		{"nothing matches, planned", []string{"plan", good}, good + ":6: spec.method[0].target"},
		{"no such run", []string{"report", "zzzzzz"}, "no such run"},
		{"rollback of no such run", []string{"rollback", "zzzzzz"}, "no such run"},
		{"not a run", []string{"report", "../../etc/passwd"}, "../../etc/passwd"},
		{"nothing listed", []string{"list", "kil"}, `did you mean "kill"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := l.simian(c.args...)
			if o.code != 2 || !strings.Contains(o.stderr, c.want) {
				t.Errorf("exit %d, want 2 and %q\n%s%s", o.code, c.want, o.stdout, o.stderr)
			}
			if o.stdout != "" {
				t.Errorf("an error is not printed to standard output: %s", o.stdout)
			}
		})
	}
}

// TestReadersWork runs what only reads, with nothing there to read.
func TestReadersWork(t *testing.T) {
	l := newLab(t)
	for _, args := range [][]string{{"version"}, {"check"}, {"status"}, {"runs"}, {"list"}, {"targets"}} {
		for _, format := range []string{"text", "json"} {
			o := l.expect(0, append(args, "-o", format)...)
			if format == "json" && !json.Valid([]byte(o.stdout)) {
				t.Errorf("%v prints no JSON: %s", args, o.stdout)
			}
		}
	}
	if o := l.expect(0, "schema"); !json.Valid([]byte(o.stdout)) {
		t.Errorf("schema prints no JSON: %s", o.stdout)
	}
	if _, err := os.Stat(l.dir); err == nil {
		t.Error("a command that only reads made the state directory")
	}
	for _, c := range newApp(nil, nil, nil).root([]string{"inject"}).Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if !strings.Contains(c.Long, "Exit codes:") || c.Example == "" {
			t.Errorf("the help of %s lacks exit codes or an example", c.Name())
		}
	}
}
