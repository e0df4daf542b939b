package op

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// pause waits between two looks at a state that the kernel changes by itself.
// A timer of Go's would round it up to a millisecond where nothing else runs.
func pause() {
	_ = unix.Nanosleep(&unix.Timespec{Nsec: 50_000}, nil)
}

// Stop stops all threads of one process by SIGSTOP, or lets them go on by
// SIGCONT. It is the freezer for processes that have no cgroup of their own.
type Stop struct {
	Process experiment.ProcessID `json:"process"`
	Name    string               `json:"name"` // of the process, for people
	Stopped bool                 `json:"stopped"`

	fs proc.FS
}

// NewStop returns the op that stops p, or lets it go on.
func NewStop(fs proc.FS, p experiment.ProcessID, name string, stopped bool) *Stop {
	return &Stop{Process: p, Name: name, Stopped: stopped, fs: fs}
}

// String implements experiment.Op.
func (s *Stop) String() string {
	word := "let go on"
	if s.Stopped {
		word = "stop"
	}
	return fmt.Sprintf("%s %s (pid %d, SIG%s)", word, s.Name, s.Process.PID, s.signalName())
}

func (s *Stop) signalName() string {
	if s.Stopped {
		return "STOP"
	}
	return "CONT"
}

// Backend implements experiment.Backed.
func (s *Stop) Backend() string { return "SIGSTOP" }

// Handles implements experiment.Handled.
func (s *Stop) Handles() []string { return []string{s.Process.Handle() + "#state"} }

// Apply implements experiment.Op. A process that is to go on gets SIGCONT even
// where it seems to run: see goesOn.
func (s *Stop) Apply(context.Context) error {
	if err := s.fs.OwnPIDNamespace(); err != nil {
		return err
	}
	fd, err := proc.OpenPidfd(s.Process)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	settled := s.stopped
	if !s.Stopped {
		settled = s.goesOn
	}
	if done, err := settled(); err != nil || done {
		return err
	}
	return gone(unix.PidfdSendSignal(fd, SignalNumber(s.signalName()), nil, 0))
}

// goesOn tells whether nothing is to be taken back. A SIGSTOP takes a moment
// to stop a process, and longer where that is frozen or in an uninterruptible
// sleep: one that runs may yet stop. SIGCONT calls that off, and does nothing
// else but call the process's handler, so it is left out only for the sake of
// one.
func (s *Stop) goesOn() (bool, error) {
	// What is pending first: it is stopped from the moment on that it is not
	// pending any more. The other way round it could be neither.
	sigs, err := s.fs.Signals(s.Process.PID)
	if err != nil {
		return false, err
	}
	stopped, err := s.stopped()
	const cont, stop = 1 << (unix.SIGCONT - 1), 1 << (unix.SIGSTOP - 1)
	return !stopped && sigs.Caught&cont != 0 && sigs.Pending&stop == 0, err
}

// stopped tells whether any thread is stopped, or for a process to be
// stopped, whether all are. A thread in an uninterruptible sleep counts as
// stopped once it leaves it; it is not yet.
func (s *Stop) stopped() (bool, error) {
	threads, err := s.fs.Threads(s.Process.PID)
	if !s.fs.Alive(s.Process) {
		return false, fmt.Errorf("stop %s: %w", s.Process, experiment.ErrGone)
	}
	if err != nil {
		return false, err
	}
	all, some := true, false
	for _, t := range threads {
		if t.Exited() {
			continue
		}
		all = all && (t.State == 'T' || t.State == 't') // a debugger's stop is a stop too,
		some = some || t.State == 'T'                   // but not one to take back
	}
	if s.Stopped {
		return all && some, nil
	}
	return some, nil
}

// Verify implements experiment.Verifier: it waits until every thread is as it
// should be.
func (s *Stop) Verify(ctx context.Context) (experiment.Evidence, error) {
	for {
		stopped, err := s.stopped()
		if err != nil {
			return experiment.Evidence{}, err
		}
		if stopped == s.Stopped {
			return experiment.Evidence{InForce: true, What: "state " + stateWord(stopped)}, nil
		}
		if ctx.Err() != nil {
			return experiment.Evidence{
				What: fmt.Sprintf("%s (pid %d) is %s", s.Name, s.Process.PID, stateWord(stopped)),
				Hint: "somebody sent it another signal, or a thread of it is in an uninterruptible sleep",
			}, nil
		}
		pause()
	}
}

func stateWord(stopped bool) string {
	if stopped {
		return "stopped"
	}
	return "running"
}

// CheckStoppable gives ErrBusy where p is stopped already, by whomever, and
// os.ErrPermission where this process may not signal it.
func CheckStoppable(fs proc.FS, p experiment.ProcessID, name string) error {
	if err := CheckSignal(p, name); err != nil {
		return err
	}
	stopped, err := NewStop(fs, p, name, false).stopped()
	if err != nil {
		return err
	}
	if stopped {
		return fmt.Errorf("%s (pid %d) is stopped already, and not by this run: %w", name, p.PID, experiment.ErrBusy)
	}
	return nil
}
