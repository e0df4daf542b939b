package op

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/stage"
)

// run runs a command, and waits until it and all that it has started have
// ended. A fork server (internal/stage) forks it: a small process of the same
// binary, whose child can join any namespace. The child is a child of this
// thread, and killed by the kernel when that ends.
func (e *Exec) run(ctx context.Context, command []string) (how *commandEnd, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() { // it ends with the process, and no earlier
			defer runtime.UnlockOSThread()
		}
		how, err = e.onThread(ctx, command)
	}()
	<-done
	return how, err
}

func (e *Exec) onThread(ctx context.Context, command []string) (*commandEnd, error) {
	b := &birth{e: e}
	defer b.close()
	var err error
	if b.server, err = newForkServer(ctx); err != nil {
		return nil, err
	}
	if err := b.prepare(ctx, command); err != nil {
		return nil, err
	}
	if err := b.fork(ctx); err != nil {
		return nil, errors.Join(err, b.clear())
	}
	b.server.end()
	ctx, cancel := context.WithTimeout(ctx, e.Timeout.D())
	defer cancel()
	how, err := b.await(ctx)
	return how, errors.Join(err, b.clear())
}

// birth is a command that is being run.
type birth struct {
	e       *Exec
	server  *forkServer
	program stageProgram
	open    []int    // closed at the end
	talk    *os.File // this end of the socket to it
	out     *os.File // this end of the pipe from it
	theirs  *os.File // the other
	pid     int
}

func (b *birth) close() {
	if b.server != nil {
		b.server.end()
	}
	for _, fd := range b.open {
		_ = unix.Close(fd)
	}
	for _, file := range []*os.File{b.talk, b.out, b.theirs} {
		_ = file.Close() // nothing, where it is nil or closed
	}
}

// keep has a file closed at the end.
func (b *birth) keep(fd int, err error) (int, error) {
	if err == nil {
		b.open = append(b.open, fd)
	}
	return fd, err
}

// prepare opens what the command needs, and makes its program.
func (b *birth) prepare(ctx context.Context, command []string) error {
	fs, e := b.e.host.FS, b.e
	pidfd, err := b.keep(proc.OpenPidfd(e.Process))
	if err != nil {
		return err
	}
	who, err := confinedOf(fs, e.Process, e.Where)
	if err == nil && who.seccomp != 0 {
		who.filters, err = filtersOf(ctx, b.server, fs, e.Process, who.filtered)
	}
	if err != nil {
		return err
	}
	if _, err := e.process().clear(ctx, fs); err != nil { // of a process that died
		return err
	}
	into, tasks, err := b.cgroups()
	if err != nil {
		return err
	}
	p := &b.program
	if who.pids {
		p.JoinPIDs = uint8(p.file(pidfd))
	}
	if into >= 0 {
		p.IntoCgroup = uint8(p.file(into))
	}
	p.diesWithUs()
	p.do("make its session", unix.SYS_SETSID)
	p.joinCgroups(tasks)
	if err := b.streams(); err != nil {
		return err
	}
	if err := b.enter(who, pidfd); err != nil {
		return err
	}
	p.execute(command, who.env)
	return p.err
}

// cgroups makes the command's cgroup and opens it, and the target's others: of
// version 2 a folder, of version 1 the tasks files.
func (b *birth) cgroups() (into int, tasks []int, err error) {
	into = -1
	dirs, v2, err := b.e.process().makeCgroups(b.e.host.FS)
	b.open = append(b.open, dirs...)
	if err != nil {
		return into, nil, err
	}
	for i, dir := range dirs {
		if i == v2 {
			into = dir
			continue
		}
		if i > 0 && i >= len(b.e.Counts) { // it is in the same hierarchy below the target's
			continue
		}
		fd, err := b.keep(unix.Openat(dir, "tasks", unix.O_WRONLY|unix.O_CLOEXEC, 0))
		if err != nil {
			return into, nil, fmt.Errorf("open its cgroup: %w", err)
		}
		tasks = append(tasks, fd)
	}
	return into, tasks, nil
}

// streams gives it no input, and a pipe for what it writes.
func (b *birth) streams() error {
	null, err := b.keep(unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0))
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	_ = unix.SetNonblock(pipe[0], true) // so that reading it can end
	b.out, b.theirs = os.NewFile(uintptr(pipe[0]), "output"), os.NewFile(uintptr(pipe[1]), "output")
	b.program.streams(b.program.file(null), b.program.file(pipe[1]))
	return nil
}

// enter has it join the target's namespaces, root, limits and user.
func (b *birth) enter(who *confined, pidfd int) error {
	p := &b.program
	for kind, limit := range who.limits {
		p.do("set limits", unix.SYS_PRLIMIT64, 0, kind, p.words64(limit.Cur, limit.Max), 0)
	}
	if who.label != "" {
		p.do("open its security label", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/self/attr/exec", unix.O_WRONLY|unix.O_CLOEXEC, 0).Out = lastReg
		p.do("set its security label to the target's", unix.SYS_WRITE, stageReg(lastReg), who.label, len(who.label))
	}
	if who.kinds != 0 {
		p.do("join the target's namespaces", unix.SYS_SETNS, p.file(pidfd), who.kinds)
	}
	if b.e.Where == Inside {
		root, err := b.keep(b.e.host.FS.OpenInside(b.e.Process, "/", unix.O_PATH|unix.O_DIRECTORY))
		if err != nil {
			return err
		}
		p.do("enter the target's root", unix.SYS_FCHDIR, p.file(root))
		p.do("enter the target's root", unix.SYS_CHROOT, ".")
	}
	p.do("enter folder /", unix.SYS_CHDIR, "/")
	const joinSession = 1 // KEYCTL_JOIN_SESSION_KEYRING
	p.do("make its keyring", unix.SYS_KEYCTL, joinSession, 0).Allow = [2]uint16{uint16(unix.ENOSYS), uint16(unix.EPERM)}
	if b.e.Where == Inside {
		p.become(who)
	}
	return nil
}

// lastReg is a register that no file is in.
const lastReg = 255

// fork has the process forked, and waits until it has become the command.
func (b *birth) fork(ctx context.Context) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket: %w", err)
	}
	b.talk = os.NewFile(uintptr(pair[0]), "talk")
	b.pid, err = b.server.fork(&b.program, pair[1])
	_ = unix.Close(pair[1])
	if err != nil {
		return err
	}
	_ = b.theirs.Close() // or what it writes would have no end
	return b.raise(ctx, pair[0])
}

// raise listens until the process has become the command.
func (b *birth) raise(ctx context.Context, talk int) error {
	setTimeout(ctx, talk)
	executes := false
	for {
		var word [1]byte
		_, err := readAll(talk, word[:])
		switch {
		case executes && (errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)):
			return nil
		case err != nil:
			return fmt.Errorf("it was killed before it became the command: %w", err)
		case word[0] == stage.Execute:
			executes = true
		case word[0] == stage.Failed:
			return b.failure(talk)
		}
	}
}

func (b *birth) failure(talk int) error {
	var word [8]byte
	if _, err := readAll(talk, word[:]); err != nil {
		return err
	}
	return b.program.failure(word)
}
