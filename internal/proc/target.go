package proc

import (
	"errors"
	"fmt"

	"github.com/simianhq/simian/experiment"
)

// Target resolves processes to handles: PIDs are their identities in the
// order given, and namespaces, cgroups and root are those of the first. Kind,
// Name, ID, Labels and Workload are left to the caller. Processes after the
// first that have exited are left out; where the first has, the error is
// experiment.ErrGone. What this process is not allowed to read stays zero.
func (f FS) Target(pids ...int) (experiment.Target, error) {
	mounts, err := f.hierarchies()
	if err != nil {
		return experiment.Target{}, err
	}
	return f.target(mounts, StatCgroup, pids)
}

// Targets is Target for many, each a list of processes. Those whose first has
// exited are left out.
func (f FS) Targets(groups ...[]int) ([]experiment.Target, error) {
	mounts, err := f.hierarchies()
	if err != nil {
		return nil, err
	}
	stat := remember(StatCgroup)
	var list []experiment.Target
	for _, pids := range groups {
		t, err := f.target(mounts, stat, pids)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func (f FS) target(mounts []hierarchy, stat statCgroup, pids []int) (experiment.Target, error) {
	if len(pids) == 0 {
		return experiment.Target{}, fmt.Errorf("resolve a target of no process: %w", experiment.ErrGone)
	}
	var t experiment.Target
	for _, pid := range pids {
		s, err := f.Stat(pid)
		if err == nil && f.runs(s) {
			t.PIDs = append(t.PIDs, s.ID())
			continue
		}
		if pid == pids[0] {
			return experiment.Target{}, fmt.Errorf("resolve pid %d: %w", pid, experiment.ErrGone)
		}
	}
	first := t.PIDs[0]
	t.Net, _ = f.namespace(first, "net")
	t.Mount, _ = f.namespace(first, "mnt")
	t.PID, _ = f.namespace(first, "pid")
	t.User, _ = f.namespace(first, "user")
	t.Root = f.path(first.PID, "root")
	var err error
	if t.Cgroup, err = f.cgroup(mounts, stat, first.PID); err != nil {
		return experiment.Target{}, err
	}
	if !f.Alive(first) { // what was read may be another's
		return experiment.Target{}, fmt.Errorf("resolve %s: %w", first, experiment.ErrGone)
	}
	return t, nil
}
