package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Signal sends a signal to one process, through a pidfd, so that it can never
// reach another that was given the same pid.
type Signal struct {
	Process experiment.ProcessID `json:"process"`
	Name    string               `json:"name"`              // of the process, for people
	Signal  string               `json:"signal"`            // KILL, TERM, HUP …
	Restart string               `json:"restart,omitempty"` // the policy that starts it again; "" is none that surely does

	fs proc.FS
}

// NewSignal returns the op that sends signal to p.
func NewSignal(fs proc.FS, p experiment.ProcessID, name, signal string) *Signal {
	return &Signal{Process: p, Name: name, Signal: signal, fs: fs}
}

// SignalNumber returns the number of a signal by its name, with or without
// SIG, and 0 where there is none such (signal(7)).
func SignalNumber(name string) unix.Signal {
	return unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
}

// SignalNames returns the names of all signals, without SIG.
func SignalNames() []string {
	var names []string
	for n := unix.Signal(1); n < 32; n++ {
		if name := unix.SignalName(n); name != "" {
			names = append(names, strings.TrimPrefix(name, "SIG"))
		}
	}
	slices.Sort(names)
	return names
}

// String implements experiment.Op.
func (s *Signal) String() string {
	return fmt.Sprintf("kill %s %s (pid %d)", s.Signal, s.Name, s.Process.PID)
}

// Leans implements experiment.Leaning.
func (s *Signal) Leans() string {
	if s.Restart == "" {
		return ""
	}
	return "restart: " + s.Restart
}

// Ends implements experiment.Ending.
func (s *Signal) Ends() bool { return true }

// Handles implements experiment.Handled.
func (s *Signal) Handles() []string { return []string{s.Process.Handle()} }

// Apply implements experiment.Op. A process that has exited already is gone.
func (s *Signal) Apply(context.Context) error {
	if err := s.fs.OwnPIDNamespace(); err != nil {
		return err
	}
	fd, err := proc.OpenPidfd(s.Process)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return gone(unix.PidfdSendSignal(fd, SignalNumber(s.Signal), nil, 0))
}

// gone turns the kernel's word for a process that is no more into ErrGone.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", experiment.ErrGone, err)
	}
	return err
}

// Verify implements experiment.Verifier. A signal that ends its process is in
// force once the process has exited, which its pidfd reports; any other once
// it is no longer pending. One that the process ignores, or blocks, is not.
func (s *Signal) Verify(ctx context.Context) (experiment.Evidence, error) {
	for {
		ev, settled, err := s.look()
		if settled || err != nil {
			return ev, err
		}
		if exited, err := s.await(ctx); err != nil || exited {
			return exitedEvidence, err
		}
		if ctx.Err() != nil {
			return ev, nil
		}
	}
}

var exitedEvidence = experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "process gone"}

// look reads what became of the signal. It is not settled while the process
// may yet exit, or handle it.
func (s *Signal) look() (ev experiment.Evidence, settled bool, err error) {
	if !s.fs.Alive(s.Process) {
		return exitedEvidence, true, nil
	}
	sigs, err := s.fs.Signals(s.Process.PID)
	if !s.fs.Alive(s.Process) {
		return exitedEvidence, true, nil
	}
	if err != nil {
		return ev, false, err
	}
	n := SignalNumber(s.Signal)
	bit := uint64(1) << (n - 1)
	switch {
	case sigs.Ignored&bit != 0 || sigs.Caught&bit == 0 && ignoredByDefault(n):
		return experiment.Evidence{
			Felt: experiment.FeltNo, What: "the process ignores " + s.Signal,
			Hint: "choose a signal that it handles, or KILL, which none can ignore",
		}, true, nil
	case sigs.Blocked&bit != 0 && sigs.Pending&bit != 0:
		return experiment.Evidence{
			Felt: experiment.FeltNo, What: "the process blocks " + s.Signal + ", which waits for it",
			Hint: "it may get it later, and nothing can take that back",
		}, false, nil
	case sigs.Pending&bit != 0:
		return experiment.Evidence{What: "the signal is pending still", Hint: "is the process stopped, or frozen? It gets the signal once it runs"}, false, nil
	case sigs.Caught&bit != 0:
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "signal handled by the process, which goes on"}, true, nil
	case stops(n):
		return experiment.Evidence{InForce: true, Felt: experiment.FeltYes, What: "signal delivered"}, true, nil
	}
	return experiment.Evidence{What: "the process has not exited yet"}, false, nil
}

// await waits a moment for the process to exit.
func (s *Signal) await(ctx context.Context) (bool, error) {
	fd, err := proc.OpenPidfd(s.Process)
	if errors.Is(err, experiment.ErrGone) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	wait := 20 * time.Millisecond
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(0, min(wait, time.Until(deadline)))
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		err = nil
	}
	return n > 0, err
}

// CheckSignal gives os.ErrPermission where this process may not signal p, and
// experiment.ErrGone where p has exited. It sends nothing.
func CheckSignal(p experiment.ProcessID, name string) error {
	fd, err := proc.OpenPidfd(p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := gone(unix.PidfdSendSignal(fd, 0, nil, 0)); err != nil {
		return fmt.Errorf("signal %s (pid %d): %w: it needs root, or the user whose process it is", name, p.PID, err)
	}
	return nil
}

// ignoredByDefault tells the signals whose default is to do nothing (signal(7)).
func ignoredByDefault(n unix.Signal) bool {
	return n == unix.SIGCHLD || n == unix.SIGURG || n == unix.SIGWINCH || n == unix.SIGCONT
}

func stops(n unix.Signal) bool {
	return n == unix.SIGSTOP || n == unix.SIGTSTP || n == unix.SIGTTIN || n == unix.SIGTTOU
}
