package faults

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/simianhq/simian/experiment"
)

// names are what a run calls what it makes.
type names []string

func namesOf(run experiment.RunID) names {
	return names{"simian-" + string(run), "simian_" + string(run), "sm" + string(run)}
}

func (n names) run() string { return strings.TrimPrefix(n[0], "simian-") }

func (n names) in(text string) bool {
	return slices.ContainsFunc(n, func(name string) bool { return strings.Contains(text, name) })
}

// leftOf lists what on this host, and of this subject, carries the name of a
// run: cgroups, links, tables, mounts, files and processes.
func leftOf(run experiment.RunID, s *subject) []string {
	n := namesOf(run)
	return slices.Concat(n.cgroups(), n.hostNet(), n.files(s.base), n.processes(), n.programs())
}

func (n names) cgroups() (left []string) {
	roots, _ := host.CgroupRoots()
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && n.in(e.Name()) {
				left = append(left, "cgroup "+path)
			}
			return nil
		})
	}
	return left
}

// hostNet looks in this process's own network.
func (n names) hostNet() (left []string) {
	ns, err := host.Namespace(os.Getpid(), "net")
	if err != nil {
		return []string{err.Error()}
	}
	seen, err := host.Observe(context.Background(), experiment.Target{Net: ns})
	if err != nil {
		return []string{err.Error()}
	}
	for _, o := range seen {
		for _, line := range o.Lines {
			if n.in(line) {
				left = append(left, "this host's network: "+line)
			}
		}
	}
	return left
}

// programs looks at those of BPF that the kernel has loaded.
func (n names) programs() (left []string) {
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); err != nil {
			return left // after the last
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil && n.in(info.Name) {
			left = append(left, "BPF program "+info.Name)
		}
		p.Close()
	}
}

// files looks where runs leave files, and in the subject's own folders.
func (n names) files(base string) (left []string) {
	for _, pattern := range []string{"/tmp/*", "/run/*", "/dev/shm/*", "/var/tmp/*"} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if n.in(filepath.Base(path)) {
				left = append(left, "file "+path)
			}
		}
	}
	for _, dir := range []string{base, "/run/simian"} {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && (n.in(e.Name()) || strings.HasPrefix(e.Name(), n.run()+"-")) {
				left = append(left, "file "+path)
			}
			return nil
		})
	}
	return left
}

// processes looks in names, arguments, mounts and cgroups.
func (n names) processes() (left []string) {
	pids, _ := host.PIDs()
	for _, pid := range pids {
		if st, err := host.Stat(pid); pid == os.Getpid() || err != nil || st.Exited() || st.Kernel() {
			continue
		}
		for _, file := range []string{"comm", "cmdline", "mountinfo", "cgroup"} {
			data, err := os.ReadFile(filepath.Join(host.Proc, fmt.Sprint(pid), file))
			if err == nil && n.in(string(data)) {
				left = append(left, fmt.Sprintf("process %d, in its %s", pid, file))
			}
		}
	}
	return left
}
