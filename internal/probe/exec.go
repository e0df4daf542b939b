package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

const (
	maxOutput = 64 << 10 // bytes kept of what a command prints
	maxErrors = 4 << 10  // bytes kept of the end of its standard error

	// pipesWithin is how long the output of a command that is over is still
	// read where a process that left its group holds it open.
	pipesWithin = time.Second
)

// Exec runs a command, and measures its exit status or the number it prints.
//
// It runs without a shell, with Simian's environment and folder and nothing on
// its standard input, in a process group of its own. The group is killed at
// the timeout, and whatever of it is left once the command is over.
type Exec struct {
	Command []string            `json:"command" jsonschema:"the program and its arguments; there is no shell"`
	Of      string              `json:"measure,omitempty" jsonschema:"exit (the exit status, the default) or number (what it prints on standard output, and nothing else)"`
	Timeout experiment.Duration `json:"timeout,omitzero" jsonschema:"not over by then, it is killed, and the sample has failed (5s)"`
}

// Validate implements experiment.Validator.
func (e *Exec) Validate() error {
	if len(e.Command) == 0 || e.Command[0] == "" {
		return errors.New("a command is missing, such as command: [pg_isready, -q]")
	}
	for i, arg := range e.Command {
		if strings.ContainsRune(arg, 0) {
			return experiment.Fieldf(fmt.Sprintf("command/%d", i), "has a zero byte in it")
		}
	}
	if err := checkMeasure(e.Of, "exit", "number"); err != nil {
		return err
	}
	return checkTimeout(e.Timeout)
}

// Unit implements experiment.Measured: a plain number.
func (e *Exec) Unit() string { return "" }

// Measure implements experiment.Probe.
func (e *Exec) Measure(ctx context.Context) (float64, error) {
	within, cancel := context.WithTimeout(ctx, e.Timeout.D())
	defer cancel()
	out, errs := head{max: maxOutput}, tail{max: maxErrors}
	cmd := exec.Command(e.Command[0], e.Command[1:]...)
	cmd.Stderr = &errs
	if e.Of == "number" {
		cmd.Stdout = &out
	}
	late, err := runGroup(within, cmd)
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case late:
		return 0, withLastLine(fmt.Errorf("it did not end within %s", e.Timeout), &errs)
	case err != nil:
		return 0, err
	}
	return e.number(cmd.ProcessState.Sys().(syscall.WaitStatus), &out, &errs)
}

// number picks what is measured out of how the command ended.
func (e *Exec) number(status syscall.WaitStatus, out *head, errs *tail) (float64, error) {
	switch {
	case status.Signaled():
		return 0, withLastLine(fmt.Errorf("it was killed by signal %d (%s)", int(status.Signal()), status.Signal()), errs)
	case e.Of != "number":
		return float64(status.ExitStatus()), nil
	case status.ExitStatus() != 0:
		return 0, withLastLine(fmt.Errorf("exit status %d", status.ExitStatus()), errs)
	case out.over:
		return 0, fmt.Errorf("it printed more than %d KiB, not a number", maxOutput>>10)
	}
	text := strings.TrimSpace(string(out.kept))
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, withLastLine(fmt.Errorf("it printed %q, not a number", shorten(text)), errs)
	}
	return v, nil
}

func withLastLine(err error, errs *tail) error {
	if line := errs.lastLine(); line != "" {
		return fmt.Errorf("%w: %s", err, line)
	}
	return err
}

// runGroup runs cmd in a process group of its own, and kills what is left of
// the group at the end of cmd or of ctx, whichever comes first; late says that
// it was ctx. How cmd ended is in its ProcessState.
//
// The group is killed before cmd is waited for. Until then its pid, which is
// the group's number too, cannot become anybody else's.
func runGroup(ctx context.Context, cmd *exec.Cmd) (late bool, err error) {
	// Pdeathsig is sent when the thread that forked ends; this keeps it ours.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = pipesWithin
	if err := cmd.Start(); err != nil {
		return false, plainStart(err)
	}
	over := make(chan struct{})
	go func() {
		awaitEnd(cmd.Process.Pid)
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
		late = true
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // ESRCH is what is wanted
	<-over
	var status *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &status) && !errors.Is(err, exec.ErrWaitDelay) {
		return late, fmt.Errorf("read its output: %w", err)
	}
	return late, nil
}

// awaitEnd returns when the child pid has ended, and leaves it to be waited for.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// plainStart says why a command could not be started, without its arguments.
func plainStart(err error) error {
	var path *fs.PathError
	var look *exec.Error
	switch {
	case errors.As(err, &look):
		err = look.Err
	case errors.As(err, &path):
		err = path.Err
	}
	return fmt.Errorf("start the command: %w", err)
}
