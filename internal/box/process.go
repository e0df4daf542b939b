package box

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Process is a container, or a further process in one.
type Process struct {
	id       experiment.ProcessID
	workload experiment.ProcessID
	l        *Launcher
	pidfd    *os.File
	target   *os.File // pidfd of the workload, the same as pidfd without a reaper
	last     *os.File // of a container with init: its command's wait status; else nil
	cgroup   *Cgroup
	before   int // OOM kills in its cgroup before it was started
	started  time.Time
	done     chan struct{}
	exit     Exit
}

// Exit is how a process ended.
type Exit struct {
	Code      int         // 128 and the signal where it was killed by one
	Signal    unix.Signal // 0 where it exited by itself
	OOMKilled bool        // by the kernel, since its cgroup was at its memory limit
}

// Success tells whether it exited with 0.
func (e Exit) Success() bool { return e == Exit{} }

// String gives "exit 1", "killed by SIGKILL" or "out of memory".
func (e Exit) String() string {
	switch {
	case e.OOMKilled:
		return "out of memory"
	case e.Signal != 0:
		return "killed by " + unix.SignalName(e.Signal)
	}
	return fmt.Sprintf("exit %d", e.Code)
}

// ID returns the process as the host sees it: PID 1 of a container.
func (p *Process) ID() experiment.ProcessID { return p.id }

// Workload returns the process that executes the command: ID, or the child of
// PID 1 in a container with init.
func (p *Process) Workload() experiment.ProcessID { return p.workload }

// Started returns when the command was executed.
func (p *Process) Started() time.Time { return p.started }

// Signal sends a signal to the command. The error is experiment.ErrGone where
// it has ended.
func (p *Process) Signal(s unix.Signal) error { return p.send(p.target, p.workload, s) }

// Kill kills a container at once, with all that runs in its PID namespace.
func (p *Process) Kill() error { return p.send(p.pidfd, p.id, unix.SIGKILL) }

func (p *Process) send(pidfd *os.File, id experiment.ProcessID, s unix.Signal) error {
	sent := error(unix.ESRCH) // unless the file is open
	if raw, err := pidfd.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	}
	if errors.Is(sent, unix.ESRCH) {
		sent = experiment.ErrGone
	}
	if sent != nil {
		return fmt.Errorf("send %s to %s: %w", unix.SignalName(s), id, sent)
	}
	return nil
}

// Done is closed once the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for its end. It may be called by many, and again.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// await reaps the process. It takes no thread while it waits: a pidfd can be
// polled.
func (p *Process) await() {
	defer close(p.done)
	var status unix.WaitStatus
	reaped := func(options int) bool {
		for {
			pid, err := p.l.reap(p.id.PID, &status, options)
			if err != unix.EINTR {
				return pid != 0 || err != nil
			}
		}
	}
	raw, err := p.pidfd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool { return reaped(unix.WNOHANG) })
	}
	if err != nil {
		reaped(0)
	}
	p.exit = p.ending(status)
	p.pidfd.Close()
	if p.target != p.pidfd {
		p.target.Close()
	}
}

// ending tells how it ended. A reaper exits by itself, and has written before
// how the command ended.
func (p *Process) ending(status unix.WaitStatus) Exit {
	if p.last != nil {
		var word [4]byte
		if n, _ := p.last.Read(word[:]); n == len(word) {
			status = unix.WaitStatus(binary.NativeEndian.Uint32(word[:]))
		}
		p.last.Close()
	}
	if !status.Signaled() {
		return Exit{Code: status.ExitStatus()}
	}
	s := status.Signal()
	kills, _ := p.cgroup.OOMKills() // its cgroup may be gone
	return Exit{Code: 128 + int(s), Signal: s, OOMKilled: s == unix.SIGKILL && kills > p.before}
}
