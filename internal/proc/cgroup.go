package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/simianhq/simian/experiment"
)

// hierarchy is one place where a cgroup hierarchy is mounted.
type hierarchy struct {
	controllers []string // of version 1; nil for version 2. "systemd" for name=systemd
	root        string   // the cgroup at the mount point, as this process's cgroup namespace sees it
	dir         string   // the mount point
}

// names returns its controllers; that of version 2 is "".
func (h hierarchy) names() []string {
	if h.controllers == nil {
		return []string{""}
	}
	return h.controllers
}

// hierarchies returns the mounted ones, from this process's mountinfo.
func (f FS) hierarchies() ([]hierarchy, error) {
	file, err := os.Open(filepath.Join(f.Proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	defer file.Close()
	var list []hierarchy
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20) // an overlay's line may be long
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		if m.kind != "cgroup" && m.kind != "cgroup2" {
			continue
		}
		list = append(list, hierarchy{v1Controllers(m), m.root, f.below(m.point)})
	}
	return list, lines.Err()
}

// below moves a path below /sys to where this FS has it.
func (f FS) below(path string) string {
	if rest, ok := strings.CutPrefix(path, "/sys/"); ok {
		return filepath.Join(f.Sys, rest)
	}
	return path
}

func v1Controllers(m mount) []string {
	if m.kind == "cgroup2" {
		return nil
	}
	var list []string
	for option := range strings.SplitSeq(m.super, ",") {
		if option != "rw" && option != "ro" {
			list = append(list, strings.TrimPrefix(option, "name="))
		}
	}
	return list
}

// Cgroup returns the directories of the cgroups a process is in, with their
// inodes: version 2's, and one for each controller of version 1, where
// name=systemd is called systemd. A hierarchy is left out where it is not
// mounted, or where its mount does not show the process's cgroup, because it
// lies outside this process's cgroup namespace (cgroup_namespaces(7)).
func (f FS) Cgroup(pid int) (experiment.Cgroup, error) {
	mounts, err := f.hierarchies()
	if err != nil {
		return experiment.Cgroup{}, err
	}
	return f.cgroup(mounts, StatCgroup, pid)
}

func (f FS) cgroup(mounts []hierarchy, stat statCgroup, pid int) (experiment.Cgroup, error) {
	paths, err := f.CgroupPaths(pid)
	if err != nil {
		return experiment.Cgroup{}, err
	}
	var c experiment.Cgroup
	for controller, path := range paths {
		setDir(&c, controller, resolve(mounts, stat, controller, path))
	}
	return c, nil
}

// setDir puts a directory that is there into c. Controller "" is version 2.
func setDir(c *experiment.Cgroup, controller string, dir experiment.CgroupDir) {
	switch {
	case dir.Path == "":
	case controller == "":
		c.V2 = dir
	default:
		if c.V1 == nil {
			c.V1 = map[string]experiment.CgroupDir{}
		}
		c.V1[controller] = dir
	}
}

// CgroupPaths returns the cgroups of a process as proc_pid_cgroup(5) names
// them, by controller: "" is version 2, and name=systemd is called systemd.
func (f FS) CgroupPaths(pid int) (map[string]string, error) {
	data, err := f.read(pid, "cgroup")
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("read cgroup of pid %d: %q is no line of it", pid, line)
		}
		for name := range strings.SplitSeq(parts[1], ",") {
			paths[strings.TrimPrefix(name, "name=")] = parts[2]
		}
	}
	return paths, nil
}

// resolve finds the directory of a cgroup that proc_pid_cgroup(5) calls path.
// Controller "" is version 2.
//
//	mountinfo: root /docker/81f, at /sys/fs/cgroup/cpu
//	cgroup:    /docker/81f/worker
//	           └── root ─┘└ rest ┘  →  /sys/fs/cgroup/cpu/worker
//
// Both are told from the root of this process's cgroup namespace, and lead
// out of it with "/..".
func resolve(mounts []hierarchy, stat statCgroup, controller, path string) experiment.CgroupDir {
	for _, m := range mounts {
		if !slices.Contains(m.names(), controller) {
			continue
		}
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(m.root, "/"))
		if !ok || rest != "" && rest[0] != '/' || slices.Contains(strings.Split(rest, "/"), "..") {
			continue
		}
		if dir, err := stat(filepath.Join(m.dir, rest)); err == nil {
			return dir
		}
	}
	return experiment.CgroupDir{}
}

// statCgroup is StatCgroup, or what remembers its answers.
type statCgroup func(dir string) (experiment.CgroupDir, error)

// remember asks stat once for each directory: many processes are in few.
func remember(stat statCgroup) statCgroup {
	known := map[string]experiment.CgroupDir{}
	return func(dir string) (experiment.CgroupDir, error) {
		if found, ok := known[dir]; ok {
			return found, nil
		}
		found, err := stat(dir)
		if err == nil {
			known[dir] = found
		}
		return found, err
	}
}

// StatCgroup returns the identity of the cgroup at the directory dir.
func StatCgroup(dir string) (experiment.CgroupDir, error) {
	inode, err := inodeOf(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = experiment.ErrGone
		}
		return experiment.CgroupDir{}, fmt.Errorf("find cgroup %s: %w", dir, err)
	}
	return experiment.CgroupDir{Path: dir, Inode: inode}, nil
}

// FindCgroup returns the cgroups that path names: an absolute directory below
// the mount point of a hierarchy, or else a path from the root of hierarchies,
// in each that has one. The error is experiment.ErrGone where none has.
func (f FS) FindCgroup(path string) (experiment.Cgroup, error) {
	mounts, err := f.hierarchies()
	if err != nil {
		return experiment.Cgroup{}, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.IsAbs(path) {
		path = real
	}
	var absolute, relative experiment.Cgroup
	for _, m := range mounts {
		within := path == m.dir || strings.HasPrefix(path, m.dir+"/")
		dir, here := &relative, filepath.Join(m.dir, path)
		if within {
			dir, here = &absolute, path
		}
		found, err := StatCgroup(here)
		if _, procs := os.Stat(filepath.Join(here, "cgroup.procs")); err != nil || procs != nil {
			continue
		}
		for _, controller := range m.names() {
			setDir(dir, controller, found)
		}
	}
	for _, c := range []experiment.Cgroup{absolute, relative} {
		if c.V2.Path != "" || len(c.V1) > 0 {
			return c, nil
		}
	}
	return experiment.Cgroup{}, fmt.Errorf("find cgroup %s: %w", path, experiment.ErrGone)
}

// CgroupMembers returns the processes in the cgroup at dir and in all below
// it, sorted. A 0 among them stands for those of other PID namespaces, which
// have no pid here.
func (f FS) CgroupMembers(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return skipGone(dir, path, err)
		}
		if !entry.IsDir() {
			return nil
		}
		members, err := f.members(path)
		pids = append(pids, members...)
		return skipGone(dir, path, err)
	})
	if err != nil {
		return nil, fmt.Errorf("list members of cgroup %s: %w", dir, err)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// skipGone passes over cgroups below dir that were removed meanwhile.
func skipGone(dir, path string, err error) error {
	gone := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
	switch {
	case !gone:
		return err
	case path == dir:
		return experiment.ErrGone
	}
	return nil
}

// members returns the processes in the cgroup dir itself. A threaded cgroup
// of version 2 lists threads only.
func (f FS) members(dir string) ([]int, error) {
	data, err := readFile(filepath.Join(dir, "cgroup.procs"), false)
	if err == nil {
		return numbers(strings.Fields(string(data))), nil
	}
	if !errors.Is(err, syscall.EOPNOTSUPP) {
		return nil, err
	}
	data, err = readFile(filepath.Join(dir, "cgroup.threads"), false)
	if err != nil {
		return nil, err
	}
	pids := numbers(strings.Fields(string(data)))
	for i, tid := range pids {
		if status, err := f.status(tid); err == nil {
			pids[i], _ = strconv.Atoi(status["Tgid"])
		}
	}
	return pids, nil
}
