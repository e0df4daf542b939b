package op

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// endTime is how long a helper that was asked to end may take; then it is
// killed.
const endTime = 200 * time.Millisecond

// end ends the helper: by its socket where this process holds that, else by
// killing what is in its cgroup.
func (q *Queue) end(ctx context.Context) error {
	if held, _ := q.host.drop(q.Cgroup()).(*heldQueue); held != nil {
		held.end()
	}
	found, err := q.clearCgroups(ctx)
	if err != nil {
		return err
	}
	err = q.host.FS.InNetwork(q.Net, q.sweep)
	if err == nil {
		err = q.table().Gone().Apply(ctx)
	}
	if errors.Is(err, experiment.ErrGone) && found {
		return nil
	}
	return err
}

// end asks, and waits a little.
func (h *heldQueue) end() {
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_ = h.client.End()
	}()
	timeout := time.After(endTime)
	select {
	case <-h.exited:
	case <-timeout:
	}
	_ = h.Close()
	<-asked
}

// clearCgroups kills what is in the helper's cgroup, waits for its end, and
// removes it; found tells whether there was one.
func (q *Queue) clearCgroups(ctx context.Context) (found bool, err error) {
	roots, _, err := q.cgroupRoots()
	if errors.Is(err, experiment.ErrUnsupported) {
		return false, nil
	}
	for _, root := range roots {
		dir := filepath.Join(root, q.Cgroup())
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

// sweep removes what the kernel should have taken back already, in the
// target's network namespace.
func (q *Queue) sweep() error {
	var errs []error
	for _, l := range q.lanes() {
		link, err := netlink.LinkByName(l.device)
		if err != nil {
			continue
		}
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove device %s: %w", l.device, err))
		}
	}
	return errors.Join(errs...)
}
