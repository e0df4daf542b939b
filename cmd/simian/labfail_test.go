package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// TestImageInterrupted ends a run while its image is on its way.
func TestImageInterrupted(t *testing.T) {
	l := newLab(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes what comes, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	asked := make(chan struct{})
	go func() {
		c, err := silent.Accept()
		if err == nil {
			defer c.Close()
			close(asked)
			<-t.Context().Done()
		}
	}()
	file := l.compose("  web:\n    image: " + silent.Addr().String() + "/shop:1\n")
	c := &process{lab: l, cmd: l.command("run", l.experiment("{compose: "+file+"}", killWeb)), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.cmd.Wait(); close(c.done) }()
	<-asked
	_ = c.cmd.Process.Signal(unix.SIGINT)
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		_ = c.cmd.Process.Kill()
		t.Fatal("it goes on")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
		t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
	}
	l.noLab()
}

// TestBadLabs are what is wrong with a file: exit 2, with its place.
func TestBadLabs(t *testing.T) {
	l := newLab(t)
	good := l.compose(webService)
	bad := l.compose("  web:" + container + "command: [sleep\n")
	key := l.compose("  web:" + container + "comand: [sleep]\n")
	cycle := l.compose("  a:"+container+"depends_on: [b]\n", "  b:"+container+"depends_on: [a]\n")
	noSuch := filepath.Join(t.TempDir(), "compose.yaml")
	killWep := strings.Replace(killWeb, "web", "wep", 1)
	for name, c := range map[string]struct {
		compose, method string
		want            []string
	}{
		"no file":          {noSuch, killWeb, []string{noSuch, "no such file"}},
		"bad YAML":         {bad, killWeb, []string{bad + ":"}},
		"an unknown key":   {key, killWeb, []string{key + ":6: ", "comand"}},
		"a cycle":          {cycle, killWeb, []string{cycle + ":", "depend"}},
		"an unknown name":  {good, killWep, []string{"experiment.yaml:6: spec.method[0].target", `did you mean "web"?`}},
		"an unknown field": {good, strings.Replace(killWeb, "service:", "servise:", 1), []string{"experiment.yaml:6: spec.method[0].target: native: unknown field \"servise\""}},
	} {
		t.Run(name, func(t *testing.T) {
			o := l.expect(2, "run", l.experiment("{compose: "+c.compose+"}", c.method))
			for _, want := range c.want {
				if !strings.Contains(o.stderr, want) {
					t.Errorf("no %q in %s", want, o.stderr)
				}
			}
			if c.method == killWeb {
				o = l.expect(2, "lab", "up", c.compose)
				for _, want := range c.want {
					if !strings.Contains(o.stderr, want) {
						t.Errorf("lab up: no %q in %s", want, o.stderr)
					}
				}
			}
			l.noLab()
		})
	}
}

// TestLabWithoutRoot is one clear error.
func TestLabWithoutRoot(t *testing.T) {
	l := newLab(t)
	file := l.compose(webService)
	dir, err := os.MkdirTemp("", "simian-nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "simian") // the test's own binary is where nobody may look
	if err := copyFile(exe, "/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/root", 0o755); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	l.dir, l.user = filepath.Join(dir, "state"), &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, args := range [][]string{{"lab", "up", file}, {"run", l.theirs(dir, file)}} {
		c := l.command(args...)
		c.Path, c.Dir = exe, dir
		out, _ := c.CombinedOutput()
		if code := c.ProcessState.ExitCode(); code != 6 || !strings.Contains(string(out), "root") {
			t.Errorf("simian %s: exit %d\n%s", strings.Join(args, " "), code, out)
		}
	}
}

func (l *lab) theirs(dir, compose string) string {
	l.t.Helper()
	data, err := os.ReadFile(l.experiment("{compose: "+compose+"}", killWeb))
	if err == nil {
		err = os.WriteFile(dir+"/experiment.yaml", data, 0o644)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return dir + "/experiment.yaml"
}

func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// TestPlanOfALab shows the names of what is not there yet, as root or not.
func TestPlanOfALab(t *testing.T) {
	l := newLab(t)
	o := l.expect(0, "plan", "-o", "json", l.experiment("{compose: "+l.compose(webService, clientService)+"}", killWeb))
	if !json.Valid([]byte(o.stdout)) || !strings.Contains(o.stdout, "web-1") {
		t.Errorf("%s", o.stdout)
	}
	l.noLab()
}

// TestDiskFillsUnderALab fills the disk, and has a container restarted: the
// start can't be written down, so the lab is taken down, and nothing of it is
// left but the journal, for the next sweep.
func TestDiskFillsUnderALab(t *testing.T) {
	needRoot(t)
	l := newLab(t)
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, l.dir, "tmpfs", "size=4m,mode=700")
	s := l.shop()
	filler := filepath.Join(l.dir, "filler")
	_ = os.WriteFile(filler, make([]byte, 8<<20), 0o600)
	await(t, "the supervisor's end", func() bool { // there may be room for a line or two
		for _, pid := range membersOf(s.Boxes[1]) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return !proc.Host().Alive(s.Process)
	})
	dead(t, s)
	l.waitForGuardians()
	_ = os.Remove(filler)
	l.expect(0, "rollback", "--all")
	l.noLab()
}

// TestImageUnreachable is one error with its place, and nothing was touched.
func TestImageUnreachable(t *testing.T) {
	l := newLab(t)
	file := l.compose("  web:\n    image: 127.0.0.1:1/shop:1\n")
	for _, args := range [][]string{{"lab", "up", file}, {"run", l.experiment("{compose: "+file+"}", killWeb)}} {
		o := l.simian(args...)
		if o.code == 0 || !strings.Contains(o.stderr, "compose.yaml:4: services.web.image: ") || !strings.Contains(o.stderr, "connection refused") {
			t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
		}
	}
	l.noLab()
}
