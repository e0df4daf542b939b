package proc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// mostLines is how many facts of one object are kept one by one. What is
// beyond goes into one line with its digest: a full routing table or a node's
// service rules would fill the journal.
const mostLines = 5000

// Observe reads the state of what belongs to a target and faults could change,
// as sorted lines, one a fact:
//
//	net:4026531840    links, addresses, routes, rules, qdiscs, classes, filters, nftables
//	mnt:4026531841    mounts
//	cgroup:/sys/fs/…  limits, and whether it is frozen
//	process:812:99123 running, stopped or traced; limits, affinity, niceness
//
// Two reads of an unchanged system are equal: counters, ages and what else
// moves by itself is left out. What cannot be read gives a line that says so,
// the same each time. A process that has exited, and a namespace or cgroup
// that is gone or is another by now, has no object.
func (f FS) Observe(ctx context.Context, t experiment.Target) ([]experiment.Observation, error) {
	var list []experiment.Observation
	add := func(object string, read func() ([]string, error)) {
		lines, err := read()
		if errors.Is(err, experiment.ErrGone) {
			return
		}
		if err != nil {
			lines = append(lines, unreadable(err))
		}
		slices.Sort(lines)
		list = append(list, experiment.Observation{Object: object, Target: t.ID, Lines: condense(lines)})
	}
	if t.Net.Inode != 0 {
		add(fmt.Sprintf("net:%d", t.Net.Inode), func() ([]string, error) { return f.observeNet(t.Net) })
	}
	if t.Mount.Inode != 0 {
		add(fmt.Sprintf("mnt:%d", t.Mount.Inode), func() ([]string, error) { return f.observeMounts(t.Mount) })
	}
	for _, dir := range directories(t.Cgroup) {
		add("cgroup:"+dir.Path, func() ([]string, error) { return observeCgroup(dir) })
	}
	for _, id := range t.PIDs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		add(id.Handle(), func() ([]string, error) { return f.observeProcess(id) })
	}
	return list, ctx.Err()
}

// unreadable is the line for what err kept from being read.
func unreadable(err error) string { return "unreadable: " + err.Error() }

// condense keeps sorted lines from filling a journal.
func condense(lines []string) []string {
	if len(lines) <= mostLines {
		return lines
	}
	rest := lines[mostLines:]
	digest := sha256.Sum256([]byte(strings.Join(rest, "\n")))
	return append(lines[:mostLines:mostLines], fmt.Sprintf("… and %d more, sha256 %x", len(rest), digest))
}

// observeProcess gives what can be done to one process without its knowing.
func (f FS) observeProcess(id experiment.ProcessID) ([]string, error) {
	if !f.Alive(id) {
		return nil, experiment.ErrGone
	}
	status, err := f.status(id.PID)
	if err != nil {
		return nil, err
	}
	threads, err := f.Threads(id.PID)
	if err != nil {
		return nil, err
	}
	lines := []string{
		"state " + condition(threads, status["TracerPid"]),
		"affinity " + status["Cpus_allowed_list"],
		fmt.Sprintf("nice %d", threads[0].Nice),
	}
	for _, name := range []string{"oom_score_adj", "limits"} {
		data, err := f.read(id.PID, name)
		if err != nil {
			lines = append(lines, unreadable(err))
			continue
		}
		for line := range strings.Lines(string(data)) {
			lines = append(lines, strings.TrimSuffix(name, "s")+" "+strings.Join(strings.Fields(line), " "))
		}
	}
	return lines, nil
}

// condition tells whether a process may run. Which of its threads wait just
// now is of no interest, but one that is stopped tells of a stop.
func condition(threads []Stat, tracer string) string {
	if tracer != "" && tracer != "0" {
		return "traced by pid " + tracer
	}
	for _, t := range threads {
		if t.State == 'T' {
			return "stopped"
		}
	}
	return "running"
}

// observeMounts gives the mounts that the process via sees, without their ids,
// which are reused.
func (f FS) observeMounts(ns experiment.Namespace) ([]string, error) {
	if now, err := f.namespace(ns.Via, "mnt"); err != nil || now.Inode != ns.Inode || !f.Alive(ns.Via) {
		return nil, experiment.ErrGone
	}
	data, err := readFile(f.path(ns.Via.PID, "mountinfo"), false)
	if err != nil {
		return nil, f.failure("read mountinfo", ns.Via.PID, err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		m, err := parseMount(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		lines = append(lines, fmt.Sprintf("mount %s %s from %s root %s device %s options %s super %s %s",
			m.point, m.kind, m.source, m.root, m.device, m.options, m.super, m.optional))
	}
	return lines, nil
}

// knobs are the files of a cgroup that hold what somebody set: first version
// 2's, then those of version 1's controllers.
func knobs() []string {
	return strings.Fields(`
		cgroup.freeze cgroup.max.depth cgroup.max.descendants cgroup.subtree_control cgroup.type
		cpu.max cpu.max.burst cpu.weight cpu.idle cpu.uclamp.min cpu.uclamp.max
		cpuset.cpus cpuset.mems cpuset.cpus.partition
		io.max io.weight io.latency
		memory.min memory.low memory.high memory.max memory.swap.max memory.oom.group
		pids.max hugetlb.2MB.max hugetlb.1GB.max

		blkio.throttle.read_bps_device blkio.throttle.write_bps_device
		blkio.throttle.read_iops_device blkio.throttle.write_iops_device blkio.weight
		cpu.cfs_quota_us cpu.cfs_period_us cpu.shares cpu.rt_runtime_us
		devices.list freezer.state freezer.self_freezing
		memory.limit_in_bytes memory.soft_limit_in_bytes memory.memsw.limit_in_bytes
		memory.swappiness memory.oom_control net_cls.classid`)
}

// directories returns each cgroup once: version 1's controllers may share one.
func directories(c experiment.Cgroup) []experiment.CgroupDir {
	var dirs []experiment.CgroupDir
	if c.V2.Path != "" {
		dirs = append(dirs, c.V2)
	}
	for _, dir := range c.V1 {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.SortFunc(dirs, func(a, b experiment.CgroupDir) int { return strings.Compare(a.Path, b.Path) })
	return dirs
}

func observeCgroup(dir experiment.CgroupDir) ([]string, error) {
	if now, err := StatCgroup(dir.Path); err != nil || now != dir {
		return nil, experiment.ErrGone
	}
	files, err := os.ReadDir(dir.Path)
	if err != nil {
		return nil, fmt.Errorf("list cgroup %s: %w", dir.Path, err)
	}
	wanted := knobs()
	var lines []string
	for _, file := range files {
		switch name := file.Name(); {
		case slices.Contains(wanted, name):
			lines = append(lines, readKnob(dir.Path, name)...)
		case name == "cgroup.events":
			lines = append(lines, frozen(dir.Path)...)
		}
	}
	return lines, nil
}

// readKnob gives one line for each line of a cgroup's file. One that is
// write-only or not for us says so.
func readKnob(dir, name string) []string {
	data, err := readFile(filepath.Join(dir, name), false)
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return []string{name + " " + unreadable(err)}
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if !strings.HasPrefix(line, "under_oom ") && !strings.HasPrefix(line, "oom_kill ") { // of memory.oom_control
			lines = append(lines, name+" "+strings.TrimSpace(line))
		}
	}
	return lines
}

// frozen tells whether a version 2 cgroup is frozen now, be it by one above.
func frozen(dir string) []string {
	data, err := readFile(filepath.Join(dir, "cgroup.events"), false)
	if err != nil || !strings.Contains(string(data), "frozen ") {
		return nil
	}
	if strings.Contains(string(data), "frozen 1") {
		return []string{"frozen"}
	}
	return []string{"not frozen"}
}
