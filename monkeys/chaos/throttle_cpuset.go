package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// cpuset leaves it fewer CPUs.
func (p *throttling) cpuset(at ownedCgroup) error {
	k := at.file("cpuset.cpus", "cpuset.cpus")
	value, err := k.Value()
	if err != nil {
		return err
	}
	now, err := at.file("cpuset.effective_cpus", "cpuset.cpus.effective").Value()
	if err != nil {
		return err
	}
	present, err := parseCPUs(now)
	if err != nil {
		return fmt.Errorf("read the CPUs of %s: %w", at.dir.Path, err)
	}
	wanted, err := p.wantedCPUs(present)
	if err != nil {
		return err
	}
	if value == "" {
		return fmt.Errorf("cpuset.cpus of %s is empty, which means those of the cgroup above, and the kernel takes no empty one back while processes are in it: give the target a cpuset of its own, or say cpus instead: %w", at.dir.Path, experiment.ErrBusy)
	}
	if kind, err := at.file("", "cpuset.cpus.partition").Value(); at.v2 && err == nil && kind != "member" {
		return fmt.Errorf("cgroup %s is a partition (cpuset.cpus.partition is %s), which could not be put back exactly: %w", at.dir.Path, kind, experiment.ErrBusy)
	}
	if err := p.checkPinned(at, now); err != nil {
		return err
	}
	if !at.v2 {
		if err := p.cpusetsBelow(at, wanted); err != nil {
			return err
		}
	}
	p.set(k, value, listCPUs(wanted))
	return nil
}

// wantedCPUs are those that it is to have left of the present ones.
func (p *throttling) wantedCPUs(present []int) ([]int, error) {
	now := listCPUs(present)
	if p.CPUSetCount != nil {
		if *p.CPUSetCount >= len(present) {
			return nil, errNoChange("cpusetCount", fmt.Sprintf("%d of its CPUs", *p.CPUSetCount), now)
		}
		return present[:*p.CPUSetCount], nil
	}
	wanted, err := parseCPUs(p.CPUSet)
	if err != nil {
		return nil, err
	}
	for _, n := range wanted {
		if !slices.Contains(present, n) {
			return nil, experiment.Fieldf("cpuset", "CPU %d is none that it may use: they are %s", n, now)
		}
	}
	if len(wanted) == len(present) {
		return nil, errNoChange("cpuset", listCPUs(wanted), now)
	}
	return wanted, nil
}

// checkPinned refuses where a thread is pinned to some of the CPUs, and the
// kernel would forget that: Linux 6.2 and later do not.
func (p *throttling) checkPinned(at ownedCgroup, now string) error {
	if remembersAffinity() {
		return nil
	}
	pids, err := p.host.FS.CgroupMembers(at.dir.Path)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		lists, _ := p.host.FS.Affinities(pid) // one that has ended is not pinned
		for _, list := range lists {
			if list != now {
				return fmt.Errorf("pid %d has a thread that is pinned to CPU %s (of %s), and this kernel would not pin it again: say cpus instead: %w", pid, list, now, experiment.ErrBusy)
			}
		}
	}
	return nil
}

// remembersAffinity tells whether the kernel keeps what sched_setaffinity(2)
// has set while a cpuset changes.
func remembersAffinity() bool {
	var name unix.Utsname
	var major, minor int
	_ = unix.Uname(&name)
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 2)
}

// cpusetsBelow takes the CPUs from the cgroups below first: in version 1 none
// has one that its parent has not.
func (p *throttling) cpusetsBelow(at ownedCgroup, wanted []int) error {
	children, err := below(at)
	if err != nil {
		return err
	}
	for _, child := range children {
		k := child.file("cpuset.cpus", "")
		value, err := k.Value()
		if err != nil {
			return err
		}
		has, err := parseCPUs(value)
		if err != nil {
			continue // none: nothing runs in it
		}
		left := slices.DeleteFunc(slices.Clone(has), func(n int) bool { return !slices.Contains(wanted, n) })
		if len(left) == 0 {
			left = wanted
		}
		if !slices.Equal(left, has) {
			p.set(k, value, listCPUs(left))
		}
	}
	return nil
}

// below returns the cgroups below one, each after its own children.
func below(at ownedCgroup) ([]ownedCgroup, error) {
	entries, err := os.ReadDir(at.dir.Path)
	if err != nil {
		return nil, fmt.Errorf("list cgroups below %s: %w", at.dir.Path, err)
	}
	var list []ownedCgroup
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir, err := proc.StatCgroup(filepath.Join(at.dir.Path, e.Name()))
		if err != nil {
			continue // it has just been removed
		}
		child := ownedCgroup{dir, at.v2}
		deeper, err := below(child)
		if err != nil {
			return nil, err
		}
		list = append(append(list, deeper...), child)
	}
	return list, nil
}

// above yields the cgroups that one lies in, up to where there are none.
func above(at ownedCgroup) func(yield func(ownedCgroup) bool) {
	return func(yield func(ownedCgroup) bool) {
		for path := filepath.Dir(at.dir.Path); ; path = filepath.Dir(path) {
			_, procs := os.Stat(filepath.Join(path, "cgroup.procs"))
			dir, err := proc.StatCgroup(path)
			if procs != nil || err != nil || !yield(ownedCgroup{dir, at.v2}) {
				return
			}
		}
	}
}
