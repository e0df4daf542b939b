package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
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
func (t *trial) settleProcesses() {
	var left map[int]string
	for end, clean := time.Now().Add(patience), 0; time.Now().Before(end); time.Sleep(lookEvery) {
		if left = t.processes(); len(left) > 0 {
			clean = 0
		} else if clean++; clean == looks {
			return
		}
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
		if bytes.Contains(args, []byte(t.dir+"\x00")) || bytes.Contains(env, []byte("SIMIAN_SOAK="+t.dir+"\x00")) {
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
	// Go's runtime ends with 2 as well where a signal that kills does not at once.
	if t.code == experiment.ExitUsage && (!t.struck || t.output() != "") {
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

// checkJournal wants a journal to add up, and its report to say what happened.
func (t *trial) checkJournal(path string) {
	data, err := os.ReadFile(path)
	lines, perr := parseLines(data)
	if err != nil || perr != nil {
		t.leak("journal %s: %v %v", path, err, perr)
		return
	}
	for _, what := range wrongs(lines) {
		t.leak("journal %s: %s", path, what)
	}
	struck := t.tail != nil && runOf(path) == t.tail.run
	verdict, code := t.checkReport(path)
	if !struck {
		return
	}
	t.verdict = verdict
	t.measure(lines)
	if t.code >= 0 && t.code != code {
		t.leak("the runner ended with exit %d, the report of %s with %d", t.code, path, code)
	}
	if t.early(lines) && verdict == string(experiment.Pass) {
		t.leak("journal %s: struck before its end, and it passes", path)
	}
	if t.blow.may != nil && t.code >= 0 && t.early(lines) {
		if why := t.blow.may(t, t.code, lines); why != "" {
			t.leak("%s", why)
		}
	}
}

// early tells whether the run was struck before what it had to reach.
func (t *trial) early(lines []line) bool {
	if !t.struck || t.blow.until == "" {
		return false
	}
	i := t.reached(lines)
	return i < 0 || lines[i].Boot.Sub(t.blown) > hurry
}

// reached returns where the run has come to where no blow makes it worse any
// more, -1 where it has not. That is its last action's take-back for a run
// that only loses its guardian, and its end for one that dies.
func (t *trial) reached(lines []line) int {
	last := -1
	for i, l := range lines {
		if l.Kind == t.blow.until && (l.Action > 0 || last < 0) {
			last = i
		}
	}
	return last
}

// wrongs says what in a finished journal does not add up.
func wrongs(lines []line) []string {
	var out []string
	undone, action, closed := map[int]int{}, map[int]int{}, map[int]bool{}
	var undoable []int
	for _, l := range lines {
		switch l.Kind {
		case experiment.EventAnnounce:
			undoable = append(undoable, l.undoable()...)
			for _, s := range l.Steps {
				action[s.N] = l.Action
			}
		case experiment.EventApplied:
			if closed[0] || closed[action[l.Step]] {
				out = append(out, fmt.Sprintf("step %d is applied after its take-back", l.Step))
			}
		case experiment.EventTakeBack:
			closed[l.Action] = true
		case experiment.EventUndone:
			undone[l.Step]++
		}
	}
	for _, n := range undoable {
		if undone[n] != 1 {
			out = append(out, fmt.Sprintf("step %d is taken back %d times", n, undone[n]))
		}
	}
	if count(lines, experiment.EventEnd) == 0 {
		out = append(out, "it has no end")
	}
	return out
}

// count counts the events of a kind.
func count(lines []line, kind experiment.EventKind) int {
	n := 0
	for _, l := range lines {
		if l.Kind == kind {
			n++
		}
	}
	return n
}

// checkReport wants the report to fold, and to show that nothing was left.
func (t *trial) checkReport(path string) (verdict string, code int) {
	code, out, err := t.simianRun("report", runOf(path), "-o", "json")
	var r struct {
		Verdict experiment.Verdict
		Residue []string
		Drift   []json.RawMessage
		Error   string
	}
	if jerr := json.Unmarshal([]byte(out), &r); err != nil || jerr != nil {
		t.leak("report of %s: %v %v: %s", path, err, jerr, out)
		return "", code
	}
	for _, d := range r.Drift {
		t.drift = append(t.drift, string(d))
	}
	unarmed := t.struck && strings.Contains(r.Error, "arm the guardian") // it was killed meanwhile
	switch {
	case r.Verdict == "" || r.Verdict.ExitCode() != code:
		t.leak("report of %s: verdict %q and exit %d", path, r.Verdict, code)
	case r.Verdict == experiment.Residue:
		t.leak("report of %s: residue: %q", path, r.Residue)
	case r.Verdict == experiment.Errored && !unarmed:
		t.leak("report of %s: error: %s", path, r.Error)
	}
	return string(r.Verdict), code
}

// output is what the runner has printed.
func (t *trial) output() string {
	data, _ := os.ReadFile(filepath.Join(t.work, "output"))
	return string(data)
}
