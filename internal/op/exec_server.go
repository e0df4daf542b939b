package op

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// forkServer is a process of the same binary that forks others, as children of
// the thread that it was started by (internal/stage). It is killed when that
// thread ends.
type forkServer struct {
	cmd    *exec.Cmd
	socket int
	ended  bool
}

// newForkServer starts one, which answers until ctx ends.
func newForkServer(ctx context.Context) (*forkServer, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "order")
	defer theirs.Close()
	s := &forkServer{socket: pair[0], cmd: &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{stage.ContainerName}, Env: []string{"GOMAXPROCS=1"}, Dir: "/",
		ExtraFiles: []*os.File{stage.Socket - 3: theirs}, SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}}
	if err := s.cmd.Start(); err != nil {
		_ = unix.Close(pair[0])
		return nil, fmt.Errorf("start a fork server: %w", err)
	}
	setTimeout(ctx, s.socket)
	return s, nil
}

// end ends it. What it has forked goes on.
func (s *forkServer) end() {
	if s.ended {
		return
	}
	s.ended = true
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = unix.Close(s.socket)
}

// fork has it fork a process that runs p, which talks to the other end of
// theirs. The process is this one's child.
func (s *forkServer) fork(p *stageProgram, theirs int) (pid int, err error) {
	rights := unix.UnixRights(append([]int{theirs}, p.files...)...)
	for message := p.Encode(); len(message) > 0; {
		n, err := unix.SendmsgN(s.socket, message, rights, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("order a fork: %w", err)
		}
		message, rights = message[n:], nil
	}
	var answer stage.Reply
	if _, err := readAll(s.socket, answer.Bytes()); err != nil {
		return 0, fmt.Errorf("wait for a fork: %w", err)
	}
	if answer.Errno != 0 {
		return 0, fmt.Errorf("fork: %w", unix.Errno(answer.Errno))
	}
	return int(answer.PID), nil
}

// setTimeout bounds how long a socket is waited for.
func setTimeout(ctx context.Context, socket int) {
	if end, ok := ctx.Deadline(); ok {
		left := max(time.Until(end), time.Millisecond)
		tv := unix.NsecToTimeval(left.Nanoseconds())
		_ = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		_ = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	}
}

// readAll reads until b is full; io.EOF says that the other end is closed.
func readAll(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		more, err := unix.Read(fd, b[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return n, context.DeadlineExceeded
		case err != nil:
			return n, err
		case more == 0:
			return n, io.EOF
		default:
			n += more
		}
	}
	return n, nil
}
