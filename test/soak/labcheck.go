package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// witness takes down what the trial's lab is made of, where it has one.
func (t *trial) witness() {
	if !t.blow.lab {
		return
	}
	if dirs := t.labCgroups(); len(dirs) > 0 && t.rng.IntN(4) == 0 && t.timed && !t.blow.fails {
		t.freezeOne(dirs)
	}
	t.seen = t.look(t.runnerPID())
	t.note("%d processes, %d network namespaces, frozen: %v", len(t.seen.members), len(t.seen.nets), t.seen.frozen)
}

// freezeOne freezes a part of the lab that Simian does not know of: one that
// dies when it is killed all the same.
func (t *trial) freezeOne(dirs []string) {
	dir := dirs[t.rng.IntN(len(dirs))]
	for _, other := range dirs { // the same, where it can be frozen
		if filepath.Base(other) == filepath.Base(dir) && freeze(other) {
			t.handFrozen = true
			t.note("frozen by hand: %s", other)
			if t.rng.IntN(2) == 0 {
				return // on one version, not on both
			}
		}
	}
}

// runnerPID is the pid of the process that launches the lab, by its journal
// where it has one.
func (t *trial) runnerPID() int {
	t.tail.read()
	lines, _ := parseLines(t.tail.data)
	if len(lines) > 0 {
		return lines[0].Header.Runner.PID
	}
	if t.runner == nil {
		id, _ := t.supervisor()
		return id.PID
	}
	return t.runner.pid()
}

// checkLab looks for all that a lab may leave.
func (t *trial) checkLab() {
	if !t.blow.lab {
		return
	}
	for _, what := range t.seen.left() {
		t.leak("%s", what)
	}
	t.checkFiles()
	for _, dir := range t.labCgroups() {
		t.leak("cgroup %s is left", dir)
	}
	if t.recipe != nil && t.recipe.lab != nil {
		if who := portTaken(t.recipe.lab.port); who != "" {
			t.leak("the lab's port is taken: %s", who)
		}
	}
	t.checkMounts()
	t.checkForkServers()
}

// checkFiles looks for files of a lab. What was killed while it got images
// leaves its part of the cache to the next prune.
func (t *trial) checkFiles() {
	left, _ := filepath.Glob(filepath.Join(t.dir, "labs/*"))
	uses, _ := filepath.Glob(filepath.Join(t.dir, "images/use/*"))
	for _, use := range uses {
		run, _, _ := strings.Cut(filepath.Base(use), ".")
		if slices.Contains(t.runs(), run) {
			left = append(left, use)
		}
	}
	if exists(filepath.Join(t.dir, "images")) {
		if err := t.expect(0, "image", "prune"); err != nil {
			t.leak("%v", err)
		}
	}
	for _, pattern := range []string{"images/use/*", "images/tmp/*"} {
		more, _ := filepath.Glob(filepath.Join(t.dir, pattern))
		left = append(left, more...)
	}
	for _, path := range left {
		t.leak("%s is left", path)
	}
}

// checkMounts looks for mounts in this mount namespace.
func (t *trial) checkMounts() {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.leak("read mounts: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, t.soak.dir) {
			t.leak("mount is left: %s", strings.TrimSpace(line))
		}
	}
}

// checkForkServers looks for fork servers, and containers, whose launcher is
// gone. Those of another trial may be just about to follow theirs.
func (t *trial) checkForkServers() {
	left := t.strays()
	for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := t.strays()
		maps.DeleteFunc(left, func(id experiment.ProcessID, _ string) bool { return now[id] == "" })
	}
	for id, above := range left {
		t.leak("%s is a fork server or a container, and its parent is %s", id, above)
	}
}

// strays returns the processes that are simian-container and no child of a
// simian, with what they are a child of.
func (t *trial) strays() map[experiment.ProcessID]string {
	found := map[experiment.ProcessID]string{}
	host := proc.Host()
	pids, _ := host.PIDs()
	for _, pid := range pids {
		st, err := host.Stat(pid)
		if err != nil || st.Exited() {
			continue
		}
		if args, err := host.Cmdline(pid); err != nil || len(args) == 0 || args[0] != stageName {
			continue
		}
		if exe := fmt.Sprintf("/proc/%d/exe", pid); !sameFile(exe, t.soak.simian) || sameFile(fmt.Sprintf("/proc/%d/exe", st.PPID), t.soak.simian) {
			continue
		}
		above, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", st.PPID))
		found[st.ID()] = fmt.Sprintf("%d %q", st.PPID, above)
	}
	return found
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// measure takes down how quickly the lab was gone, and the run taken back.
func (t *trial) measure(lines []line) {
	if !t.blow.lab || !t.struck || t.seen == nil {
		return
	}
	t.seen.gone.Wait()
	if !t.timed {
		return
	}
	if t.blow.kills && t.seen.boxes > 0 && t.seen.ended == len(t.seen.members) {
		t.gone = t.seen.last.Sub(t.seen.from)
	}
	for _, l := range lines {
		if l.Kind == experiment.EventEnd && l.Boot > t.blown {
			t.back = l.Boot.Sub(t.blown)
		}
	}
	if t.blow.kills && t.gone > time.Second || t.back > 4*time.Second {
		t.leak("slow: gone after %s, taken back after %s; late: %q", t.gone, t.back, t.seen.late)
	}
}
