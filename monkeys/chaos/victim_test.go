package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"net"
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
	"github.com/simianhq/simian/internal/box"
)

// victimEnv makes the test binary a process that does what it is told, line by
// line, and answers each with one.
const victimEnv = "SIMIAN_TEST_CHAOS_VICTIM"

// Before anything else of the tests.
var _ = func() bool {
	if os.Getenv(victimEnv) != "" {
		obey()
	}
	return true
}()

func obey() {
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	kept := map[string]any{} // what is open, so that nothing closes it
	for n := 0; in.Scan(); n++ {
		words := strings.Fields(in.Text())
		got, err := act(words)
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		kept[fmt.Sprint(n)] = got
		if cmd, ok := got.(*exec.Cmd); ok {
			fmt.Println("ok", cmd.Process.Pid)
		} else {
			fmt.Println("ok")
		}
	}
	os.Exit(0)
}

func act(words []string) (any, error) {
	switch words[0] {
	case "open":
		return os.Open("/dev/null")
	case "tcp", "udp":
		return net.DialTimeout(words[0], words[1], 2*time.Second)
	case "fork":
		cmd := exec.Command("sleep", "600")
		return cmd, cmd.Start()
	case "listen": // and accept nothing
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet6{Port: 8080})
		}
		if err == nil {
			err = unix.Listen(fd, 16)
		}
		return fd, err
	case "serve":
		l, err := net.Listen("tcp", "127.0.0.1:8080")
		if err == nil {
			go echoes(l)
		}
		return l, err
	}
	return nil, errors.New("what?")
}

// program is a copy of this one: the very file is Simian, which is protected.
func program(t testing.TB) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	path := filepath.Join(t.TempDir(), "victim")
	syscall.ForkLock.RLock() // a child would hold it open to be written, and it could not be executed
	defer syscall.ForkLock.RUnlock()
	must(t, os.WriteFile(path, self, 0o755))
	return path
}

// victim is a process that does what it is told.
type victim struct {
	experiment.Target
	t   testing.TB
	in  *os.File
	out *bufio.Reader
	end func()
}

func (v *victim) ask(words string) string {
	v.t.Helper()
	if _, err := fmt.Fprintln(v.in, words); err != nil {
		v.t.Fatal(err)
	}
	return v.hear()
}

func (v *victim) hear() string {
	v.t.Helper()
	line, err := v.out.ReadString('\n')
	if err != nil {
		v.t.Fatal("the victim says nothing: ", err)
	}
	return strings.TrimSpace(line)
}

// fork has the victim fork, and returns the child.
func (v *victim) fork() int {
	v.t.Helper()
	answer := v.ask("fork")
	pid, err := strconv.Atoi(strings.TrimPrefix(answer, "ok "))
	if err != nil {
		v.t.Fatal(answer)
	}
	return pid
}

// pipes are the ends of a victim's standard streams: ours, and its own.
func (v *victim) pipes() (in, out *os.File) {
	v.t.Helper()
	theirs, ours, err := os.Pipe()
	must(v.t, err)
	back, says, err := os.Pipe()
	must(v.t, err)
	v.in, v.out = ours, bufio.NewReader(back)
	v.t.Cleanup(func() { _ = ours.Close(); _ = back.Close() })
	return theirs, says
}

// newVictim starts one as a raw process, in network and cgroups as cmd says.
func newVictim(t testing.TB, attr *syscall.SysProcAttr) *victim {
	t.Helper()
	v := &victim{t: t}
	in, out := v.pipes()
	cmd := exec.Command(program(t))
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.SysProcAttr = append(os.Environ(), victimEnv+"=1"), in, out, attr
	must(t, cmd.Start())
	_, _ = in.Close(), out.Close()
	v.end = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(v.end)
	v.hear()
	target, err := host.Target(cmd.Process.Pid)
	must(t, err)
	target.Kind, target.Name, target.ID = "process", "web", target.PIDs[0].Handle()
	v.Target = target
	return v
}

// newContainedVictim starts one in a container with a network of its own.
func newContainedVictim(t testing.TB, limits box.Limits) *victim {
	t.Helper()
	v := &victim{t: t}
	n := newNode(t, "net")
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.cmd.Process.Pid))
	must(t, err)
	defer ns.Close()
	in, out := v.pipes()
	v.Target = containedWith(t, limits, box.Stdio{In: in, Out: out}, func(s *box.Spec) {
		s.Args, s.Net = []string{"/victim"}, ns
		s.Env = append(s.Env, victimEnv+"=1")
	})
	_, _ = in.Close(), out.Close()
	v.end = func() { _ = unix.Kill(v.PIDs[0].PID, unix.SIGKILL); n.end() }
	v.hear()
	return v
}
