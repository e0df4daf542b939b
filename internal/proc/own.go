package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// OwnCgroup returns a cgroup that can be frozen in place of t: all of t's
// processes are in it and below it, and no others. It prefers version 2, where
// controller is "", to version 1's "freezer". The root of a hierarchy has no
// freezer, so it is never one.
func (f FS) OwnCgroup(t experiment.Target) (dir experiment.CgroupDir, controller string, ok bool) {
	if f.owns(t.Cgroup.V2, "cgroup.freeze", t) {
		return t.Cgroup.V2, "", true
	}
	if v1 := t.Cgroup.V1["freezer"]; f.owns(v1, "freezer.state", t) {
		return v1, "freezer", true
	}
	return experiment.CgroupDir{}, "", false
}

// owns tells whether dir is t's own, and has the file knob.
func (f FS) owns(dir experiment.CgroupDir, knob string, t experiment.Target) bool {
	if dir.Path == "" || f.checkOwn(dir, t, "") != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(dir.Path, knob))
	return err == nil
}

// OwnController returns the cgroup in which the limits of a controller, as
// version 2 names it (cpu, cpuset, memory, io, pids, hugetlb), hold for t and
// for nobody else, and whether it is one of version 2. The error says why
// there is none.
func (f FS) OwnController(t experiment.Target, controller string) (dir experiment.CgroupDir, v2 bool, err error) {
	v1 := controller
	if controller == "io" {
		v1 = "blkio"
	}
	dir = t.Cgroup.V1[v1]
	if v2 = dir.Path == ""; v2 {
		dir = t.Cgroup.V2
	}
	if dir.Path == "" {
		return dir, v2, fmt.Errorf("no cgroup hierarchy with the %s controller is mounted here: %w", v1, experiment.ErrUnsupported)
	}
	err = f.checkOwn(dir, t, "with the "+controller+" controller ")
	if err == nil && v2 {
		err = f.checkEnabled(dir, controller)
	}
	return dir, v2, err
}

// OwnV2 returns the version 2 cgroup of t, where that is t's own as
// OwnController has it. What is there in each needs no controller.
func (f FS) OwnV2(t experiment.Target) (experiment.CgroupDir, error) {
	dir := t.Cgroup.V2
	if dir.Path == "" {
		return dir, fmt.Errorf("no cgroup v2 is mounted here: %w", experiment.ErrUnsupported)
	}
	return dir, f.checkOwn(dir, t, "of version 2 ")
}

// isRoot tells whether a cgroup is the topmost of its hierarchy.
func (f FS) isRoot(dir experiment.CgroupDir) (bool, error) {
	roots, err := f.CgroupRoots()
	return slices.Contains(roots, dir.Path), err
}

// checkEnabled asks for a controller of version 2 in a cgroup.
func (f FS) checkEnabled(dir experiment.CgroupDir, controller string) error {
	data, err := readFile(filepath.Join(dir.Path, "cgroup.controllers"), false)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read controllers of cgroup %s: %w", dir.Path, experiment.ErrGone)
	}
	if err != nil {
		return fmt.Errorf("read controllers of cgroup %s: %w", dir.Path, err)
	}
	if slices.Contains(strings.Fields(string(data)), controller) {
		return nil
	}
	return fmt.Errorf("the %s controller is not switched on for its cgroup %s (cgroup.subtree_control of %s does not have it): %w",
		controller, dir.Path, filepath.Dir(dir.Path), experiment.ErrUnsupported)
}

// newborn is how young a child of a target may be that its selector did not
// see yet.
const newborn = 5 * time.Second

// checkOwn gives an error, which wraps experiment.ErrUnsupported, where dir is
// the root of its hierarchy, or a process lives in it or below it that is none
// of t's, or one of t's does not. Of t are its processes, children that they
// have just had and, where t is a runtime's container, all that are in its PID
// namespace or come from its first process.
func (f FS) checkOwn(dir experiment.CgroupDir, t experiment.Target, which string) error {
	if now, err := StatCgroup(dir.Path); err != nil || now != dir {
		return fmt.Errorf("cgroup %s is gone, or another one now: %w", dir.Path, experiment.ErrGone)
	}
	root, err := f.isRoot(dir)
	why := ""
	if err == nil && !root {
		why, err = f.stranger(dir, t)
	}
	if err != nil || !root && why == "" {
		return err
	}
	if len(t.PIDs) == 1 && t.Runtime == nil { // many are in it, and who they are is of no interest
		why = ""
	}
	return fmt.Errorf("it has no cgroup of its own %s(%sgive it one, as a container or a systemd unit has): %w", which, why, experiment.ErrUnsupported)
}

// stranger says who is in a cgroup and not t's, or the other way round; "" for
// nobody.
func (f FS) stranger(dir experiment.CgroupDir, t experiment.Target) (string, error) {
	members, err := f.living(dir.Path)
	if err != nil {
		return "", fmt.Errorf("read who is in cgroup %s: %w", dir.Path, err)
	}
	for _, id := range t.PIDs {
		if f.Alive(id) && !slices.Contains(members, id) {
			return fmt.Sprintf("%s of it is not in %s; ", id, dir.Path), nil
		}
	}
	own := f.kinship(t)
	for _, id := range members {
		if !slices.Contains(t.PIDs, id) && !own(id) {
			name, _ := f.Comm(id.PID)
			return fmt.Sprintf("%s, %s, is in %s too; ", id, name, dir.Path), nil
		}
	}
	if len(members) == 0 {
		return "", fmt.Errorf("cgroup %s is empty: %w", dir.Path, experiment.ErrGone)
	}
	return "", nil
}

// kinship tells of a process that t does not name whether it is t's.
func (f FS) kinship(t experiment.Target) func(experiment.ProcessID) bool {
	here, err := inodeOf(filepath.Join(f.Proc, "self/ns/pid"))
	apart := t.Runtime != nil && t.PID.Inode != 0 && err == nil && t.PID.Inode != here
	return func(id experiment.ProcessID) bool {
		if apart {
			if in, err := inodeOf(f.path(id.PID, "ns", "pid")); err == nil && in == t.PID.Inode {
				return true
			}
		}
		age := BootTime().Sub(experiment.BootTime(time.Duration(id.Start) * tick))
		return (t.Runtime != nil || age < newborn) && f.descends(id.PID, t.PIDs)
	}
}

// descends tells whether one of ids is among the parents of a process.
func (f FS) descends(pid int, ids []experiment.ProcessID) bool {
	for pid > 1 {
		s, err := f.Stat(pid)
		if err != nil {
			return false
		}
		if slices.Contains(ids, s.ID()) {
			return true
		}
		pid = s.PPID
	}
	return false
}

// living returns the processes of a cgroup's subtree that have not exited. It
// is an error where one has no pid here.
func (f FS) living(dir string) ([]experiment.ProcessID, error) {
	pids, err := f.CgroupMembers(dir)
	if err != nil {
		return nil, err
	}
	var ids []experiment.ProcessID
	for _, pid := range pids {
		s, err := f.Stat(pid)
		if err != nil && !errors.Is(err, experiment.ErrGone) {
			return nil, err
		}
		if err == nil && f.runs(s) && !f.helper(pid) {
			ids = append(ids, s.ID())
		}
		if pid == 0 {
			return nil, fs.ErrPermission
		}
	}
	return ids, nil
}
