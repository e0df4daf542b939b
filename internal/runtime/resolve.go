package runtime

import (
	"fmt"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Resolve turns a running container into a target: the handles of its first
// process, in whose cgroup and namespaces the others are. Kind and ID follow
// from the runtime; the workload is left to the caller. The error wraps
// experiment.ErrGone where its process has just ended, and
// experiment.ErrUnsupported where that is not on this machine.
func Resolve(fs proc.FS, c Container, local bool) (experiment.Target, error) {
	t, err := fs.Target(c.PID)
	if err != nil {
		return t, err
	}
	here, err := isIts(fs, c, t.PIDs[0], local)
	if err != nil {
		return t, err
	}
	if !here {
		return t, Elsewhere(c)
	}
	ref := c.Ref
	t.Runtime, t.Unhealthy = &ref, c.Unhealthy
	t.Kind, t.Name, t.Labels = ref.Runtime, c.Name, c.Labels
	t.ID = fmt.Sprintf("%s:%s:%d:%d", ref.Runtime, Short(ref.ID), t.PIDs[0].PID, t.PIDs[0].Start)
	return t, nil
}

// Elsewhere is the error for a container whose process is on another machine,
// or out of sight of this one's.
func Elsewhere(c Container) error {
	at, _, _ := strings.Cut(c.Ref.Address, "?")
	return fmt.Errorf("%s has no process here: pid %d, of which %s at %s tells, is none of its processes on this machine. "+
		"Simian breaks containers where they run: start it there (on that machine, in its first PID namespace): %w",
		c.Name, c.PID, c.Ref.Runtime, at, experiment.ErrUnsupported)
}

// startSlack is how much later than its process a container may say that it was
// started.
const startSlack = 3 * time.Second

// isIts tells whether a process of this machine is the container's: its cgroup
// is called after the container. One without a cgroup of its own, as without
// root, must have begun when the container did.
func isIts(fs proc.FS, c Container, p experiment.ProcessID, local bool) (bool, error) {
	paths, err := fs.CgroupPaths(p.PID)
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		if strings.Contains(path, c.Ref.ID) {
			return true, nil
		}
	}
	if c.Ref.Runtime == ContainerdName { // it is asked over a socket, and a cgroup may be called anything
		return local, nil
	}
	if !local || c.Started.IsZero() {
		return false, nil
	}
	began := time.Now().Add(-proc.BootTime().Sub(experiment.BootTime(time.Duration(p.Start) * tick)))
	return c.Started.Sub(began).Abs() < startSlack, nil
}

// tick is the unit of a process' start time: USER_HZ is 100 wherever Go runs
// (proc_pid_stat(5)).
const tick = time.Second / 100
