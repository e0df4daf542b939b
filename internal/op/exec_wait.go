package op

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// await waits for the command's end, and kills it where that takes too long.
func (b *birth) await(ctx context.Context) (*commandEnd, error) {
	var said tail
	start := time.Now()
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&said, b.out)
	}()
	stop := context.AfterFunc(ctx, b.kill)
	ws, err := b.reap(ctx)
	how := &commandEnd{took: time.Since(start), late: !stop() && ws.Signaled(), code: ws.ExitStatus()}
	b.kill() // all that it has started ends with it
	_ = b.out.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	<-read
	how.said = said.String()
	if ws.Signaled() {
		how.signal = unix.SignalName(ws.Signal())
	}
	return how, err
}

// reap waits for the command's end. What is frozen does not die when it is
// killed, on version 1 of cgroups: it is not waited for, and dies once it is
// thawed.
func (b *birth) reap(ctx context.Context) (unix.WaitStatus, error) {
	pid, ended := b.pid, make(chan error, 1)
	b.pid = 0
	var ws unix.WaitStatus
	go func() { ended <- wait4(pid, &ws) }()
	select {
	case err := <-ended:
		return ws, err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return ws, err
	case <-time.After(clearTime):
		return 0, fmt.Errorf("it was killed, and does not end: it is frozen, or in an uninterruptible sleep: %w", ctx.Err())
	}
}

func wait4(pid int, ws *unix.WaitStatus) error {
	for {
		_, err := unix.Wait4(pid, ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for it: %w", err)
		}
		return nil
	}
}

// kill kills all that is in the command's cgroup at this moment.
func (b *birth) kill() {
	places, _ := b.e.process().places(b.e.host.FS)
	for _, dir := range places {
		if _, err := os.Stat(dir); err == nil {
			killCgroup(dir)
		}
	}
}

// clear ends all that is left, and removes the cgroup.
func (b *birth) clear() error {
	if b.pid != 0 { // it did not become the command
		_ = b.talk.Close()
		_ = unix.Kill(b.pid, unix.SIGKILL) // a child of ours, not reaped yet
		_, _ = b.reap(context.Background())
	}
	ctx, cancel := context.WithTimeout(context.Background(), clearTime)
	defer cancel()
	_, err := b.e.process().clear(ctx, b.e.host.FS)
	return err
}

// clearTime is how long what was killed may take to be gone.
const clearTime = 2 * time.Second
