package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// End asks one process to end, and kills it where it has not after a while.
// Nothing brings it back.
type End struct {
	Process experiment.ProcessID `json:"process"`
	Name    string               `json:"name"`   // of the process, for people
	Signal  string               `json:"signal"` // that asks it: TERM …
	Grace   experiment.Duration  `json:"grace"`  // that it is given

	fs   proc.FS
	what string // how it ended, where this process has seen it
}

// NewEnd returns the op that ends p.
func NewEnd(fs proc.FS, p experiment.ProcessID, name, signal string, grace time.Duration) *End {
	return &End{Process: p, Name: name, Signal: signal, Grace: experiment.Duration(grace), fs: fs}
}

// String implements experiment.Op.
func (e *End) String() string {
	return fmt.Sprintf("stop %s (%s, %s), kill it after %s", e.Name, e.Process, e.Signal, e.Grace)
}

// Handles implements experiment.Handled.
func (e *End) Handles() []string { return []string{e.Process.Handle()} }

// Apply implements experiment.Op.
func (e *End) Apply(ctx context.Context) error {
	if err := e.fs.OwnPIDNamespace(); err != nil {
		return err
	}
	fd, err := proc.OpenPidfd(e.Process)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	start := time.Now()
	if err := gone(unix.PidfdSendSignal(fd, SignalNumber(e.Signal), nil, 0)); err != nil {
		return err
	}
	if exited(ctx, fd, e.Grace.D()) {
		e.what = fmt.Sprintf("ended %s after %s", shortly(experiment.Duration(time.Since(start))), e.Signal)
		return nil
	}
	if err := gone(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)); err != nil {
		return nil //nolint:nilerr // it has just ended
	}
	e.what = fmt.Sprintf("did not end within %s of %s, and was killed", e.Grace, e.Signal)
	return ctx.Err()
}

// exited waits until the process of a pidfd has exited, for so long at most.
func exited(ctx context.Context, fd int, d time.Duration) bool {
	for end := time.Now().Add(d); ; {
		left := min(time.Until(end), 50*time.Millisecond)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, left+time.Millisecond-1).Milliseconds()))
		switch {
		case n > 0:
			return true
		case err != nil && !errors.Is(err, unix.EINTR), ctx.Err() != nil, left <= 0:
			return false
		}
	}
}

// Verify implements experiment.Verifier.
func (e *End) Verify(ctx context.Context) (experiment.Evidence, error) {
	for e.fs.Alive(e.Process) {
		if ctx.Err() != nil {
			return experiment.Evidence{What: e.Process.String() + " runs still", Hint: "is it frozen, or in an uninterruptible sleep? It ends once it runs"}, nil
		}
		pause()
	}
	ev := exitedEvidence
	if e.what != "" {
		ev.What = e.what
	}
	return ev, nil
}
