package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// TestKilledAtEveryWrite kills the runner before and after every write of the
// journal: between the announcement and the change, between the change and
// its record, and everywhere else. The guardian puts everything back; where
// none was armed yet, there was nothing to put back, and a sweep tidies up.
func TestKilledAtEveryWrite(t *testing.T) {
	stopped, frozen := newSleeper(t), newSleeper(t)
	frozen.inCgroup(t)
	l := newLab(t)
	file := l.file(freeze(stopped.pid, "5ms") + freeze(frozen.pid, "5ms"))
	l.expect(0, "run", file)
	writes := bytes.Count(l.journal(t), []byte("\n"))
	if writes < 15 {
		t.Fatalf("the run writes %d events only", writes)
	}
	for n := 1; n <= writes; n++ {
		for _, when := range []string{"before", "after"} {
			l.env = []string{fmt.Sprintf("SIMIAN_TEST_SIGNAL_AT=%s:KILL:%d", when, n)}
			o := l.simian("run", file)
			fewer := o.code == 0 && n > writes-2 // a busy machine leaves out a look that a quiet one takes
			if o.code != -1 && !fewer {
				t.Fatalf("%s write %d of %d: exit %d, want death\n%s%s", when, n, writes, o.code, o.stdout, o.stderr)
			}
			l.env = nil
			l.waitForGuardians()
			l.expect(0, "rollback", "--all")
			l.clean()
			stopped.runs(t)
			frozen.runs(t)
		}
	}
}

// journal returns the newest finished journal.
func (l *lab) journal(t *testing.T) []byte {
	t.Helper()
	done, _ := filepath.Glob(filepath.Join(l.dir, "done", "*.jsonl"))
	var newest []byte
	var when time.Time
	for _, path := range done {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(when) {
			when = info.ModTime()
			newest, _ = os.ReadFile(path)
		}
	}
	return newest
}

// waitForGuardians waits until no process of this lab is left.
func (l *lab) waitForGuardians() {
	l.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if !strings.Contains(strings.Join(l.left(), "\n"), "process ") {
			return
		}
	}
	l.t.Fatal("a guardian does not end: " + strings.Join(l.left(), "\n"))
}

// start starts simian, and waits until the journal of its run holds a line
// with this kind of event.
func (l *lab) start(kind experiment.EventKind, args ...string) (c *process, run string) {
	l.t.Helper()
	return l.startBeside("", kind, args...)
}

// startBeside is start, while another run goes on.
func (l *lab) startBeside(other string, kind experiment.EventKind, args ...string) (c *process, run string) {
	l.t.Helper()
	c = &process{lab: l}
	c.cmd = l.command(args...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	if err := c.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	c.done = make(chan struct{})
	go func() { _ = c.cmd.Wait(); close(c.done) }()
	l.t.Cleanup(func() { _ = c.cmd.Process.Kill(); <-c.done })
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		paths, _ := filepath.Glob(filepath.Join(l.dir, "open", "*.jsonl"))
		for _, path := range paths {
			name := strings.TrimSuffix(filepath.Base(path), ".jsonl")
			if data, _ := os.ReadFile(path); name != other && bytes.Contains(data, []byte(`"kind":"`+string(kind)+`"`)) {
				return c, name
			}
		}
	}
	l.t.Fatalf("no %s in a journal\n%s", kind, c.err.String())
	return nil, ""
}

// TestRollbackOfAStoppedRunner stops a runner between its announcement and its
// change, and takes its run back: the change must never come after the undo.
func TestRollbackOfAStoppedRunner(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	n := l.writeOf(t, s, experiment.EventAnnounce)
	l.env = []string{fmt.Sprintf("SIMIAN_TEST_SIGNAL_AT=after:STOP:%d", n)}
	c, run := l.start(experiment.EventAnnounce, "run", l.file(freeze(s.pid, "5ms")))
	l.env = nil
	c.waitState('T')
	l.expect(0, "rollback", run)
	_ = unix.Kill(c.cmd.Process.Pid, unix.SIGCONT)
	<-c.done
	l.clean()
	s.runs(t)
	l.undoneOnce(t, run)
}

// TestDeadlineOfAStoppedRunner leaves the same to the guardian.
func TestDeadlineOfAStoppedRunner(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	n := l.writeOf(t, s, experiment.EventApplied)
	l.env = []string{fmt.Sprintf("SIMIAN_TEST_SIGNAL_AT=after:STOP:%d", n)}
	file := l.file(freeze(s.pid, "5ms"), "  recovery: {within: 50ms}\n  steady: {for: 1ms}\n")
	c, run := l.start(experiment.EventApplied, "run", "--slack", "1s", file)
	<-c.done
	l.clean()
	s.runs(t)
	l.undoneOnce(t, run)
	if o := l.simian("report", run); o.code != experiment.Aborted.ExitCode() || !strings.Contains(o.stdout, "ABORTED") {
		t.Errorf("report: exit %d\n%s", o.code, o.stdout)
	}
}

// writeOf runs a plain freeze of s, and returns which write of the journal the
// first event of this kind was.
func (l *lab) writeOf(t *testing.T, s *sleeper, kind experiment.EventKind) int {
	t.Helper()
	l.expect(0, "run", l.file(freeze(s.pid, "5ms")))
	for i, line := range bytes.Split(l.journal(t), []byte("\n")) {
		if bytes.Contains(line, []byte(`"kind":"`+string(kind)+`"`)) {
			return i + 1
		}
	}
	t.Fatalf("no %s in the journal", kind)
	return 0
}

// TestEverybodyTakesBack lets the guardian, two sweeps and a rollback race for
// one run whose runner was killed: each undo is applied once.
func TestEverybodyTakesBack(t *testing.T) {
	s := newSleeper(t)
	l := newLab(t)
	for range 10 {
		c, run := l.start(experiment.EventInjected, "run", l.file(freeze(s.pid, "1h")))
		_ = c.cmd.Process.Kill()
		var wg sync.WaitGroup
		for _, args := range [][]string{{"rollback", "--all"}, {"rollback", "--all"}, {"rollback", run}} {
			wg.Go(func() {
				if o := l.simian(args...); o.code != 0 {
					t.Errorf("simian %v: exit %d\n%s%s", args, o.code, o.stdout, o.stderr)
				}
			})
		}
		wg.Wait()
		l.clean()
		s.runs(t)
		l.undoneOnce(t, run)
	}
}

// undoneOnce wants each announced step to be taken back exactly once.
func (l *lab) undoneOnce(t *testing.T, run string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(l.dir, "done", run+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	undone := map[int]int{}
	steps := 0
	for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		var e struct {
			Kind  experiment.EventKind
			Step  int
			Steps []json.RawMessage
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		steps += len(e.Steps)
		if e.Kind == experiment.EventUndone {
			undone[e.Step]++
		}
	}
	for n := 1; n <= steps; n++ {
		if undone[n] != 1 {
			t.Errorf("step %d of run %s was taken back %d times", n, run, undone[n])
		}
	}
}
