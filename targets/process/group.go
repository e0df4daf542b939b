package process

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// selectCgroup returns all that runs in a cgroup as one target.
func (p *Process) selectCgroup() ([]experiment.Target, error) {
	found, err := p.fs.FindCgroup(p.Cgroup)
	if errors.Is(err, experiment.ErrGone) {
		return nil, noMatch("there is no cgroup "+p.Cgroup+p.beside(), nil)
	}
	if err != nil {
		return nil, err
	}
	for _, dir := range inOrder(found) {
		t, err := p.group(func() ([]int, error) { return p.fs.CgroupMembers(dir.Path) })
		if errors.Is(err, experiment.ErrGone) {
			continue // none runs here; the next hierarchy may have some
		}
		if err != nil {
			return nil, fmt.Errorf("select cgroup %s: %w", dir.Path, err)
		}
		t.Cgroup = widen(t.Cgroup, func(own experiment.CgroupDir) (experiment.CgroupDir, bool) { return above(found, own) })
		t.Name, t.ID = filepath.Base(dir.Path), dir.Handle()
		t.Labels["cgroup"] = dir.Path
		t.Workload = "cgroup " + dir.Path
		return []experiment.Target{t}, nil
	}
	return nil, noMatch("nothing runs in cgroup "+p.Cgroup, nil)
}

// beside names the cgroup that was probably meant.
func (p *Process) beside() string {
	parent, err := p.fs.FindCgroup(filepath.Dir(p.Cgroup))
	if err != nil {
		return ""
	}
	var names []string
	for _, dir := range inOrder(parent) {
		entries, _ := os.ReadDir(dir.Path)
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	if near := experiment.Nearest(filepath.Base(p.Cgroup), names); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", filepath.Join(filepath.Dir(p.Cgroup), near))
	}
	return ""
}

// inOrder returns the directories of c: version 2's, the freezer's, then the
// others by controller.
func inOrder(c experiment.Cgroup) []experiment.CgroupDir {
	dirs := []experiment.CgroupDir{c.V2, c.V1["freezer"]}
	for _, controller := range slices.Sorted(maps.Keys(c.V1)) {
		dirs = append(dirs, c.V1[controller])
	}
	return slices.DeleteFunc(dirs, func(d experiment.CgroupDir) bool { return d.Path == "" })
}

// above returns the one of found's directories that own lies in.
func above(found experiment.Cgroup, own experiment.CgroupDir) (experiment.CgroupDir, bool) {
	for _, dir := range inOrder(found) {
		if own.Path == dir.Path || strings.HasPrefix(own.Path, dir.Path+"/") {
			return dir, true
		}
	}
	return own, false
}

// widen replaces the directories of a group's main process by those of the
// whole group, where it has one.
func widen(c experiment.Cgroup, whole func(experiment.CgroupDir) (experiment.CgroupDir, bool)) experiment.Cgroup {
	if dir, ok := whole(c.V2); ok {
		c.V2 = dir
	}
	for controller, own := range c.V1 {
		if dir, ok := whole(own); ok {
			c.V1[controller] = dir
		}
	}
	return c
}

// group makes one target of the processes that list gives, the oldest first.
// The error is experiment.ErrGone where none of them runs. List is asked
// again once they are identified: a pid that was reused in between is not one
// of the group.
func (p *Process) group(list func() ([]int, error)) (experiment.Target, error) {
	pids, err := list()
	if err != nil {
		return experiment.Target{}, err
	}
	if slices.Contains(pids, 0) {
		return experiment.Target{}, fmt.Errorf("some of its processes are in a PID namespace that this one cannot see: %w", experiment.ErrUnsupported)
	}
	t, err := p.fs.Target(p.byAge(pids)...)
	if err != nil {
		return t, err
	}
	if pids, err = list(); err != nil {
		return t, err
	}
	first := t.PIDs[0]
	t.PIDs = slices.DeleteFunc(t.PIDs, func(id experiment.ProcessID) bool {
		return !slices.Contains(pids, id.PID) || !p.fs.Alive(id)
	})
	if len(t.PIDs) == 0 || t.PIDs[0] != first {
		return t, experiment.ErrGone
	}
	p.describe(&t)
	return t, nil
}

// byAge returns those of pids that run, the oldest first.
func (p *Process) byAge(pids []int) []int {
	var running []proc.Stat
	for _, pid := range pids {
		if s, err := p.fs.Stat(pid); err == nil && (!s.Exited() || p.fs.Alive(s.ID())) {
			running = append(running, s)
		}
	}
	slices.SortFunc(running, func(a, b proc.Stat) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	sorted := make([]int, 0, len(running))
	for _, s := range running {
		sorted = append(sorted, s.PID)
	}
	return sorted
}

// describe fills in what t's first process is: its kind, labels and workload.
func (p *Process) describe(t *experiment.Target) {
	pid := t.PIDs[0].PID
	t.Kind = "process"
	t.Labels = map[string]string{"pid": strconv.Itoa(pid)}
	if uid, err := p.fs.UID(pid); err == nil {
		t.Labels["uid"] = strconv.Itoa(uid)
	}
	if exe, err := p.fs.Exe(pid); err == nil {
		t.Labels["exe"] = exe
	}
	unit := p.unitOf(pid)
	if unit != "" {
		t.Labels["unit"] = unit
	}
	t.Workload = p.workload(pid, unit)
}
