package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// checkForkServers looks for fork servers, and containers, whose launcher is
// gone. Those of another trial may be just about to follow theirs.
func (t *trial) checkForkServers() {
	left := t.strays()
	for end := time.Now().Add(patience); len(left) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := t.strays()
		maps.DeleteFunc(left, func(id experiment.ProcessID, _ bool) bool { return !now[id] })
	}
	for id := range left {
		t.leak("%s is a fork server or a container whose launcher is gone", id)
	}
}

// strays returns the fork servers and first stages that this process has
// inherited: their launcher is gone.
func (t *trial) strays() map[experiment.ProcessID]bool {
	found := map[experiment.ProcessID]bool{}
	host := proc.Host()
	pids, _ := host.PIDs()
	for _, pid := range pids {
		st, err := host.Stat(pid)
		if err != nil || st.Exited() || st.PPID != os.Getpid() || t.ofOthers(pid) {
			continue
		}
		if args, err := host.Cmdline(pid); err != nil || len(args) == 0 || args[0] != stageName {
			continue
		}
		found[st.ID()] = true
	}
	return found
}

// ofOthers tells whether a process is in the cgroup of another trial's lab.
func (t *trial) ofOthers(pid int) bool {
	paths, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return strings.Contains(string(paths), "/simian-") && !inLab(t.runs(), pid)
}

// tidyLab removes what is left of a lab that was found to be left, so that the
// trials after it find nothing of it.
func (t *trial) tidyLab() {
	for range 100 {
		dirs := t.labCgroups()
		if len(dirs) == 0 {
			return
		}
		for _, dir := range dirs { // from the top down: what is above is thawed first
			thaw(dir)
		}
		for _, dir := range slices.Backward(dirs) {
			t.endMembers(dir)
			_ = os.Remove(dir)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endMembers kills what is in a cgroup of the trial's lab.
func (t *trial) endMembers(dir string) {
	host := proc.Host()
	pids, _ := host.CgroupMembers(dir)
	for _, pid := range pids {
		if id, err := host.Identify(pid); err == nil && inLab(t.runs(), pid) {
			killID(id)
		}
	}
}
