package op

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// The test binary is started again as something to break: victimEnv says what
// it does first.
const victimEnv = "SIMIAN_TEST_VICTIM"

func TestMain(m *testing.M) {
	if role := os.Getenv(victimEnv); role != "" {
		if err := victim(strings.Fields(role)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if signal.Ignored(unix.SIGHUP) { // by nohup, which those that are started here would inherit
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil { // package net asks once what there is of IPv6: here, and not in a namespace that has nothing yet
		_ = l.Close()
	}
	os.Exit(m.Run())
}

// victim ignores or blocks a signal and becomes another program, in which that
// stays so; or catches it, or has threads.
func victim(role []string) error {
	switch role[0] {
	case "ignore":
		signal.Ignore(SignalNumber(role[1]))
	case "block":
		runtime.LockOSThread()
		var set unix.Sigset_t
		set.Val[0] = 1 << (SignalNumber(role[1]) - 1)
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil); err != nil {
			return err
		}
	case "exec":
		return execVictim()
	case "apply":
		return applyForEver()
	case "clock":
		return clockVictim(role[1:])
	case "catch":
		signal.Notify(make(chan os.Signal, 1), SignalNumber(role[1]))
		fmt.Println("ready")
		time.Sleep(time.Minute)
		return nil
	case "threads":
		for range 4 {
			go func() {
				runtime.LockOSThread()
				for {
					time.Sleep(time.Millisecond)
				}
			}()
		}
		time.Sleep(50 * time.Millisecond)
		fmt.Println("ready")
		time.Sleep(time.Minute)
		return nil
	}
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		return err
	}
	return unix.Exec(sleep, []string{"sleep", "60"}, nil)
}

var host = proc.Host()

// prey is a process to break.
type prey struct {
	cmd *exec.Cmd
	id  experiment.ProcessID
}

// newPrey starts a process that does nothing; a role, as victim knows it, says
// what it does with signals.
func newPrey(t testing.TB, role ...string) *prey {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if len(role) > 0 {
		cmd = exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join(role, " "))
	}
	cmd.Dir = t.TempDir() // for a core, where its signal leaves one
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if len(role) > 0 && (role[0] == "catch" || role[0] == "threads" || role[0] == "clock") {
		_, err := out.Read(make([]byte, 8))
		must(t, err)
	} else {
		await(t, "sleep", func() bool {
			st, err := host.Stat(cmd.Process.Pid)
			return err == nil && st.Comm == "sleep" && st.State == 'S'
		})
	}
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	return &prey{cmd, id}
}

// state is the letter of proc_pid_stat(5).
func (p *prey) state() string {
	st, err := host.Stat(p.id.PID)
	if err != nil {
		return "gone"
	}
	return string(st.State)
}

// cgroups are the versions of the freezer, and where each is found.
func freezerRoot(t testing.TB, version string) string {
	t.Helper()
	own, err := host.Cgroup(os.Getpid())
	must(t, err)
	root := own.V2.Path
	if version == FreezerV1 {
		root = own.V1["freezer"].Path
	}
	switch {
	case root == "":
		t.Skip("no " + version + " is mounted")
	case os.Geteuid() != 0:
		t.Skip("a cgroup can be made by root only")
	}
	return root
}

// newCgroup makes a cgroup, with these processes in it.
func newCgroup(t testing.TB, version string, members ...*prey) experiment.CgroupDir {
	t.Helper()
	dir, err := os.MkdirTemp(freezerRoot(t, version), "simian-test-"+strconv.Itoa(os.Getpid())+"-")
	must(t, err)
	t.Cleanup(func() {
		_ = writeFile(dir, version, false)
		for _, p := range members {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		await(t, "rmdir "+dir, func() bool { err := os.Remove(dir); return err == nil || errors.Is(err, os.ErrNotExist) })
	})
	for _, p := range members {
		join(t, dir, p.id.PID)
	}
	found, err := proc.StatCgroup(dir)
	must(t, err)
	return found
}

func join(t testing.TB, dir string, pid int) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
}

// writeFile freezes or thaws as somebody else would.
func writeFile(dir, version string, frozen bool) error {
	file, value := "cgroup.freeze", map[bool]string{true: "1", false: "0"}
	if version == FreezerV1 {
		file, value = "freezer.state", map[bool]string{true: "FROZEN", false: "THAWED"}
	}
	return os.WriteFile(filepath.Join(dir, file), []byte(value[frozen]), 0)
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is a context for what should be so soon.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
