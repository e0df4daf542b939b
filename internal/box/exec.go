package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// containerPID is where a further process is told by its files which container
// to join.
const containerPID = firstStatic

// Exec launches a further process in the container whose PID 1 is in, be it
// this Launcher's or another's. The process joins its namespaces and cgroups,
// and dies with this Launcher or with the container. The error is
// experiment.ErrGone where the container has ended.
func (l *Launcher) Exec(ctx context.Context, in experiment.ProcessID, s *ExecSpec, io Stdio) (*Process, error) {
	p, err := l.exec(ctx, in, s, io)
	if err != nil {
		return nil, fmt.Errorf("execute in %s: %w", in, err)
	}
	return p, nil
}

func (l *Launcher) exec(ctx context.Context, in experiment.ProcessID, s *ExecSpec, io Stdio) (*Process, error) {
	if len(s.Args) == 0 || s.Args[0] == "" {
		return nil, fmt.Errorf("no command is given")
	}
	pidfd, err := proc.OpenPidfd(in)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	cgroup := s.Cgroup
	if cgroup == nil {
		if cgroup, err = l.cgroupOf(in); err != nil {
			return nil, err
		}
	}
	kinds := unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET
	for name, kind := range map[string]int{"user": unix.CLONE_NEWUSER, "time": unix.CLONE_NEWTIME} {
		other, err := l.elsewhere(in, name)
		if err != nil {
			return nil, err
		}
		if other {
			kinds |= kind
		}
	}
	a := s.assemble(cgroup, l.host, kinds)
	if a.err != nil {
		return nil, a.err
	}
	b := &birth{l: l, a: a, user: s.User, args: s.Args, io: io, joins: []int{pidfd}}
	return b.run(ctx, cgroup)
}

// assemble returns the first stage of a further process. Its cgroup namespace
// is made anew at the same place: PID 1's is not there where it is a reaper.
func (s *ExecSpec) assemble(cgroup *Cgroup, h host, kinds int) *assembler {
	a := newAssembler(int(containerPID-status) + 1)
	a.JoinPIDs = uint8(containerPID)
	a.process()
	(&container{Spec: &Spec{Cgroup: cgroup}}).joinCgroups(a)
	a.streams()
	if s.TTY {
		a.do("make standard input its terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	a.limits(s.Ulimits, h.maxFiles)
	a.do("join its namespaces", unix.SYS_SETNS, containerPID, kinds)
	if cgroup != nil {
		a.do("make its cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
	a.keyring()
	dir := path.Clean("/" + s.Dir)
	words := "enter working directory " + dir
	a.do(words, unix.SYS_CHDIR, dir)
	a.checkInside(words)
	var who userAnswer
	a.askUser(&who)
	a.become(privileges{s.Caps, s.Seccomp, s.NoNewPrivs, h}, &who)
	a.execute(s.Args, s.Env, &who)
	return a
}

// cgroupOf finds the cgroup of a container by its PID 1, nil where it has none
// of this package's.
func (l *Launcher) cgroupOf(in experiment.ProcessID) (*Cgroup, error) {
	paths, err := l.fs.CgroupPaths(in.PID)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		_, name, ok := strings.Cut(path, "/simian-")
		if !ok {
			continue
		}
		c, _, err := hierarchies(l.fs, "simian-"+strings.TrimSuffix(name, initSuffix))
		return c, err
	}
	return nil, nil
}

// elsewhere tells whether a process is in another namespace of this kind than
// this one. A kernel that knows no time namespaces has them all in one.
func (l *Launcher) elsewhere(in experiment.ProcessID, kind string) (bool, error) {
	theirs, err := os.Readlink(filepath.Join(l.fs.Proc, fmt.Sprint(in.PID), "ns", kind))
	if kind == "time" && errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read its %s namespace: %w", kind, err)
	}
	own, err := os.Readlink(filepath.Join(l.fs.Proc, "self/ns", kind))
	return own != theirs, err
}
