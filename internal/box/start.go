package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Start launches a container. It returns once its command's execve has
// succeeded. An *ExecError says that the command could not be executed, a
// *UserError that its user is not known. Nothing of the container is left where
// it fails, but folders made in s.Upper.
func (l *Launcher) Start(ctx context.Context, s *Spec, io Stdio) (*Process, error) {
	p, err := l.start(ctx, s, io)
	if err != nil {
		return nil, fmt.Errorf("launch %s: %w", s.Name, err)
	}
	return p, nil
}

func (l *Launcher) start(ctx context.Context, s *Spec, io Stdio) (*Process, error) {
	c := &container{Spec: s, host: l.host}
	err := c.check()
	if err != nil {
		return nil, err
	}
	a := c.assemble()
	if a.err != nil {
		return nil, a.err
	}
	if s.Init && s.Cgroup != nil {
		if err := s.Cgroup.makeInit(); err != nil {
			return nil, err
		}
	}
	if err := freshWork(s.Work); err != nil {
		return nil, err
	}
	b := &birth{l: l, a: a, user: s.User, args: s.Args, io: io, net: s.Net, init: s.Init}
	if s.UserNS != nil {
		if b.users, err = l.userNS(ctx, *s.UserNS); err != nil {
			return nil, err
		}
	}
	return b.run(ctx, s.Cgroup)
}

// check looks at what can be known before anything is made.
func (c *container) check() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("no command: the image has none, and none is given")
	}
	if c.Upper == "" && !c.ReadOnly {
		return errors.New("no Upper: a root that is written to needs one")
	}
	for name := range c.Sysctls {
		if !namespaced(name) {
			return fmt.Errorf("sysctl %s: it is not of a namespace, and would change the host", name)
		}
	}
	for _, m := range c.Mounts {
		bound, err := m.check()
		if err != nil {
			return err
		}
		c.mounts = append(c.mounts, bound)
	}
	return nil
}

// check looks at a mount's source, which must be there.
func (m Mount) check() (boundMount, error) {
	bound := boundMount{Mount: m}
	clean := filepath.Clean(m.Target)
	switch {
	case !filepath.IsAbs(m.Target) || clean == "/":
		return bound, fmt.Errorf("mount %s: the target must be an absolute path, and not /", m.Target)
	case clean == "/proc" || strings.HasPrefix(clean, "/proc/"):
		return bound, fmt.Errorf("mount %s: nothing can be mounted below /proc", m.Target)
	case m.Type == "tmpfs":
		return bound, nil
	case m.Type != "bind":
		return bound, fmt.Errorf("mount %s: type %q is not known", m.Target, m.Type)
	case !filepath.IsAbs(m.Source):
		return bound, fmt.Errorf("bind %s to %s: the source must be an absolute path", m.Source, m.Target)
	}
	info, err := os.Stat(m.Source)
	if errors.Is(err, os.ErrNotExist) {
		return bound, fmt.Errorf("bind %s to %s: the source does not exist", m.Source, m.Target)
	}
	if err != nil {
		return bound, fmt.Errorf("bind %s to %s: %w", m.Source, m.Target, err)
	}
	bound.file = !info.IsDir()
	return bound, nil
}

// namespaced tells whether a sysctl belongs to a namespace that a container
// has of its own, as Docker has it.
func namespaced(name string) bool {
	name = strings.ReplaceAll(name, "/", ".")
	if strings.Contains(name, "..") {
		return false
	}
	return strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.") || slices.Contains([]string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	}, name)
}

// freshWork takes away the mark that an overlay which did not sync leaves in
// its work folder: what a lab writes need not outlive the host.
func freshWork(work string) error {
	if work == "" {
		return nil
	}
	err := os.RemoveAll(filepath.Join(work, "work/incompat/volatile"))
	if err != nil {
		return fmt.Errorf("clean %s: %w", work, err)
	}
	return nil
}

// birth is a process that is being made.
type birth struct {
	l    *Launcher
	a    *assembler
	user string
	args []string
	io   Stdio
	net  *os.File
	init bool

	users *os.File // the user namespace to join, or the one that was made
	idMap *IDMap   // of a process that makes a user namespace, and does nothing else

	joins []int // further files, after those that every program has
	pid   int
	p     *Process
}

func (b *birth) run(ctx context.Context, cgroup *Cgroup) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	talk, err := newTalk()
	if err != nil {
		return nil, err
	}
	defer talk.Close()
	b.p = &Process{l: b.l, done: make(chan struct{}), cgroup: cgroup}
	if b.p.before, err = cgroup.OOMKills(); err != nil {
		return nil, err
	}
	if err := b.fork(talk, cgroup); err != nil {
		return nil, err
	}
	if err := b.adopt(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { b.kill(cgroup) })
	defer stop()
	err = b.raise(talk)
	if err == nil {
		err = b.named(talk)
	}
	if err != nil {
		b.kill(cgroup)
		talk.Close()
		go b.p.await()
		b.p.Wait()
		return nil, errors.Join(context.Cause(ctx), err)
	}
	b.p.started = time.Now()
	go b.p.await()
	return b.p, nil
}

// kill kills what is being made. A container's first stage may stand in a
// cgroup that somebody has frozen, and dies once that is thawed; a further
// process of a container waits until its container is.
func (b *birth) kill(cgroup *Cgroup) {
	_ = b.p.Kill()
	if cgroup != nil && b.a.JoinPIDs == 0 {
		cgroup.thaw()
	}
}

// fork has the fork server make the process.
func (b *birth) fork(talk *talk, cgroup *Cgroup) error {
	null := b.l.null
	or := func(f *os.File) int {
		if f == nil {
			return int(null.Fd())
		}
		return int(f.Fd())
	}
	var last *os.File
	if b.init {
		var err error
		if b.p.last, last, err = os.Pipe(); err != nil {
			return fmt.Errorf("make pipe: %w", err)
		}
		defer last.Close()
	}
	into, err1 := cgroup.open("")
	beside, err2 := cgroup.openInit(b.init)
	defer into.Close()
	defer beside.Close()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	files := []int{talk.theirs(), or(b.io.In), or(b.io.Out), or(b.io.Err), or(last), or(into), or(beside), or(b.net), or(b.users)}
	var err error
	b.pid, err = b.l.fork(&b.a.Program, append(files, b.joins...))
	talk.closeTheirs()
	if err != nil && b.p.last != nil {
		b.p.last.Close()
	}
	return err
}

// adopt makes the new child of this process a Process.
func (b *birth) adopt() error {
	fd, err := unix.PidfdOpen(b.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("open %d: %w", b.pid, err) // it can't be gone: nobody else reaps it
	}
	b.p.pidfd = os.NewFile(uintptr(fd), "pidfd")
	b.p.target = b.p.pidfd
	b.p.id, err = b.l.fs.Identify(b.pid)
	b.p.workload = b.p.id
	return err
}
