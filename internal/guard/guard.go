// Package guard arms the guardian: it starts internal/stage's process in a
// session of its own, and moves it out of what the runner could be killed
// with: under systemd into a scope of its own, else into the topmost cgroup of
// each hierarchy.
package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/stage"
)

// How long the guardian may take to start, and to leave.
const (
	readyTimeout  = 5 * time.Second
	disarmTimeout = 2 * time.Second
)

// Guard arms guardians.
type Guard struct {
	FS proc.FS
	// TakeBack returns the command, argv[0] first, that takes run back. It is
	// executed from /proc/self/exe, in place of the guardian.
	TakeBack func(run experiment.RunID, cause experiment.Cause) []string
}

// armed is a guardian that stands by.
type armed struct {
	cmd    *exec.Cmd
	socket int
	mark   experiment.GuardianMark
	exited chan struct{}
}

// Arm implements engine.Guardian. It returns once the guardian watches.
func (g Guard) Arm(ctx context.Context, run experiment.RunID, deadline experiment.BootTime) (engine.Armed, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "guardian")
	a := &armed{cmd: g.command(run, deadline, theirs), socket: pair[0], exited: make(chan struct{})}
	err = a.cmd.Start()
	theirs.Close() // the guardian alone holds it: its end is seen here at once
	if err != nil {
		unix.Close(a.socket)
		return nil, fmt.Errorf("start: %w", err)
	}
	go func() {
		_ = a.cmd.Wait()
		close(a.exited)
	}()
	a.mark = experiment.GuardianMark{Deadline: deadline}
	if a.mark.Process, err = g.FS.Identify(a.cmd.Process.Pid); err == nil {
		a.mark.Place, a.mark.Warning = g.place(ctx, run, a.cmd.Process.Pid)
		err = a.awaitReady()
	}
	if err != nil {
		_ = a.cmd.Process.Kill()
		unix.Close(a.socket)
		return nil, err
	}
	return a, nil
}

func (g Guard) command(run experiment.RunID, deadline experiment.BootTime, socket *os.File) *exec.Cmd {
	order := stage.Order{
		RunnerPID:      os.Getpid(),
		DeadlineBootNs: int64(deadline),
		Died:           g.TakeBack(run, experiment.CauseRunnerDied),
		Late:           g.TakeBack(run, experiment.CauseDeadline),
	}
	return &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        order.Args(),
		Dir:         "/", // it keeps no mount busy
		ExtraFiles:  []*os.File{socket},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
}

// awaitReady waits for the guardian's first word.
func (a *armed) awaitReady() error {
	fds := []unix.PollFd{{Fd: int32(a.socket), Events: unix.POLLIN}}
	for end := time.Now().Add(readyTimeout); ; {
		n, err := unix.Poll(fds, int(max(0, time.Until(end).Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait until it watches: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("it did not watch within %s", readyTimeout)
		}
		break
	}
	var word [1]byte
	n, err := unix.Read(a.socket, word[:])
	if err != nil || n != 1 || word[0] != stage.Ready {
		return errors.Join(errors.New("it ended at once"), err)
	}
	return nil
}

// Mark implements engine.Armed.
func (a *armed) Mark() experiment.GuardianMark { return a.mark }

// Died implements engine.Armed.
func (a *armed) Died() <-chan struct{} { return a.exited }

// Disarm implements engine.Armed: it says that nothing is left, and waits
// until the guardian has gone.
func (a *armed) Disarm() error {
	defer unix.Close(a.socket)
	_ = unix.Send(a.socket, []byte{stage.Disarm}, unix.MSG_NOSIGNAL)
	select {
	case <-a.exited:
		return nil
	case <-time.After(disarmTimeout):
		_ = a.cmd.Process.Kill()
		<-a.exited
		return fmt.Errorf("the guardian (pid %d) did not leave by itself, and was killed", a.cmd.Process.Pid)
	}
}
