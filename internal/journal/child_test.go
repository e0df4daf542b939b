package journal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// The test binary is started again as another process, to hold locks and be
// killed: SIMIAN_JOURNAL_CHILD says what it does.
const childEnv = "SIMIAN_JOURNAL_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		if err := children[role](os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	os.RemoveAll(benchDir)
	os.Exit(code)
}

var children = map[string]func(args []string) error{
	// create DIR: makes the journal of testRun, writes to it, holds its lock.
	"create": func(args []string) error {
		s, err := New(args[0], testCodec, Now)
		if err != nil {
			return err
		}
		if err := s.Create(context.Background(), testRun); err != nil {
			return err
		}
		for _, e := range []experiment.Event{begin(), announce(1)} {
			if err := s.Append(context.Background(), e); err != nil {
				return err
			}
		}
		return ready()
	},
	// acquire LOCKS STATE HANDLE: holds the lock on a handle for testRun.
	"acquire": func(args []string) error {
		l, err := openLocks(args[0])
		if err != nil {
			return err
		}
		if err := l.Acquire(testRun, args[1], args[2]); err != nil {
			return err
		}
		return ready()
	},
	// race LOCKS STATE SCRATCH RUN ROUNDS: takes and gives up one handle again
	// and again, and fails if another has it at the same time.
	"race": func(args []string) error {
		rounds, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		l, err := openLocks(args[0])
		if err != nil {
			return err
		}
		return contend(l, args[1], args[2], experiment.RunID(args[3]), rounds)
	},
	// take DIR: takes the lock of testRun, appends, and ends it if it is the
	// first to.
	"take": func(args []string) error {
		s, err := New(args[0], testCodec, Now)
		if err != nil {
			return err
		}
		if err := s.Lock(context.Background(), testRun); err != nil {
			fmt.Println("lost:", err)
			return nil
		}
		if err := s.Append(context.Background(), experiment.Event{Run: testRun, Kind: experiment.EventEnd}); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
		if err := s.Finish(testRun); err != nil {
			return err
		}
		fmt.Println("won")
		return nil
	},
}

// ready says so, and waits to be killed.
func ready() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func child(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	return cmd
}

// holding starts a child that holds a lock, and returns when it does.
func holding(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := child(t, role, args...)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		t.Fatalf("child said %q, %v", line, err)
	}
	return cmd
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("child: %v: %s", err, out)
	}
	return string(out)
}
