package guard

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// The test binary plays three parts: the tests, a runner that arms a guardian
// and then does as it is told on standard input, and, once the guardian has
// taken over, the command that takes back.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == "take-back":
		takeBack(os.Args[1], os.Args[2])
	case os.Getenv("GUARD_TEST_SYSTEMD") != "":
		becomeSystemd(os.Getenv("GUARD_TEST_SYSTEMD"))
	case os.Getenv("GUARD_TEST_JOB") != "":
		job(os.Getenv("GUARD_TEST_JOB"))
	case os.Getenv("GUARD_TEST_RUNNER") != "":
		runner(os.Getenv("GUARD_TEST_RUNNER"))
	default:
		os.Exit(m.Run())
	}
}

// takeBack leaves a mark with the cause, in one step.
func takeBack(file, cause string) {
	_ = os.WriteFile(file+".new", []byte(cause), 0o600)
	_ = os.Rename(file+".new", file)
}

func testGuard(file string) Guard {
	return Guard{FS: proc.Host(), TakeBack: func(_ experiment.RunID, cause experiment.Cause) []string {
		return []string{"take-back", file, string(cause)}
	}}
}

// runner arms a guardian with a deadline of so many milliseconds, says its
// pid, and disarms it when told to.
func runner(file string) {
	ms, _ := strconv.Atoi(os.Getenv("GUARD_TEST_MS"))
	a, err := testGuard(file).Arm(context.Background(), "abc234", proc.BootTime().Add(time.Duration(ms)*time.Millisecond))
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println(a.Mark().Process.PID)
	in := bufio.NewReader(os.Stdin)
	word, _ := in.ReadString('\n')
	if word == "disarm\n" {
		fmt.Println(a.Disarm())
	}
	_, _ = in.ReadString('\n')
}

type scene struct {
	runner   *exec.Cmd
	guardian int
	mark     string
	in       *os.File
	out      *bufio.Reader
}

// start starts a runner in a session of its own, and waits until its guardian
// is armed.
func start(t *testing.T, deadline time.Duration) *scene {
	t.Helper()
	s := &scene{mark: filepath.Join(t.TempDir(), "mark")}
	s.runner = exec.Command("/proc/self/exe")
	s.runner.Env = append(os.Environ(), "GUARD_TEST_RUNNER="+s.mark, fmt.Sprintf("GUARD_TEST_MS=%d", deadline.Milliseconds()))
	s.runner.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in, s.runner.Stdin, s.runner.Stderr = in, r, os.Stderr
	out, err := s.runner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.runner.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { _ = s.runner.Process.Kill(); _ = s.runner.Wait(); in.Close() })
	s.out = bufio.NewReader(out)
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal("runner said nothing")
	}
	if s.guardian, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(line)
	}
	return s
}

// await waits until the guardian is gone, and returns what took back.
func (s *scene) await(t *testing.T) string {
	t.Helper()
	for range 2000 {
		if _, err := proc.Host().Stat(s.guardian); err != nil {
			break
		}
		if st, _ := proc.Host().Stat(s.guardian); st.Exited() {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if st, err := proc.Host().Stat(s.guardian); err == nil && !st.Exited() {
		t.Fatalf("guardian %d is still there", s.guardian)
	}
	data, err := os.ReadFile(s.mark)
	if err != nil {
		return ""
	}
	return string(data)
}

func TestTakesBackWhatARunnerCouldNot(t *testing.T) {
	for _, c := range []struct {
		name     string
		deadline time.Duration
		end      func(*scene)
		want     experiment.Cause
	}{
		{"runner killed", time.Hour, func(s *scene) { kill(s.runner.Process.Pid, unix.SIGKILL) }, experiment.CauseRunnerDied},
		{"its process group killed", time.Hour, func(s *scene) { kill(-s.runner.Process.Pid, unix.SIGKILL) }, experiment.CauseRunnerDied},
		{"runner exits without a word", time.Hour, func(s *scene) { s.in.Close() }, experiment.CauseRunnerDied},
		{"runner stopped past its deadline", 200 * time.Millisecond, func(s *scene) { kill(s.runner.Process.Pid, unix.SIGSTOP) }, experiment.CauseDeadline},
		{"guardian hung up on", time.Hour, func(s *scene) {
			kill(s.guardian, unix.SIGHUP)
			kill(s.guardian, unix.SIGINT)
			kill(s.runner.Process.Pid, unix.SIGKILL)
		}, experiment.CauseRunnerDied},
		{"guardian told to end ends the runner first", time.Hour, func(s *scene) { kill(s.guardian, unix.SIGTERM) }, experiment.CauseRunnerDied},
		{"disarmed", time.Hour, func(s *scene) { _, _ = s.in.WriteString("disarm\n") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, c.deadline)
			c.end(s)
			if got := s.await(t); got != string(c.want) {
				t.Errorf("taken back by cause %q, want %q", got, c.want)
			}
		})
	}
}

func kill(pid int, s unix.Signal) { _ = unix.Kill(pid, s) }

func TestGuardianIsApart(t *testing.T) {
	s := start(t, time.Hour)
	fs := proc.Host()
	st, err := fs.Stat(s.guardian)
	if err != nil {
		t.Fatal(err)
	}
	if st.Session != s.guardian {
		t.Errorf("session %d, want one of its own (%d)", st.Session, s.guardian)
	}
	if rss := residentKiB(t, s.guardian); rss > mostResident {
		t.Errorf("resident %d KiB, want at most %d", rss, mostResident)
	}
	if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.guardian)); cwd != "/" {
		t.Errorf("works in %s, which it keeps busy", cwd)
	}
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestOutlivesItsRunnersCgroup kills every process of the runner's cgroup.
func TestOutlivesItsRunnersCgroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a cgroup")
	}
	roots, err := proc.Host().CgroupRoots()
	if err != nil || len(roots) == 0 {
		t.Skip("no cgroup hierarchy is mounted:", err)
	}
	for _, root := range roots {
		dir := filepath.Join(root, fmt.Sprintf("simian-guardtest-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(root) == "cpuset" {
			for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
				data, _ := os.ReadFile(filepath.Join(root, f))
				_ = os.WriteFile(filepath.Join(dir, f), data, 0)
			}
		}
		t.Cleanup(func() {
			for range 200 { // a cgroup is busy until its last process is reaped
				if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%s is left", dir)
		})
		t.Run(filepath.Base(root), func(t *testing.T) { outlives(t, dir) })
	}
}

// outlives starts a runner that moves into the cgroup before it arms: a shell
// moves itself there, and becomes the runner.
func outlives(t *testing.T, dir string) {
	s := &scene{mark: filepath.Join(t.TempDir(), "mark")}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.runner = exec.Command("/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$1"`, dir, exe)
	s.runner.Env = append(os.Environ(), "GUARD_TEST_RUNNER="+s.mark, "GUARD_TEST_MS=3600000")
	in, err := s.runner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := s.runner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.runner.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if s.guardian, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(line)
	}
	members, err := proc.Host().CgroupMembers(dir)
	if err != nil || len(members) != 1 || members[0] != s.runner.Process.Pid {
		t.Errorf("the runner's cgroup holds %v (%v), want the runner alone", members, err)
	}
	for _, pid := range members {
		kill(pid, unix.SIGKILL)
	}
	_ = s.runner.Wait()
	if got := s.await(t); got != string(experiment.CauseRunnerDied) {
		t.Errorf("taken back by cause %q", got)
	}
}

func BenchmarkArm(b *testing.B) {
	g := testGuard(filepath.Join(b.TempDir(), "mark"))
	for b.Loop() {
		a, err := g.Arm(context.Background(), "abc234", proc.BootTime().Add(time.Hour))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := a.Disarm(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
