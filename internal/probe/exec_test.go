package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

func sh(script string, more ...string) []string {
	return append([]string{"/bin/sh", "-c", script}, more...)
}

func TestExec(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		command []string
		of      string
		timeout experiment.Duration
		want    float64
		err     string
	}{
		"exit 0":            {command: sh("exit 0"), want: 0},
		"exit 3":            {command: sh("exit 3"), of: "exit", want: 3},
		"prints as well":    {command: sh("echo hello; echo world >&2"), want: 0},
		"number":            {command: sh("echo ' 12.5 '"), of: "number", want: 12.5},
		"negative":          {command: sh("echo -1e3"), of: "number", want: -1000},
		"no shell":          {command: []string{"echo", "$HOME"}, of: "number", err: `it printed "$HOME", not a number`},
		"environment":       {command: sh(`test -n "$PATH" && echo 1`), of: "number", want: 1},
		"no standard input": {command: sh("cat; echo 4"), of: "number", want: 4},
		"unit":              {command: sh("echo 12ms"), of: "number", err: `it printed "12ms", not a number`},
		"two numbers":       {command: sh("echo 1; echo 2"), of: "number", err: `it printed "1 2", not a number`},
		"prints nothing":    {command: sh("echo no idea >&2"), of: "number", err: `it printed "", not a number: no idea`},
		"not finite":        {command: sh("echo NaN"), of: "number", err: `it printed "NaN", not a number`},
		"number, exit 2":    {command: sh("echo 5; echo one >&2; echo ' two ' >&2; exit 2"), of: "number", err: "exit status 2: two"},
		"much":              {command: sh("head -c 70000 /dev/zero"), of: "number", err: "it printed more than 64 KiB, not a number"},
		"much, exit":        {command: sh("head -c 9000000 /dev/zero; head -c 900000 /dev/zero >&2; exit 1"), want: 1},
		"killed":            {command: sh("kill -SEGV $$"), err: "it was killed by signal 11 (segmentation fault)"},
		"not found":         {command: []string{"/no/such/program", "s3cret"}, err: "start the command: no such file or directory"},
		"not in PATH":       {command: []string{"no-such-program-either"}, err: "start the command: executable file not found in $PATH"},
		"not a program":     {command: []string{"/"}, err: "start the command: "},
		"too slow":          {command: sh("sleep 1000"), timeout: soon, err: "it did not end within 50ms"},
		"prints for ever":   {command: []string{"yes"}, of: "number", timeout: soon, err: "it did not end within 50ms"},
		"deaf to TERM":      {command: sh("trap '' TERM INT; while :; do sleep 1; done"), timeout: soon, err: "it did not end within 50ms"},
		"control in errors": {command: sh(`printf 'a\033[31m\nb\033[0mc\n\n' >&2; exit 1`), of: "number", err: "exit status 1: b [0mc"},
		"long line":         {command: sh("head -c 9000 /dev/zero | tr '\\0' x >&2; exit 1"), of: "number", err: "exit status 1: " + strings.Repeat("x", maxWords) + "…"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProbe("exec", func(e *Exec) {
				e.Command, e.Of, e.Timeout = tt.command, tt.of, tt.timeout
				if e.Timeout == 0 {
					e.Timeout = experiment.Duration(time.Minute)
				}
			})
			checkError(t, p.Validate(), "")
			got, err := p.Measure(t.Context())
			checkError(t, err, tt.err)
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// The whole group ends with the sample, at its cancel as at its end.
func TestExecEndsItsGroup(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]string{
		"cancelled": "wait",
		"ended":     "exit 0",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			p := newProbe("exec", func(e *Exec) {
				e.Command = sh("sleep 1000 & echo $! > $0.new; mv $0.new $0; "+last, file)
				e.Timeout = experiment.Duration(time.Hour)
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := p.Measure(ctx)
				ended <- err
			}()
			child := readPID(t, file)
			if name == "cancelled" {
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want context.Canceled", err)
				}
			} else if err := <-ended; err != nil {
				t.Error(err)
			}
			eventually(t, "the grandchild is gone", func() bool { return !runs(child) })
		})
	}
}

// A daemon that left the group and holds its output is not waited for.
func TestExecOutputHeldOpen(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	p := newProbe("exec", func(e *Exec) {
		e.Command = sh("setsid sh -c 'echo $$ > $0.new; mv $0.new $0; exec sleep 1000' $0 & while ! test -e $0; do sleep 0.01; done; echo 7", file)
		e.Of, e.Timeout = "number", experiment.Duration(time.Hour)
	})
	got, err := p.Measure(t.Context())
	daemon := readPID(t, file)
	t.Cleanup(func() { _ = syscall.Kill(daemon, syscall.SIGKILL) })
	checkError(t, err, "")
	if got != 7 {
		t.Errorf("got %v, want 7", got)
	}
	if !runs(daemon) {
		t.Error("the daemon was killed: it is not in the group")
	}
}

func TestExecLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	p := newProbe("exec", func(e *Exec) { e.Command, e.Timeout = sh("sleep 1000"), soon })
	for range 5 {
		_, err := p.Measure(t.Context())
		checkError(t, err, "did not end")
	}
	noMoreGoroutines(t, before)
}

func readPID(t *testing.T, file string) (pid int) {
	t.Helper()
	eventually(t, "the pid is written", func() bool {
		text, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

// runs tells whether pid is a process that has not ended yet: what nobody
// waited for has.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
