package proc

import (
	"errors"
	"os"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// Within returns all processes of a target that run, not only those it was
// found by, in order of their pids: the members of its PID namespace and of those
// below it, where that is another than this process's; of a container only
// those in its cgroup, since several may share a PID namespace. A target that
// has neither is the processes it was found by.
func (f FS) Within(t experiment.Target) ([]Stat, error) {
	found, err := f.inside(t)
	if err != nil {
		return nil, err
	}
	for _, id := range t.PIDs {
		found[id.PID] = true
	}
	var list []Stat
	for pid := range found {
		s, err := f.Stat(pid)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.runs(s) && !s.Kernel() && !reused(t, s) && !f.helper(pid) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b Stat) int { return a.PID - b.PID })
	return list, nil
}

// reused tells whether a pid that the target was found by is another's by now.
func reused(t experiment.Target, s Stat) bool {
	return slices.ContainsFunc(t.PIDs, func(id experiment.ProcessID) bool { return id.PID == s.PID && id.Start != s.Start })
}

// inside returns the pids that the target's namespace and cgroup tell of.
func (f FS) inside(t experiment.Target) (map[int]bool, error) {
	found := map[int]bool{}
	if len(t.PIDs) == 0 || !f.Alive(t.PIDs[0]) {
		return found, nil
	}
	own, err := inodeOf(f.Proc + "/self/ns/pid")
	if err != nil {
		return nil, err
	}
	apart := t.PID.Inode != 0 && t.PID.Inode != own
	if apart {
		if found, err = f.inPIDNamespace(t.PID.Inode); err != nil {
			return nil, err
		}
	}
	if t.Runtime == nil {
		return found, nil
	}
	members, err := f.narrowest(t.Cgroup, t.PIDs[0].PID)
	if err != nil || members == nil {
		return found, err
	}
	for pid := range members {
		members[pid] = !apart || found[pid]
	}
	return pick(members), nil
}

// pick returns the keys of a set that are in it.
func pick(set map[int]bool) map[int]bool {
	for pid, in := range set {
		if !in {
			delete(set, pid)
		}
	}
	return set
}

// inPIDNamespace returns the processes in a PID namespace and in those below
// it. A process below has a parent, or its parent has one, that is in it.
func (f FS) inPIDNamespace(inode uint64) (map[int]bool, error) {
	pids, err := f.PIDs()
	if err != nil {
		return nil, err
	}
	found, parents := map[int]bool{}, map[int]int{}
	for _, pid := range pids {
		if now, err := inodeOf(f.path(pid, "ns", "pid")); err == nil && now == inode {
			found[pid] = true
		} else if s, err := f.Stat(pid); err == nil {
			parents[pid] = s.PPID
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, parent := range parents {
			if found[parent] && !found[pid] {
				found[pid], grown = true, true
			}
		}
	}
	return found, nil
}

// narrowest returns the members of the cgroup that holds pid and the fewest
// others: on a hybrid host not every hierarchy has one of the container's own.
// Nil is none but such as this process is in too.
func (f FS) narrowest(c experiment.Cgroup, pid int) (map[int]bool, error) {
	self, err := f.Cgroup(os.Getpid())
	if err != nil {
		return nil, err
	}
	common := directories(self)
	var fewest []int
	for _, dir := range directories(c) {
		if slices.Contains(common, dir) {
			continue
		}
		members, err := f.CgroupMembers(dir.Path)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(members, pid) && (fewest == nil || len(members) < len(fewest)) {
			fewest = members
		}
	}
	if fewest == nil {
		return nil, nil
	}
	set := map[int]bool{}
	for _, pid := range fewest {
		set[pid] = pid != 0
	}
	return set, nil
}
