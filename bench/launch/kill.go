package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/targets/native"
)

// killRounds is how often the process that keeps a lab up is killed.
const killRounds = 20

// kills kills with SIGKILL the process that keeps the shop up, and waits until
// all that ran in its seven containers is gone.
func (b *bench) kills(ctx context.Context) error {
	if _, err := b.shopProject(ctx); err != nil {
		return err
	}
	var gone, clean times
	for i := range killRounds {
		b.say("SIGKILL %d of %d", i+1, killRounds)
		env, err := shopEnv()
		if err != nil {
			return err
		}
		if _, err := b.labs.up(ctx, filepath.Join(b.shop, "compose.yaml"), env); err != nil {
			return err
		}
		s, err := b.labs.standing()
		if err != nil {
			return err
		}
		if len(s.Boxes) != 7 {
			return fmt.Errorf("the lab has %d containers, want 7", len(s.Boxes))
		}
		g, c, err := b.strike(ctx, s)
		if err != nil {
			return err
		}
		gone, clean = append(gone, g), append(clean, c)
	}
	b.report.judgeKills(gone, clean)
	return nil
}

// strike kills the process that keeps a lab up, and returns how long it takes
// until all that ran in it is gone, and until its guardian has taken back the
// rest.
func (b *bench) strike(ctx context.Context, s native.State) (gone, clean time.Duration, err error) {
	cgroup := "simian-" + string(s.Run)
	members, err := b.members(cgroup)
	if err != nil {
		return 0, 0, err
	}
	defer closeAll(members)
	if len(members) < len(s.Boxes) {
		return 0, 0, fmt.Errorf("%d processes are in the lab, want %d or more", len(members), len(s.Boxes))
	}
	supervisor, err := unix.PidfdOpen(s.Process.PID, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(supervisor)
	began := time.Now()
	if err := unix.PidfdSendSignal(supervisor, unix.SIGKILL, nil, 0); err != nil {
		return 0, 0, err
	}
	if err := awaitEnd(members); err != nil {
		return 0, 0, err
	}
	gone = time.Since(began)
	err = await(ctx, "the guardian to take back run "+string(s.Run), func() error { return b.isClean(s, cgroup) })
	return gone, time.Since(began), err
}

// members returns pidfds of all processes in a cgroup and those below it.
func (b *bench) members(cgroup string) (fds []int, err error) {
	list, err := b.fs.CgroupHierarchies()
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(filepath.Join(list[0].Dir, cgroup), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "cgroup.procs" {
			return err
		}
		data, err := os.ReadFile(path)
		for field := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			if fd, err := unix.PidfdOpen(pid, 0); err == nil { // else it has just ended, as health checks do
				fds = append(fds, fd)
			}
		}
		return err
	})
	return fds, err
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// awaitEnd waits until all processes have ended: then their pidfds can be
// read (pidfd_open(2)).
func awaitEnd(fds []int) error {
	end := time.Now().Add(10 * time.Second)
	for _, fd := range fds {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, int(max(0, time.Until(end).Milliseconds())))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			if n == 0 {
				return errors.New("a process of the lab is still there after 10 s")
			}
			break
		}
	}
	return nil
}

// isClean tells whether neither folder nor cgroup of a lab is left.
func (b *bench) isClean(s native.State, cgroup string) error {
	list, err := b.fs.CgroupHierarchies()
	if err != nil {
		return err
	}
	paths := []string{native.LabDir(b.labs.state, s.Run)}
	for _, h := range list {
		paths = append(paths, filepath.Join(h.Dir, cgroup))
	}
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is still there: %w", path, errors.Join(err))
		}
	}
	return nil
}
