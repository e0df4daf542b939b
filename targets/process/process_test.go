package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// TestMain makes a copy of this program into one that listens: "listen tcp", or
// into one that starts others: "parent PATH".
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "listen" {
		listen(os.Args[2])
		return
	}
	if len(os.Args) == 3 && os.Args[1] == "parent" {
		parent(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// parent starts two of a program, and stays.
func parent(path string) {
	for range 2 {
		if err := exec.Command(path, "300").Start(); err != nil {
			fmt.Println(err)
			return
		}
	}
	time.Sleep(5 * time.Minute)
}

// listen binds a port of the kernel's choice, prints it, and stays.
func listen(network string) {
	var address net.Addr
	if strings.HasPrefix(network, "udp") {
		conn, err := net.ListenPacket(network, ":0")
		if err != nil {
			fmt.Println(err)
			return
		}
		address = conn.LocalAddr()
	} else {
		l, err := net.Listen(network, ":0")
		if err != nil {
			fmt.Println(err)
			return
		}
		address = l.Addr()
	}
	_, port, _ := net.SplitHostPort(address.String())
	fmt.Println(port)
	time.Sleep(5 * time.Minute)
}

// unique makes a name that no other process has, of at most 15 bytes.
func unique(prefix string) string { return prefix + strconv.Itoa(os.Getpid()) }

// program puts a copy of sleep under another name into a fresh directory.
func program(t testing.TB, name string) string {
	t.Helper()
	return copyOf(t, "/bin/sleep", name)
}

func copyOf(t testing.TB, source, name string) string {
	t.Helper()
	data, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	return programOf(t, data, name)
}

// programOf writes a program into a fresh directory.
func programOf(t testing.TB, data []byte, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	syscall.ForkLock.RLock() // a child forked meanwhile would hold it open for writing: "text file busy"
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// run starts a command until the test ends, and waits until it is what it is
// to be.
func run(t testing.TB, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	self, _ := proc.Host().Exe(os.Getpid())
	await(t, func() bool { // its arguments are the last that is there
		exe, err := proc.Host().Exe(cmd.Process.Pid)
		args, _ := proc.Host().Cmdline(cmd.Process.Pid)
		return err == nil && exe != self && len(args) > 0
	})
	return cmd.Process.Pid
}

func await(t testing.TB, ok func() bool) {
	t.Helper()
	for range 20_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("waited 20 s in vain")
}

// listener starts a program that binds a port, and returns its pid and port.
func listener(t *testing.T, network string, flags uintptr) (pid, port int) {
	t.Helper()
	cmd := exec.Command(copyOf(t, os.Args[0], "listener"), "listen", network)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pid = run(t, cmd)
	line, _ := bufio.NewReader(out).ReadString('\n')
	port, err = strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Skip("no such network here:", line)
	}
	return pid, port
}

// selected decodes nothing: it selects with p as a file would have it.
func selected(p Process) ([]experiment.Target, error) {
	p.fs = proc.Host()
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p.Select(context.Background())
}

// wantPIDs checks that exactly these processes are found, each one target.
func wantPIDs(t *testing.T, p Process, want ...int) []experiment.Target {
	t.Helper()
	targets, err := selected(p)
	if err != nil {
		t.Fatalf("%s: %v", p.String(), err)
	}
	var got []int
	for _, target := range targets {
		if len(target.PIDs) != 1 {
			t.Errorf("%s: a target of %d processes", p.String(), len(target.PIDs))
		}
		got = append(got, target.PIDs[0].PID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", p.String(), got, want)
	}
	return targets
}

// wantNone checks that nothing is found, and that the error says all of words.
func wantNone(t *testing.T, p Process, words ...string) {
	t.Helper()
	targets, err := selected(p)
	if !errors.Is(err, experiment.ErrNoMatch) {
		t.Fatalf("%s: %v, %v", p.String(), targets, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: no %q in %q", p.String(), word, err)
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups and namespaces")
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		give Process
		want string // "" where it is valid
	}{
		{"nothing", Process{}, "says nothing of which process: give pid, name, command, port, user, netns, container, ancestor, cgroup or unit"},
		{"pid", Process{PID: 812}, ""},
		{"all that combine", Process{PID: 812, Name: "worker", Command: "^w", Port: 80}, ""},
		{"negative pid", Process{PID: -1}, "pid: -1 is not a pid (1 or more)"},
		{"negative port", Process{Port: -80}, "port: -80 is not a port (1 to 65535)"},
		{"port too high", Process{Port: 65536}, "port: 65536 is not a port (1 to 65535)"},
		{"highest port", Process{Port: 65535}, ""},
		{"bad expression", Process{Command: "a(b"}, "command: \"a(b\" is not a regular expression: missing closing ): `a(b`"},
		{"cgroup", Process{Cgroup: "/machine/web"}, ""},
		{"cgroup with another", Process{Cgroup: "web", Name: "web"}, "cgroup: stands alone: it selects all the processes in the cgroup"},
		{"cgroup with unit", Process{Cgroup: "web", Unit: "web"}, "cgroup: stands alone: it selects all the processes in the cgroup"},
		{"cgroup upwards", Process{Cgroup: "web/../.."}, `cgroup: "web/../.." leads upwards: give the path of the cgroup itself`},
		{"unit", Process{Unit: "nginx"}, ""},
		{"unit with another", Process{Unit: "nginx", PID: 1}, "unit: stands alone: it selects all the processes of the unit"},
		{"unit that is a path", Process{Unit: "system.slice/nginx.service"}, `unit: "system.slice/nginx.service" is not the name of a unit, such as nginx.service`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if err := test.give.Validate(); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestFieldErrorNamesThePlace(t *testing.T) {
	t.Parallel()
	var field *experiment.FieldError
	if err := (&Process{Command: "a(b"}).Validate(); !errors.As(err, &field) || field.Field != "command" {
		t.Error(err)
	}
}

func TestSelectByPID(t *testing.T) {
	t.Parallel()
	path := program(t, "worker")
	pid := run(t, exec.Command(path, "300"))
	got := wantPIDs(t, Process{PID: pid}, pid)[0]
	id, err := proc.Host().Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	labels := got.Labels
	delete(labels, "unit") // where the test runs as a unit
	want := map[string]string{"pid": strconv.Itoa(pid), "uid": strconv.Itoa(os.Geteuid()), "exe": path}
	if diff := cmp.Diff(want, labels); diff != "" {
		t.Error(diff)
	}
	if got.Kind != "process" || got.Name != "worker" || got.ID != id.Handle() || got.PIDs[0] != id || got.Net.Inode == 0 || got.Root == "" {
		t.Errorf("%+v", got)
	}
	if !strings.HasSuffix(got.Workload, ".service") && !strings.HasPrefix(got.Workload, path+"#") {
		t.Error("workload:", got.Workload)
	}
	wantPIDs(t, Process{PID: pid, Name: "worker", Command: "300$"}, pid)
	wantNone(t, Process{PID: pid, Name: "other"}, "pid "+strconv.Itoa(pid), `name "other"`, "it is worker")
}

func TestSelectByPIDWhatCannotBe(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { s, err := proc.Host().Stat(cmd.Process.Pid); return err == nil && s.Exited() })
	wantNone(t, Process{PID: cmd.Process.Pid}, "it has exited (true)")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	wantNone(t, Process{PID: cmd.Process.Pid}, "there is no such pid")
	threads, err := proc.Host().Threads(os.Getpid())
	if err != nil || len(threads) < 2 {
		t.Fatal(threads, err)
	}
	wantNone(t, Process{PID: threads[1].PID}, "it is a thread of another process")
}

func TestSelectByName(t *testing.T) {
	t.Parallel()
	name := unique("wk")
	path := program(t, name)
	a, b := run(t, exec.Command(path, "300")), run(t, exec.Command(path, "301"))
	got := wantPIDs(t, Process{Name: name}, a, b)
	if got[0].Workload == got[1].Workload && !strings.HasSuffix(got[0].Workload, ".service") {
		t.Error("different commands are one workload:", got[0].Workload)
	}
	if !slices.IsSortedFunc(got, func(a, b experiment.Target) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("not sorted")
	}
	wantPIDs(t, Process{Name: name, Command: " 301$"}, b)
	wantNone(t, Process{Name: name[:len(name)-1] + "_"}, fmt.Sprintf("did you mean %q?", name))
	wantNone(t, Process{Name: name[:len(name)-1]})
}

func TestSelectByLongName(t *testing.T) {
	t.Parallel()
	name := unique("a-very-long-name-")
	binary := run(t, exec.Command(program(t, name), "300"))
	script := programOf(t, []byte("#!/bin/sh\nread nothing\n"), name+".sh")
	cmd := exec.Command(script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	interpreted := run(t, cmd)
	wantPIDs(t, Process{Name: name}, binary)
	wantPIDs(t, Process{Name: name + ".sh"}, interpreted)
	wantNone(t, Process{Name: name + "x"})
	wantPIDs(t, Process{Name: name[:15]}, binary, interpreted) // as ps shows it
}

func TestSelectByCommand(t *testing.T) {
	t.Parallel()
	name := unique("cm")
	path := program(t, name)
	pid := run(t, exec.Command(path, "300"))
	wantPIDs(t, Process{Command: "/" + name + " 30+$"}, pid)
	wantNone(t, Process{Command: "^" + name + " 30+$"}, "a command line that matches")
}

func TestSelectByPort(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			pid, port := listener(t, network, 0)
			wantPIDs(t, Process{Port: port}, pid)
			wantPIDs(t, Process{Port: port, Name: "listener"}, pid)
			wantNone(t, Process{Port: port, Name: "other"}, "port "+strconv.Itoa(port))
		})
	}
}

func TestSelectByPortInAnotherNetworkNamespace(t *testing.T) {
	t.Parallel()
	needRoot(t)
	pid, port := listener(t, "tcp4", syscall.CLONE_NEWNET)
	found := wantPIDs(t, Process{Port: port, PID: pid}, pid)
	own, err := proc.Host().Namespace(os.Getpid(), "net")
	if err != nil || found[0].Net.Inode == own.Inode {
		t.Error("not in another namespace", err)
	}
	targets, err := selected(Process{Port: port})
	if err != nil || !slices.ContainsFunc(targets, func(t experiment.Target) bool { return t.PIDs[0].PID == pid }) {
		t.Error(targets, err)
	}
}

// TestSelectByPortOfAClient checks that who is connected to a port, and has
// it not itself, is not found.
func TestSelectByPortOfAClient(t *testing.T) {
	t.Parallel()
	pid, port := listener(t, "tcp4", 0)
	conn, err := net.Dial("tcp4", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantPIDs(t, Process{Port: port}, pid)
	wantNone(t, Process{Port: conn.LocalAddr().(*net.TCPAddr).Port})
}

func TestSocketAt(t *testing.T) {
	t.Parallel()
	const line = "   0: 0100007F:1F90 00000000:01BB 0A 00000000:00000000 00:00000000 00000000     0        0 812 1 0000000000000000 100 0 0 10 0\n"
	tests := []struct{ name, line, port, state, want string }{
		{"listens", line, "1F90", "0A", "812"},
		{"another state", line, "1F90", "01", ""},
		{"the other side's port", line, "01BB", "0A", ""},
		{"end of another port", line, "F90", "0A", ""},
		{"header", "  sl  local_address rem_address   st tx_queue rx_queue\n", "1F90", "0A", ""},
		{"cut short", "   0: 0100007F:1F90 ", "1F90", "0A", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := socketAt([]byte(test.line), test.port, test.state); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestProtected(t *testing.T) {
	t.Parallel()
	name := "dockerd"
	pid := run(t, exec.Command(program(t, name), "3"+strconv.Itoa(os.Getpid())))
	wantNone(t, Process{Command: "/dockerd 3" + strconv.Itoa(os.Getpid()) + "$"},
		"left out, because it must not be touched", fmt.Sprintf("pid %d is part of a container runtime (dockerd)", pid))
	p, err := proc.Host().Protected()
	if err != nil {
		t.Fatal(err)
	}
	for what, pid := range map[string]int{"daemon": pid, "init": 1, "self": os.Getpid(), "parent": os.Getppid(), "kernel thread": 2} {
		if s, err := proc.Host().Stat(pid); what == "kernel thread" && (err != nil || !s.Kernel()) {
			continue
		}
		targets, err := selected(Process{PID: pid})
		if err != nil || len(targets) != 1 {
			t.Errorf("%s: %v, %v", what, targets, err)
			continue
		}
		if err := p.Check(targets[0]); !errors.Is(err, experiment.ErrProtected) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestProtectedByName(t *testing.T) {
	t.Parallel()
	comm, err := proc.Host().Stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	wantNone(t, Process{Name: comm.Comm, Command: regexpOf(t)}, "must not be touched")
}

// regexpOf matches this process's own command line.
func regexpOf(t *testing.T) string {
	t.Helper()
	args, err := proc.Host().Cmdline(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return "^" + strings.NewReplacer(".", `\.`, "+", `\+`, "$", `\$`, "^", `\^`, "(", `\(`, ")", `\)`, "|", `\|`, "*", `\*`, "[", `\[`, "?", `\?`).Replace(strings.Join(args, " ")) + "$"
}

func TestSelectCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []*Process{{Name: "x", fs: proc.Host()}, {Unit: "x", fs: proc.Host()}} {
		if _, err := p.Select(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// BenchmarkSelect looks through 500 processes besides those of the host.
func BenchmarkSelect(b *testing.B) {
	path := program(b, unique("be"))
	for range 500 {
		cmd := exec.Command(path, "300")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	pid := run(b, exec.Command(program(b, unique("on")), "300"))
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for _, bench := range []struct {
		name string
		give Process
		none bool
	}{
		{name: "pid", give: Process{PID: pid}},
		{name: "one by name", give: Process{Name: unique("on")}},
		{name: "all 500 by name", give: Process{Name: unique("be")}},
		{name: "one by command", give: Process{Command: unique("on")}},
		{name: "none by port", give: Process{Port: port}, none: true},
		{name: "none by unit", give: Process{Unit: "none"}, none: true},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := selected(bench.give); (err == nil) == bench.none {
					b.Fatal(err)
				}
			}
		})
	}
}
