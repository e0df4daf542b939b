package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// How long to wait before looking again whether a cgroup is empty.
const (
	firstLook = 500 * time.Microsecond
	nextLook  = 10 * time.Millisecond
)

// Kill kills what runs in the cgroup until it stays empty: also what is forked
// meanwhile, and what is frozen.
func (c *Cgroup) Kill(ctx context.Context) error {
	return c.kill(ctx, c.name)
}

// Remove removes the cgroup in every hierarchy, with all below it. Nothing may
// run in it. It is no error where it is gone already.
func (c *Cgroup) Remove(ctx context.Context) error {
	var err error
	for wait := firstLook; ; wait = min(2*wait, nextLook) {
		err = errors.Join(removeTree(c.roots(), c.name), removeTree(c.roots(), c.name+initSuffix))
		if err == nil || !errors.Is(err, unix.EBUSY) { // the last of its processes may still be on their way out
			return err
		}
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

// KillCgroup kills what runs in the cgroup called name, and in those below it.
func KillCgroup(ctx context.Context, fs proc.FS, name string) error {
	c, _, err := hierarchies(fs, name)
	if err != nil {
		return err
	}
	return c.Kill(ctx)
}

// RemoveCgroup removes the cgroup called name, and those below it.
func RemoveCgroup(ctx context.Context, fs proc.FS, name string) error {
	c, _, err := hierarchies(fs, name)
	if err != nil {
		return err
	}
	return c.Remove(ctx)
}

func (c *Cgroup) kill(ctx context.Context, name string) error {
	for wait := firstLook; ; wait = min(2*wait, nextLook) {
		left, err := c.strike(name)
		beside, err2 := c.strike(name + initSuffix) // in the same round: what joins one after the other is in both
		left, err = left+beside, errors.Join(err, err2)
		if err != nil || left == 0 {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return fmt.Errorf("kill cgroup %s: %d processes are still there: %w", name, left, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// strike kills once all that is in the cgroup, and returns how many processes
// there were. A process frozen on version 1 dies only once it is thawed.
func (c *Cgroup) strike(name string) (left int, err error) {
	var pids []int
	above, _, _ := strings.Cut(name, "/")
	for _, root := range c.roots() {
		thaw(filepath.Join(root, above)) // of version 1: what is frozen from above stays so
		dirs, err := tree(filepath.Join(root, name))
		if err != nil {
			return 0, fmt.Errorf("list cgroup %s: %w", name, err)
		}
		for _, dir := range dirs {
			_ = write(filepath.Join(dir, "cgroup.kill"), "1") // of version 2, Linux 5.14; else one by one
			found, err := members(dir)
			if err != nil {
				return 0, err
			}
			pids = append(pids, found...)
			thaw(dir)
		}
	}
	slices.Sort(pids)
	pids = slices.Compact(pids)
	for _, pid := range pids {
		c.killMember(name, pid)
	}
	return len(pids), nil
}

// killMember kills a process if it is the one that was listed: a pidfd is
// opened first, and whether it is in the cgroup is asked then.
func (c *Cgroup) killMember(name string, pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	paths, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(paths), "/"+name+"\n") && !strings.Contains(string(paths), "/"+name+"/") {
		return
	}
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// members returns the processes in one cgroup, zombies left out as the kernel
// does; none where it is gone.
func members(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cgroup: %w", err)
	}
	var pids []int
	for line := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// thaw thaws the cgroup, and what it stands in.
func (c *Cgroup) thaw() {
	above, _, _ := strings.Cut(c.name, "/")
	for _, root := range c.roots() {
		for _, name := range []string{above, c.name, c.name + initSuffix} {
			thaw(filepath.Join(root, name))
		}
	}
}

func thaw(dir string) {
	_ = write(filepath.Join(dir, "freezer.state"), "THAWED") // version 1
	_ = write(filepath.Join(dir, "cgroup.freeze"), "0")      // version 2
}

// write writes to a file that is there.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}
