package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// clear kills what is in the helper's cgroups, waits for its end, and removes
// them; found tells whether there was one.
func (p helperProcess) clear(ctx context.Context, fs proc.FS) (found bool, err error) {
	places, err := p.places(fs)
	for _, dir := range places {
		if _, bad := os.Stat(dir); bad != nil {
			continue
		}
		found = true
		err = errors.Join(err, clearCgroup(ctx, dir))
	}
	return found, err
}

// clearCgroup kills and removes one cgroup. The kernel has given back all that
// a process held before it no longer lists it.
func clearCgroup(ctx context.Context, dir string) error {
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
		killCgroup(dir)
		if ctx.Err() != nil {
			return fmt.Errorf("remove cgroup %s: processes are still in it: %w", dir, ctx.Err())
		}
		pause()
	}
}

// killCgroup kills what is in a cgroup at this moment. What is frozen on
// version 1 dies once it is thawed.
func killCgroup(dir string) {
	overwrite(filepath.Join(dir, "freezer.state"), "THAWED")
	overwrite(filepath.Join(dir, "cgroup.freeze"), "0")
	if overwrite(filepath.Join(dir, "cgroup.kill"), "1") { // version 2, Linux 5.14
		return
	}
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for word := range strings.FieldsSeq(string(data)) {
		pid, _ := strconv.Atoi(word)
		killMember(dir, pid)
	}
}

// killMember kills a process if it is the one that was listed: a pidfd is
// opened first, and whether it is in the cgroup is asked then.
func killMember(dir string, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	paths, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err == nil && strings.Contains(string(paths), "/"+filepath.Base(dir)+"\n") {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// overwrite writes to a file that is there.
func overwrite(path, value string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err == nil
}

// verifyGone tells whether no cgroup of the helper's is left.
func (p helperProcess) verifyGone(fs proc.FS) (experiment.Evidence, error) {
	places, err := p.places(fs)
	if err != nil {
		return experiment.Evidence{}, err
	}
	for _, dir := range places {
		if _, err := os.Stat(dir); err == nil {
			return experiment.Evidence{What: "cgroup " + dir + " is there", Hint: "the helper lives still"}, nil
		}
	}
	return experiment.Evidence{InForce: true, What: "helper and its cgroups gone"}, nil
}
