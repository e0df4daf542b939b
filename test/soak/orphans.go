package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// adoptOrphans makes this process the one that inherits and reaps what the
// killed runners leave (PR_SET_CHILD_SUBREAPER). PID 1 of the host does so
// otherwise, and some look once in two seconds only: for so long the kernel
// would keep a container whose health check was running, since a PID namespace
// ends once each process in it was reaped (zap_pid_ns_processes).
func adoptOrphans(ctx context.Context) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("inherit orphans: %w", err)
	}
	died := make(chan os.Signal, 1)
	signal.Notify(died, unix.SIGCHLD)
	go func() {
		seen := map[int]time.Time{} // when the dead were seen first
		for ctx.Err() == nil {
			reapOrphans(seen)
			select {
			case <-died:
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}()
	return nil
}

// reapOrphans reaps the dead that this process did not start. Those in a PID
// namespace of their own are no doubt such; others are if nobody has waited
// for them for long.
func reapOrphans(seen map[int]time.Time) {
	for _, pid := range deadChildren() {
		if seen[pid].IsZero() {
			seen[pid] = time.Now()
		}
		if innerPID(pid) == "" && time.Since(seen[pid]) < patience {
			continue
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		delete(seen, pid)
	}
	for pid, since := range seen {
		if time.Since(since) > 2*patience { // its number may mean another process now
			delete(seen, pid)
		}
	}
}

func deadChildren() []int {
	var dead []int
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, file := range files {
		data, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(data)) {
			pid, _ := strconv.Atoi(word)
			if st, err := proc.Host().Stat(pid); err == nil && st.Exited() {
				dead = append(dead, pid)
			}
		}
	}
	return dead
}
