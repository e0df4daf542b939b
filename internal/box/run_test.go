package box

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

func TestExit(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, c := range map[string]struct {
		args []string
		want Exit
		text string
	}{
		"success":   {[]string{"exit", "0"}, Exit{}, "exit 0"},
		"failure":   {[]string{"exit", "3"}, Exit{Code: 3}, "exit 3"},
		"code 137":  {[]string{"exit", "137"}, Exit{Code: 137}, "exit 137"},
		"init":      {[]string{"init", "exit", "3"}, Exit{Code: 3}, "exit 3"},
		"init 137":  {[]string{"init", "exit", "137"}, Exit{Code: 137}, "exit 137"},
		"init KILL": {[]string{"init", "signal", "9"}, Exit{Code: 137, Signal: unix.SIGKILL}, "killed by SIGKILL"},
		"init TERM": {[]string{"init", "signal", "15"}, Exit{Code: 143, Signal: unix.SIGTERM}, "killed by SIGTERM"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t)
			if c.args[0] == "init" {
				s.Init, c.args = true, c.args[1:]
			}
			s.Cgroup = newCgroup(t, Limits{})
			s.Args = append(s.Args, c.args...)
			_, exit := run(t, l, s)
			if exit != c.want || exit.String() != c.text {
				t.Errorf("%+v %s, want %+v %s", exit, exit, c.want, c.text)
			}
		})
	}
}

// start launches a container whose command says "up", and waits for that.
func start(t testing.TB, l *Launcher, s *Spec) (*Process, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	p, err := l.Start(context.Background(), s, Stdio{Out: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill()
		p.Wait()
	})
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "up\n" {
		t.Fatal(line, err)
	}
	return p, out
}

func TestSignal(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, init := range map[string]bool{"PID 1": false, "init": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t, "catch")
			s.Init, s.Cgroup = init, newCgroup(t, Limits{})
			p, out := start(t, l, s)
			if (p.ID() == p.Workload()) == init {
				t.Errorf("PID 1 is %s, the command %s", p.ID(), p.Workload())
			}
			if err := unix.Kill(p.ID().PID, unix.SIGUSR1); err != nil { // what reaches PID 1 reaches the command
				t.Fatal(err)
			}
			line, _ := out.ReadString('\n')
			if exit := p.Wait(); line != "user defined signal 1\n" || exit.Code != 3 {
				t.Errorf("%q, %s", line, exit)
			}
			if err := p.Signal(unix.SIGTERM); !errors.Is(err, experiment.ErrGone) {
				t.Errorf("a signal to what has ended: %v", err)
			}
		})
	}
}

func TestOOM(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, init := range map[string]bool{"PID 1": false, "init": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t, "eat")
			s.Init, s.Cgroup = init, newCgroup(t, Limits{MemoryBytes: 32 << 20})
			_, exit := run(t, l, s)
			want := Exit{Code: 137, Signal: unix.SIGKILL, OOMKilled: true}
			if exit != want || exit.String() != "out of memory" {
				t.Errorf("%+v, want %+v", exit, want)
			}
		})
	}
}

func TestKilledIsNoOOM(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "sleep")
	s.Cgroup = newCgroup(t, Limits{MemoryBytes: 32 << 20})
	p, _ := start(t, l, s)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit, want := p.Wait(), (Exit{Code: 137, Signal: unix.SIGKILL}); exit != want {
		t.Errorf("%+v, want %+v", exit, want)
	}
}

func TestReaper(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "orphan")
	s.Init, s.Cgroup = true, newCgroup(t, Limits{})
	out, exit := run(t, l, s)
	if diff := cmp.Diff("true <nil>\n", out); diff != "" || !exit.Success() {
		t.Errorf("%s %s", exit, diff)
	}
}

func TestReaperIsBesideTheLimit(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "sleep")
	s.Init, s.Cgroup = true, newCgroup(t, Limits{Pids: 100})
	p, _ := start(t, l, s)
	for id, want := range map[experiment.ProcessID]string{p.ID(): "/c-1-init", p.Workload(): "/c-1"} {
		paths, err := proc.Host().CgroupPaths(id.PID)
		if err != nil {
			t.Fatal(err)
		}
		for controller, path := range paths {
			if !strings.HasSuffix(path, want) {
				t.Errorf("%s: %s is in %s, want …%s", id, controller, path, want)
			}
		}
	}
}

func TestExecErrors(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t)
	s.Lower = []string{rootfs(t, map[string]string{
		"bin/plain": "x", "bin/script": "#!/nowhere/sh -e\n", "bin/words": "echo hello\n", "data/file": "x",
	})}
	for _, name := range []string{"script", "words"} {
		if err := os.Chmod(filepath.Join(s.Lower[0], "bin", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		args []string
		code int
		text string
	}{
		"not in PATH":     {[]string{"x"}, 127, `exec: "x": not found in $PATH`},
		"not there":       {[]string{"/x"}, 127, `exec: "/x": no such file or directory`},
		"below a file":    {[]string{"/data/file/x"}, 127, `exec: "/data/file/x": not a directory`},
		"a folder":        {[]string{"/data"}, 126, `exec: "/data": is a directory`},
		"not executable":  {[]string{"/bin/plain"}, 126, `exec: "/bin/plain": permission denied`},
		"in PATH, not so": {[]string{"plain"}, 126, `exec: "plain": permission denied`},
		"no interpreter":  {[]string{"/bin/script"}, 126, `exec: "/bin/script": /nowhere/sh: bad interpreter: no such file or directory`},
		"no program":      {[]string{"words"}, 126, `exec: "words": exec format error (is it of another architecture, or a script without #! line?)`},
		"relative":        {[]string{"data/file"}, 126, `exec: "data/file": permission denied`},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.Args = c.args
			_, err := l.Start(context.Background(), &s, Stdio{})
			var e *ExecError
			if !errors.As(err, &e) || e.Code != c.code || e.Text != c.text {
				t.Errorf("%v, want %d %s", err, c.code, c.text)
			}
		})
	}
}

func TestBadSpec(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no command":    {func(s *Spec) { s.Args = nil }, "launch web-1: no command: the image has none, and none is given"},
		"unknown user":  {func(s *Spec) { s.User = "bob" }, `launch web-1: user "bob" is not in the container's /etc/passwd`},
		"unknown group": {func(s *Spec) { s.User = "0:staff" }, `launch web-1: group "staff" is not in the container's /etc/group`},
		"no source": {
			func(s *Spec) { s.Mounts = []Mount{{Type: "bind", Source: "/no/such", Target: "/data"}} },
			"launch web-1: bind /no/such to /data: the source does not exist",
		},
		"into proc": {
			func(s *Spec) { s.Mounts = []Mount{{Type: "bind", Source: "/etc", Target: "/proc/../proc/sys"}} },
			"launch web-1: mount /proc/../proc/sys: nothing can be mounted below /proc",
		},
		"host's sysctl":  {func(s *Spec) { s.Sysctls = map[string]string{"kernel.panic": "1"} }, "launch web-1: sysctl kernel.panic: it is not of a namespace, and would change the host"},
		"unknown sysctl": {func(s *Spec) { s.Sysctls = map[string]string{"net.no_such": "1"} }, "launch web-1: set sysctl net.no_such: no such file or directory"},
		"no layer":       {func(s *Spec) { s.Lower = nil }, "launch web-1: no root: Lower is empty"},
		"zero byte":      {func(s *Spec) { s.Env = []string{"A=\x00"} }, `launch web-1: set environment: "A=\x00" has a zero byte in it`},
		"unknown limit":  {func(s *Spec) { s.Ulimits = []Ulimit{{"files", 1, 1}} }, "launch web-1: set ulimit files=1:1: there is no such limit"},
		"unknown cap":    {func(s *Spec) { s.Caps = []string{"FLY"} }, `launch web-1: there is no capability "FLY"`},
		"proc is a link": {func(s *Spec) { symlink(t, s, "proc", "/etc") }, "launch web-1: mount /proc: too many levels of symbolic links"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t)
			s.Cgroup = newCgroup(t, Limits{})
			c.change(s)
			_, err := l.Start(context.Background(), s, Stdio{})
			if err == nil || err.Error() != c.want {
				t.Errorf("%v\nwant %s", err, c.want)
			}
		})
	}
}

func symlink(t *testing.T, s *Spec, name, to string) {
	t.Helper()
	if err := os.Symlink(to, filepath.Join(s.Lower[0], name)); err != nil {
		t.Fatal(err)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	s := newSpec(t, "sleep")
	s.Cgroup = newCgroup(t, Limits{})
	p, err := l.Start(ctx, s, Stdio{})
	if err == nil { // it was quicker
		_ = p.Kill()
		p.Wait()
		return
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
