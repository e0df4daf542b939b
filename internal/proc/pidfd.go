package proc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// OpenPidfd returns a file descriptor of the very process id (pidfd_open(2)),
// closed on exec. It opens first and compares the start time then, so that a
// pid which was reused meanwhile is never taken for it: the error is
// experiment.ErrGone where another process has the pid, or id has exited.
func OpenPidfd(id experiment.ProcessID) (fd int, err error) {
	fd, err = unix.PidfdOpen(id.PID, 0)
	alive := Host().Alive(id)
	switch {
	case err == nil && alive:
		return fd, nil
	case err == nil:
		_ = unix.Close(fd)
		return -1, fmt.Errorf("open %s: %w", id, experiment.ErrGone)
	case errors.Is(err, unix.ENOSYS):
		return -1, fmt.Errorf("open %s: this kernel has no pidfd_open, Linux 5.3 has: %w", id, experiment.ErrUnsupported)
	case !alive:
		return -1, fmt.Errorf("open %s: %w", id, experiment.ErrGone)
	}
	return -1, fmt.Errorf("open %s: %w", id, err)
}
