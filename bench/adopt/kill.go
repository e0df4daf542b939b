package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// tool kills a container.
type tool struct {
	name string
	args func(container string) *exec.Cmd
	gone []float64 // ms from start until the process is gone
	exit []float64 // ms from start until the tool has ended
}

// kills measures the tools in turn.
func (b *bench) kills(ctx context.Context) error {
	b.tools = []*tool{
		{name: "simian inject kill", args: func(c string) *exec.Cmd { return b.own(ctx, "inject", "kill", "--docker", c) }},
		{name: "docker kill", args: func(c string) *exec.Cmd { return exec.CommandContext(ctx, "docker", "kill", c) }},
	}
	if path, err := exec.LookPath(b.pumba); err == nil {
		b.tools = append(b.tools, &tool{name: "pumba kill", args: func(c string) *exec.Cmd { return exec.CommandContext(ctx, path, "kill", c) }})
	} else {
		b.missing = append(b.missing, "`pumba kill`: there is no pumba here, and `-pumba` names none. When this was written, the Go module proxy refused "+
			"its module (403, the list of versions and six versions tried), and Debian had no package of it.")
	}
	b.missing = append(b.missing, "what pumba leaves when SIGKILL hits it while it pauses a container: this program does not try it.")
	for range b.rounds {
		for _, t := range b.tools {
			if err := b.killOnce(ctx, t); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	for _, t := range b.tools {
		b.say("%s: gone after %.1f ms, exit after %.1f ms", t.name, median(t.gone), median(t.exit))
	}
	return nil
}

func (b *bench) killOnce(ctx context.Context, t *tool) (err error) {
	name, err := b.start(ctx, "--network", "none")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(name)) }()
	pid, err := pidOf(ctx, name)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	gone := make(chan time.Time, 1)
	go func() { gone <- ended(fd) }()
	c := t.args(name)
	start := time.Now()
	out, err := c.CombinedOutput()
	exit := time.Since(start)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	at := <-gone
	if at.IsZero() {
		return errors.New("the process is there still")
	}
	t.gone, t.exit = append(t.gone, ms(at.Sub(start))), append(t.exit, ms(exit))
	return nil
}

// ended waits until a process has ended, and returns when; never is zero.
func ended(fd int) time.Time {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(patience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || n == 0:
			return time.Time{}
		default:
			return time.Now()
		}
	}
}
