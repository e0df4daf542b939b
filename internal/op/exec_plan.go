package op

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/stage"
)

// CheckExec refuses what can't be run: without root, or where there is no such
// command.
func CheckExec(host *Host, p experiment.ProcessID, where string, command []string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("run a command in namespaces of others: %w: it needs root", os.ErrPermission)
	}
	who, err := confinedOf(host.FS, p, where)
	switch {
	case err != nil:
		return err
	case who.seccomp == 1:
		return fmt.Errorf("%s is in strict seccomp mode, in which no command can be: %w (say where: beside)", p, experiment.ErrUnsupported)
	}
	for _, file := range candidates(command[0], who.env) {
		if found(host.FS, p, where, file) {
			return nil
		}
	}
	return fmt.Errorf("there is no command %q %s: %w", command[0], map[string]string{Inside: "in the target", Beside: "on this host"}[where], os.ErrNotExist)
}

func found(fs proc.FS, p experiment.ProcessID, where, file string) bool {
	if where == Beside {
		st, err := os.Stat(filepath.Join("/", file))
		return err == nil && !st.IsDir()
	}
	fd, err := fs.OpenInside(p, filepath.Join("/", file), unix.O_PATH)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// Workload returns the first process of a target that is not Simian's own: a
// reaper that is PID 1 of a container has neither the container's filter nor
// its environment.
func Workload(fs proc.FS, ids []experiment.ProcessID) experiment.ProcessID {
	for _, id := range ids {
		if args, err := fs.Cmdline(id.PID); err == nil && len(args) != 1 || err == nil && args[0] != stage.ContainerName {
			return id
		}
	}
	return ids[0]
}

// ExecCgroups returns the cgroups of a process that a command inside runs in.
func ExecCgroups(c experiment.Cgroup) (list []experiment.CgroupDir) {
	seen := map[experiment.CgroupDir]bool{{}: true}
	add := func(dir experiment.CgroupDir) {
		if !seen[dir] {
			list = append(list, dir)
		}
		seen[dir] = true
	}
	add(c.V2)
	for _, controller := range slices.Sorted(maps.Keys(c.V1)) {
		add(c.V1[controller])
	}
	return list
}
