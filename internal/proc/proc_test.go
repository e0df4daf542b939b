package proc

import (
	"bytes"
	"errors"
	"io"
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
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// start runs a program until the test ends.
func start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// sleeper runs a sleep until the test ends and waits until it does sleep.
func sleeper(t *testing.T) int {
	t.Helper()
	pid := start(t, "sleep", "300").Process.Pid
	started(t, pid)
	return pid
}

// copied starts a copy of sleep under another name.
func copied(t *testing.T, name string) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	copyFile(t, path, "/bin/sleep")
	pid := start(t, path, "300").Process.Pid
	started(t, pid)
	return pid
}

// started waits until a child runs its program. Its arguments are the last
// that is there.
func started(t *testing.T, pid int) {
	t.Helper()
	self, _ := Host().Exe(os.Getpid())
	await(t, func() bool {
		exe, err := Host().Exe(pid)
		args, _ := Host().Cmdline(pid)
		return err == nil && exe != self && len(args) > 0
	})
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock() // a child forked meanwhile would hold it open for writing: "text file busy"
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for range 20_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("waited 20 s in vain")
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes cgroups and namespaces")
	}
}

func identify(t *testing.T, pid int) experiment.ProcessID {
	t.Helper()
	id, err := Host().Identify(pid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestParseStat(t *testing.T) {
	const rest = " 1 2 3 4 5 4194560 7 8 9 10 150 50 13 14 20 -5 17 18 99123 20 21\n"
	tests := []struct {
		name, line string
		comm       string
		state      byte
		wantErr    bool
	}{
		{name: "plain", line: "812 (worker) S" + rest, comm: "worker", state: 'S'},
		{name: "spaces and parentheses in the name", line: "812 (a) R (b c) Z" + rest, comm: "a) R (b c", state: 'Z'},
		{name: "empty name", line: "812 () R" + rest, comm: "", state: 'R'},
		{name: "newline in the name", line: "812 (a\nb) R" + rest, comm: "a\nb", state: 'R'},
		{name: "empty", line: "", wantErr: true},
		{name: "no name", line: "812 worker S" + rest, wantErr: true},
		{name: "cut short", line: "812 (worker) S 1 2", wantErr: true},
		{name: "no number", line: "812 (worker) S x" + rest, wantErr: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseStat([]byte(test.line))
			if test.wantErr {
				if err == nil {
					t.Fatalf("no error, but %+v", got)
				}
				return
			}
			want := Stat{
				PID: 812, PPID: 1, PGrp: 2, Session: 3, Comm: test.comm, State: test.state,
				Flags: 4194560, CPU: 2 * time.Second, Nice: -5, Start: 99123,
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
}

func TestIdentityOfAProcess(t *testing.T) {
	t.Parallel()
	fs := Host()
	pid := sleeper(t)
	id := identify(t, pid)
	if !fs.Alive(id) {
		t.Error("a sleeper is not alive")
	}
	other := id
	other.Start--
	if fs.Alive(other) {
		t.Error("a process that had this pid earlier is taken for the one that has it now")
	}
	if _, err := OpenPidfd(other); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("pidfd of a process that had this pid earlier: %v", err)
	}
	fd, err := OpenPidfd(id)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the pidfd would be inherited")
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		t.Error(err)
	}
	await(t, func() bool { return !fs.Alive(id) }) // a zombie: nobody has waited for it
	if s, err := fs.Stat(pid); err != nil || !s.Exited() {
		t.Errorf("not a zombie: %+v, %v", s, err)
	}
	if _, err := OpenPidfd(id); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("pidfd of a zombie: %v", err)
	}
	if _, err := fs.Target(pid); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("target of a zombie: %v", err)
	}
}

func TestProcessThatIsGone(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	pid, fs := cmd.Process.Pid, Host()
	reads := map[string]func() error{
		"stat":      func() error { _, err := fs.Stat(pid); return err },
		"identify":  func() error { _, err := fs.Identify(pid); return err },
		"threads":   func() error { _, err := fs.Threads(pid); return err },
		"comm":      func() error { _, err := fs.Comm(pid); return err },
		"cmdline":   func() error { _, err := fs.Cmdline(pid); return err },
		"exe":       func() error { _, err := fs.Exe(pid); return err },
		"uid":       func() error { _, err := fs.UID(pid); return err },
		"signals":   func() error { _, err := fs.Signals(pid); return err },
		"cgroup":    func() error { _, err := fs.Cgroup(pid); return err },
		"namespace": func() error { _, err := fs.Namespace(pid, "net"); return err },
		"target":    func() error { _, err := fs.Target(pid); return err },
		"pidfd":     func() error { _, err := OpenPidfd(experiment.ProcessID{PID: pid, Start: 1}); return err },
	}
	for name, read := range reads {
		if err := read(); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNameWithParentheses(t *testing.T) {
	t.Parallel()
	pid := copied(t, "x) R (y")
	if comm, err := Host().Comm(pid); err != nil || comm != "x) R (y" {
		t.Error(comm, err)
	}
	s, err := Host().Stat(pid)
	if err != nil || s.Comm != "x) R (y" || s.PPID != os.Getpid() || s.State == 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestReadsOfAProcess(t *testing.T) {
	t.Parallel()
	fs := Host()
	pid := sleeper(t)
	if args, err := fs.Cmdline(pid); err != nil || !slices.Equal(args, []string{"sleep", "300"}) {
		t.Error(args, err)
	}
	if exe, err := fs.Exe(pid); err != nil || filepath.Base(exe) != "sleep" && filepath.Base(exe) != "coreutils" {
		t.Error(exe, err)
	}
	if comm, err := fs.Comm(pid); err != nil || comm != "sleep" {
		t.Error(comm, err)
	}
	if uid, err := fs.UID(pid); err != nil || uid != os.Geteuid() {
		t.Error(uid, err)
	}
	if pids, err := fs.PIDs(); err != nil || !slices.Contains(pids, pid) || !slices.IsSorted(pids) {
		t.Error(pids, err)
	}
	if err := fs.OwnPIDNamespace(); err != nil {
		t.Error(err)
	}
	if s, err := fs.Stat(2); err != nil || !s.Kernel() {
		t.Skipf("pid 2 is no kernel thread: a PID namespace of its own (%v)", err)
	}
	if args, err := fs.Cmdline(2); err != nil || args != nil {
		t.Error("command line of a kernel thread:", args, err)
	}
	if _, err := fs.Exe(2); err == nil || errors.Is(err, experiment.ErrGone) {
		t.Error("executable of a kernel thread:", err)
	}
}

func TestExeOfAProgramThatWasReplaced(t *testing.T) {
	t.Parallel()
	pid := copied(t, "replaced")
	before, err := Host().Exe(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(before); err != nil {
		t.Fatal(err)
	}
	if after, err := Host().Exe(pid); err != nil || after != before {
		t.Error(after, err)
	}
}

func TestStoppedThreads(t *testing.T) {
	t.Parallel()
	fs := Host()
	pid := sleeper(t)
	id := identify(t, pid)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool {
		threads, err := fs.Threads(pid)
		return err == nil && len(threads) == 1 && threads[0].State == 'T'
	})
	if !fs.Alive(id) {
		t.Error("a stopped process is not alive")
	}
}

func TestSignalMasks(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", `trap "" USR1; trap : USR2; echo; while :; do read x; done`)
	stdout, _ := cmd.StdoutPipe()
	stdin, _ := cmd.StdinPipe()
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if _, err := io.ReadFull(stdout, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	got, err := Host().Signals(cmd.Process.Pid)
	bit := func(s syscall.Signal) uint64 { return 1 << (s - 1) }
	if err != nil || got.Ignored&bit(syscall.SIGUSR1) == 0 || got.Caught&bit(syscall.SIGUSR2) == 0 || got.Ignored&bit(syscall.SIGUSR2) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	_ = cmd.Process.Signal(syscall.SIGSTOP)
	await(t, func() bool {
		s, err := Host().Stat(cmd.Process.Pid)
		return err == nil && s.State == 'T'
	})
	_ = cmd.Process.Signal(syscall.SIGUSR2) // stays pending while it is stopped
	await(t, func() bool {
		s, err := Host().Signals(cmd.Process.Pid)
		return err == nil && s.Pending&bit(syscall.SIGUSR2) != 0
	})
}

// TestMainThreadExited checks that a process whose main thread has gone lives
// on as long as another thread does.
func TestMainThreadExited(t *testing.T) {
	t.Parallel()
	fs := Host()
	s := Stat{PID: os.Getpid(), State: 'Z'}
	if !fs.runs(s) {
		t.Error("a process with threads that run is taken for dead")
	}
}

func TestOwnPIDNamespace(t *testing.T) {
	t.Parallel()
	fake := FS{Proc: t.TempDir()}
	if err := os.Symlink("1", filepath.Join(fake.Proc, "self")); err != nil {
		t.Fatal(err)
	}
	if err := fake.OwnPIDNamespace(); err == nil || !strings.Contains(err.Error(), "another PID namespace") {
		t.Error(err)
	}
}

func TestMachineID(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef0123456789abcdef"
	tests := []struct {
		name   string
		places []string
		want   string
	}{
		{name: "first", places: []string{id + "\n", ""}, want: id},
		{name: "D-Bus's where the first is empty", places: []string{"", id}, want: id},
		{name: "not set up yet", places: []string{"uninitialized\n", id}, want: id},
		{name: "none", places: []string{"uninitialized\n", "short"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			paths := []string{filepath.Join(dir, "missing")}
			for i, content := range test.places {
				path := filepath.Join(dir, strconv.Itoa(i))
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
				paths = append(paths, path)
			}
			got, err := machineID(paths...)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Error(got, err)
			}
			if err != nil && !strings.Contains(err.Error(), "systemd-machine-id-setup") {
				t.Error("the error does not say what to do:", err)
			}
		})
	}
}

func TestBoot(t *testing.T) {
	t.Parallel()
	id, err := Host().BootID()
	if err != nil || len(id) != 36 {
		t.Error(id, err)
	}
	first := BootTime()
	time.Sleep(2 * time.Millisecond)
	if d := BootTime().Sub(first); d < 2*time.Millisecond || d > time.Minute {
		t.Error("2 ms took", d)
	}
	data, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	uptime, err := strconv.ParseFloat(string(bytes.Fields(data)[0]), 64)
	if now := float64(BootTime()) / 1e9; err != nil || now < uptime-1 || now > uptime+60 {
		t.Error("uptime", uptime, "boot time", now, err)
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	fs := Host()
	first, second := sleeper(t), sleeper(t)
	got, err := fs.Target(first, second)
	if err != nil {
		t.Fatal(err)
	}
	want := []experiment.ProcessID{identify(t, first), identify(t, second)}
	if diff := cmp.Diff(want, got.PIDs); diff != "" {
		t.Error(diff)
	}
	for kind, ns := range map[string]experiment.Namespace{"net": got.Net, "mnt": got.Mount, "pid": got.PID, "user": got.User} {
		own, err := fs.Namespace(os.Getpid(), kind)
		if err != nil || ns.Inode != own.Inode || ns.Via != want[0] {
			t.Errorf("%s: %+v, own %+v, %v", kind, ns, own, err)
		}
	}
	if own, err := os.Readlink("/proc/self/ns/net"); err != nil || own != "net:["+strconv.FormatUint(got.Net.Inode, 10)+"]" {
		t.Error("inode of the network namespace:", got.Net.Inode, own, err)
	}
	if got.Root != "/proc/"+strconv.Itoa(first)+"/root" {
		t.Error(got.Root)
	}
	if got.Cgroup.V2.Path == "" && len(got.Cgroup.V1) == 0 {
		t.Error("no cgroup")
	}
	if _, err := fs.Target(); err == nil {
		t.Error("a target of no process")
	}
}

func BenchmarkTarget(b *testing.B) {
	pid := os.Getpid()
	for b.Loop() {
		if _, err := Host().Target(pid); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStat(b *testing.B) {
	pid := os.Getpid()
	for b.Loop() {
		if _, err := Host().Stat(pid); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "wait" { // this program, started a second time
		time.Sleep(5 * time.Minute)
		return
	}
	os.Exit(m.Run())
}
