package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
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
	t.tidyLab()
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

// How long it may take until a lab is gone, and taken back: much longer than
// it does, since others may want this host's processors. What the soak has
// frozen while it was launched holds its step up.
const (
	goneBound  = time.Second
	backBound  = 5 * time.Second
	frozenStep = 10 * time.Second
)

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
	allowed := backBound
	if t.handFrozen {
		allowed += frozenStep
	}
	if t.gone > goneBound || t.back > allowed {
		t.leak("slow: gone after %s, taken back after %s; late: %q", t.gone, t.back, t.seen.late)
	}
}
