package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// sharedLocks is where root's runs keep their locks (docs/journal.md).
const sharedLocks = "/run/simian/locks"

// hurry is how long after a blow what the runner writes may still be its own:
// it is told, or dies, a moment later.
const hurry = 5 * time.Millisecond

// nameless is how long a lock may name nobody: its owner is about to write its
// name, or was killed, and its run is about to be taken back.
const nameless = 5 * time.Second

// A process that is just becoming another (execve(2)) has no arguments and no
// environment for a moment, and is not seen: it takes some looks in a row.
const (
	looks     = 5
	lookEvery = 4 * time.Millisecond
)

// settleProcesses waits until no process of the trial's runs is left. What
// does not end in time is a leak, and ended.
func (t *trial) settleProcesses() { t.awaitEnd(t.processes) }

// settleBoth waits until runner and guardian are gone. What they launched may
// be frozen, and dies when the next command thaws it.
func (t *trial) settleBoth() {
	t.awaitEnd(func() map[int]string {
		all := t.processes()
		maps.DeleteFunc(all, func(_ int, args string) bool { return !strings.Contains(args, t.dir) })
		return all
	})
}

// patience is how long this trial's processes may take to end.
func (t *trial) patience() time.Duration {
	all := patience + 10*t.soak.startup
	if t.handFrozen {
		all += frozenStep
	}
	return all
}

func (t *trial) awaitEnd(processes func() map[int]string) {
	var left map[int]string
	for end, clean := time.Now().Add(t.patience()), 0; time.Now().Before(end); time.Sleep(lookEvery) {
		if left = processes(); len(left) > 0 {
			clean = 0
		} else if clean++; clean == looks {
			return
		}
	}
	if t.tail != nil && len(left) > 0 {
		t.tail.read()
		written := bytes.Split(bytes.TrimSpace(t.tail.data), []byte("\n"))
		t.note("written last, at boot time %d or before: %.400s", bootNow(), written[len(written)-1])
	}
	for pid, what := range left {
		t.leak("process %d does not end: %s", pid, what)
		if id, err := proc.Host().Identify(pid); err == nil {
			killID(id)
		}
	}
}

// processes are all that was started by simian on this state directory,
// whatever it has become.
func (t *trial) processes() map[int]string {
	found := map[int]string{}
	host := proc.Host()
	pids, _ := host.PIDs()
	for _, pid := range pids {
		st, err := host.Stat(pid)
		if err != nil || st.Exited() || st.Kernel() || pid == os.Getpid() {
			continue
		}
		args, _ := os.ReadFile(fmt.Sprintf("%s/%d/cmdline", host.Proc, pid))
		env, _ := os.ReadFile(fmt.Sprintf("%s/%d/environ", host.Proc, pid))
		if bytes.Contains(args, []byte(t.dir+"\x00")) || bytes.Contains(env, []byte("SIMIAN_SOAK="+t.dir+"\x00")) || t.isHelper(pid, string(args)) {
			found[pid] = strings.ReplaceAll(string(args), "\x00", " ")
		}
	}
	return found
}

// settle waits until everybody has ended, and sweeps where the run was killed
// before there was anything to take back.
func (t *trial) settle() {
	t.settleProcesses()
	if t.runner != nil && t.runner.ended(patience) && !t.wrapped() {
		t.code = t.runner.code()
	}
	for _, path := range t.journals("open") {
		data, _ := os.ReadFile(path)
		lines, err := parseLines(data)
		if err != nil || count(lines, experiment.EventAnnounce) > 0 {
			t.leak("journal %s was left to a sweep, and its guardian was not killed", path)
		}
		t.swept = true
	}
	if t.swept {
		if err := t.expect(0, "rollback", "--all"); err != nil {
			t.leak("%v", err)
		}
	}
}

// wrapped tells whether the process that was started is not the runner.
func (t *trial) wrapped() bool { return t.runner.cmd.Args[0] == roleShell }

func (t *trial) journals(folder string) []string {
	paths, _ := filepath.Glob(filepath.Join(t.dir, folder, "*.jsonl"))
	return paths
}

// check looks for all that may be left.
func (t *trial) check() {
	if t.recipe != nil {
		t.checkVictims()
	}
	for _, path := range t.journals("open") {
		t.leak("journal %s is not finished", path)
	}
	if t.runner != nil && t.wrapped() {
		t.tail.findLate(0)
	} else if t.runner != nil {
		t.tail.findLate(t.runner.pid())
	}
	t.checkLocks()
	done := t.journals("done")
	for _, path := range done {
		t.checkJournal(path)
	}
	t.checkCgroups(done)
	t.checkLab()
	t.checkWire()
	// Go's runtime ends with 2 as well where a signal that kills does not at once.
	if t.code == experiment.ExitUsage && (!t.struck || t.output() != "" && !t.blow.fails) {
		t.leak("simian refused the experiment: %s", t.output())
	}
	if t.blow.lab && t.code == experiment.Errored.ExitCode() && t.verdict == "" {
		t.leak("simian could not begin: %s", t.output())
	}
	if t.tail != nil {
		t.tail.close()
	}
}

// checkVictims wants every victim to run.
func (t *trial) checkVictims() {
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left = t.recipe.broken()
		for _, h := range t.recipe.herds {
			left = append(left, h.dead()...)
			left = append(left, h.changed()...)
		}
		if len(left) == 0 || len(t.recipe.broken()) > 0 {
			break
		}
	}
	for _, what := range left {
		t.leak("%s", what)
	}
}

func (t *trial) checkLocks() {
	for _, dir := range []string{sharedLocks, filepath.Join(t.dir, "locks")} {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.lock"))
		for _, path := range paths {
			if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(t.dir)) {
				t.leak("lock %s: %s", path, data)
			}
			if info, err := os.Stat(path); err == nil && info.Size() == 0 && time.Since(info.ModTime()) > nameless {
				t.leak("lock %s names nobody", path)
				_ = os.Remove(path) // it is told once
			}
		}
	}
}

// checkCgroups looks for cgroups that carry the name of a run.
func (t *trial) checkCgroups(journals []string) {
	roots, _ := proc.Host().CgroupRoots()
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return nil
			}
			for _, j := range journals {
				if strings.Contains(e.Name(), runOf(j)) {
					t.leak("cgroup %s is left", path)
				}
			}
			return nil
		})
	}
}

func runOf(journal string) string { return strings.TrimSuffix(filepath.Base(journal), ".jsonl") }

// output is what the runner has printed.
func (t *trial) output() string {
	data, _ := os.ReadFile(filepath.Join(t.work, "output"))
	return string(data)
}
