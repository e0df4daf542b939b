package box

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// noGetsid is a filter that answers getsid(2) with EXDEV.
func noGetsid() []unix.SockFilter {
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: unix.SYS_GETSID},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EXDEV)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                      // SECCOMP_RET_ALLOW
	}
}

func TestSeccomp(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, noNewPrivs := range map[string]bool{"no_new_privs": true, "with new privileges": false} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t)
			s.Seccomp, s.NoNewPrivs, s.Cgroup = noGetsid(), noNewPrivs, newCgroup(t, Limits{})
			s.User = "1000:1000"
			r := see(t, l, s)
			if r.Status["Seccomp"] != "2" || r.Session != -1 || r.Status["NoNewPrivs"] != map[bool]string{true: "1", false: "0"}[noNewPrivs] {
				t.Errorf("%+v", r)
			}
			s.Args = []string{"/inside", "sleep"}
			p, _ := start(t, l, s)
			out, _ := execute(t, l, p, &ExecSpec{Args: []string{"/inside", "see"}, Seccomp: s.Seccomp, NoNewPrivs: noNewPrivs}, nil)
			var x report
			if err := json.Unmarshal([]byte(out), &x); err != nil || x.Status["Seccomp"] != "2" || x.Session != -1 || strings.Trim(x.Status["CapBnd"], "0") != "" {
				t.Errorf("%v %s", err, out)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	p, _ := start(t, l, newSpec(t, "sleep"))
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("this host has no pseudo-terminals: ", err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	for _, tty := range []bool{true, false} {
		out, exit := execute(t, l, p, &ExecSpec{Args: []string{"/inside", "see"}, TTY: tty}, slave)
		var r report
		if err := json.Unmarshal([]byte(out), &r); err != nil || !exit.Success() || r.TTY != tty {
			t.Errorf("controlling terminal: %t, want %t (%v %s)", r.TTY, tty, err, exit)
		}
	}
}

// newNet returns a network namespace that nothing is in.
func newNet(t *testing.T) *os.File {
	t.Helper()
	done := make(chan *os.File)
	go makeNet(done)
	f := <-done
	if f == nil {
		t.Skip("no network namespace can be made")
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// makeNet makes one on a thread that ends with it, which the main one can't.
func makeNet(done chan<- *os.File) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		again := make(chan *os.File)
		go makeNet(again)
		done <- <-again
		runtime.UnlockOSThread()
		return
	}
	var f *os.File
	if unix.Unshare(unix.CLONE_NEWNET) == nil {
		f, _ = os.Open("/proc/thread-self/ns/net")
	}
	done <- f
}

func TestNet(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, init := range map[string]bool{"PID 1": false, "init": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t, "sleep")
			s.Net, s.Init = newNet(t), init
			s.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
			p, _ := start(t, l, s)
			var st unix.Stat_t
			if err := unix.Fstat(int(s.Net.Fd()), &st); err != nil {
				t.Fatal(err)
			}
			for _, pid := range []int{p.ID().PID, p.Workload().PID} {
				if got, err := l.fs.NetNamespace(pid); got != st.Ino || err != nil {
					t.Errorf("pid %d is in net:[%d], %v, want %d", pid, got, err, st.Ino)
				}
			}
			if out, _ := execute(t, l, p, &ExecSpec{Args: []string{"/inside", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}}, nil); out != "0\n" {
				t.Error(out)
			}
		})
	}
}

// A container can never write to the program that launched it.
func TestOwnBinaryIsReadOnly(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "sleep")
	s.Init = true
	p, _ := start(t, l, s)
	var fs unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/exe", p.ID().PID), &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("PID 1's program is on a mount that can be written: flags %x, %v", fs.Flags, err)
	}
	out, _ := execute(t, l, p, &ExecSpec{Args: []string{"/inside", "write", "/proc/1/exe"}, Caps: DefaultCaps()}, nil)
	if !strings.Contains(out, "permission denied") && !strings.Contains(out, "read-only") {
		t.Error(out)
	}
}

// What a first stage does is data: it can be read without root.
func TestProgram(t *testing.T) {
	t.Parallel()
	c := &container{
		Spec: &Spec{
			Hostname: "web-1", Args: []string{"web"}, Lower: []string{"/layers/b", "/layers/a"}, Upper: "/lab/upper", Work: "/lab/work",
			Caps: DefaultCaps(), NoNewPrivs: true, Init: true, Seccomp: noGetsid(), UserNS: &IDMap{100000, 65536},
			Cgroup:  &Cgroup{name: "simian-abc234/web-1", v1: []string{"/sys/fs/cgroup/memory"}, v2: "/sys/fs/cgroup/unified"},
			Sysctls: map[string]string{"net.core.somaxconn": "9"}, Net: os.Stdin, ReadOnly: true,
		},
		host: host{lastCap: 40, maxFiles: 4096},
		mounts: []boundMount{
			{Mount: Mount{Type: "bind", Source: "/lab/hosts", Target: "/etc/hosts"}, file: true},
			{Mount: Mount{Type: "tmpfs", Target: "/tmp"}},
		},
	}
	a := c.assemble()
	if a.err != nil {
		t.Fatal(a.err)
	}
	var list []string
	for i, words := range a.words {
		if i == 0 || a.words[i-1] != words {
			list = append(list, words)
		}
		if next := i + 1 + int(max(a.Ops[i].OnOK, a.Ops[i].OnErr)); next > len(a.Ops) {
			t.Errorf("%s leads to op %d of %d", words, next, len(a.Ops))
		}
	}
	if last := a.Ops[len(a.Ops)-1]; last.Call != stage.CallReap {
		t.Errorf("it ends with call %d", last.Call)
	}
	golden(t, "program", list)
}

// A program that is not one is refused, and the fork server lives on.
func TestStartIsRefused(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	a := newAssembler(1)
	a.Flags = unix.CLONE_NEWNS | unix.CLONE_FS // contradict each other: EINVAL
	if _, err := l.fork(&a.Program, []int{0}); err == nil {
		t.Error("it was forked")
	}
	s := newSpec(t)
	if p, err := l.Start(context.Background(), s, Stdio{}); err != nil || !p.Wait().Success() {
		t.Error(err)
	}
}
