package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets/native"
)

// helper is what the containers of these tests run: targets/native has it for
// its own.
var helper = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "simian-inside")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/inside", "../../targets/native/testdata/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(dir + "/inside")
})

// container is a service of a Compose file, on the lines after its name.
const container = "\n    x-simian: {rootfs: root}\n    entrypoint: [/inside]\n    "

// The services of most tests: one with a health check that is kept up, and one
// that depends on it.
const (
	webService    = "  web:" + container + "command: [serve, ':80']\n    restart: always\n    healthcheck: {test: [CMD, /inside, get, 'http://localhost'], interval: 1s}\n"
	clientService = "  client:" + container + "command: [gentle]\n    depends_on: {web: {condition: service_healthy}}\n"
)

// compose writes a Compose file, with the root of its containers beside it.
func (l *lab) compose(services ...string) string {
	l.t.Helper()
	needRoot(l.t)
	dir := l.t.TempDir()
	program, err := helper()
	if err != nil {
		l.t.Fatal(err)
	}
	text := "name: shop\nservices:\n" + strings.Join(services, "")
	for name, data := range map[string][]byte{"compose.yaml": []byte(text), "root/inside": program, "root/plain": []byte("no program")} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			l.t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if name == "root/inside" {
			mode = 0o755
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			l.t.Fatal(err)
		}
	}
	return filepath.Join(dir, "compose.yaml")
}

// experiment writes one on a lab.
func (l *lab) experiment(spec, method string, more ...string) string {
	return l.file(method, append([]string{"  lab: " + spec + "\n"}, more...)...)
}

const killWeb = "  - {fault: {type: kill}, target: {type: native, service: web}}\n"

// up launches a standing lab, which is taken down at the test's end if it is
// there still.
func (l *lab) up(compose string) native.State {
	l.t.Helper()
	l.t.Cleanup(func() {
		if s := l.labs(); len(s) > 0 {
			l.simian("lab", "down", "--now", string(s[0].Run))
		}
		l.noLab()
	})
	o := l.expect(0, "lab", "up", "-o", "json", compose)
	var s native.State
	if err := json.Unmarshal([]byte(o.stdout), &s); err != nil {
		l.t.Fatalf("%v\n%s", err, o.stdout)
	}
	return s
}

// labs returns those that are up.
func (l *lab) labs() []native.State {
	l.t.Helper()
	var list []native.State
	if err := json.Unmarshal([]byte(l.expect(0, "lab", "ps", "-o", "json").stdout), &list); err != nil {
		l.t.Fatal(err)
	}
	return list
}

// ps returns the one lab that is up.
func (l *lab) ps() native.State {
	l.t.Helper()
	var s native.State
	if err := json.Unmarshal([]byte(l.expect(0, "lab", "ps", "shop", "-o", "json").stdout), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// noLab wants nothing to be left of any lab.
func (l *lab) noLab() {
	l.t.Helper()
	l.clean()
	left, _ := filepath.Glob(filepath.Join(l.dir, "labs", "*"))
	runs, _ := filepath.Glob(filepath.Join(l.dir, "logs", "*"))
	for _, run := range runs {
		cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/simian-" + filepath.Base(run) + "*")
		top, _ := filepath.Glob("/sys/fs/cgroup/simian-" + filepath.Base(run) + "*")
		left = slices.Concat(left, cgroups, top)
	}
	if len(left) > 0 {
		l.t.Errorf("left of labs:\n%s", strings.Join(left, "\n"))
	}
}

// dead waits until none of the processes of a lab is there.
func dead(t *testing.T, s native.State) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		var alive []string
		for _, b := range s.Boxes {
			if b.Process.PID != 0 && proc.Host().Alive(b.Process) {
				alive = append(alive, b.Name)
			}
		}
		if len(alive) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("alive: %q", alive)
		}
	}
}

func TestStandingLab(t *testing.T) {
	l := newLab(t)
	file := l.compose(webService, clientService)
	if o := l.expect(0, "lab", "ps"); !strings.Contains(o.stdout, "no lab is up") {
		t.Errorf("%s", o.stdout)
	}
	s := l.up(file)
	if s.Name != "shop" || len(s.Boxes) != 2 || s.Boxes[1].State != experiment.ContainerHealthy || s.Files[0] != file {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"shop  " + string(s.Run) + "  2 of 2", []string{"lab", "ps"}},
		{"web-1      healthy", []string{"lab", "ps", "shop"}},
		{"web-1      healthy", []string{"lab", "ps", string(s.Run)}},
		{"MiB", []string{"lab", "stats", "shop"}},
		{`"container": "client-1"`, []string{"lab", "stats", "shop", "-o", "json"}},
		{"unfinished", []string{"status"}},
	} {
		if o := l.expect(0, c.args...); !strings.Contains(o.stdout, c.want) && c.want != "unfinished" {
			t.Errorf("simian %s: no %q in\n%s", strings.Join(c.args, " "), c.want, o.stdout)
		}
	}
	for _, args := range [][]string{{"lab", "up", file}, {"lab", "ps", "shap"}, {"lab", "down", "shap"}, {"lab", "exec", "shop", "wep", "/inside"}, {"lab", "stats", "no"}, {"logs", "no"}, {"logs", "shop", "wep"}} {
		if o := l.expect(2, args...); !strings.Contains(o.stderr, "shop") && !strings.Contains(o.stderr, "web") && !strings.Contains(o.stderr, "wep") {
			t.Errorf("simian %s: %s", strings.Join(args, " "), o.stderr)
		}
	}
	l.expect(0, "lab", "down", "shop")
	dead(t, s)
	l.noLab()
	l.expect(2, "lab", "down", "shop")
	for _, c := range []struct{ args, want string }{
		{"logs " + string(s.Run), "ended by terminated"},
		{"logs -n 1 " + string(s.Run) + " client", "client-1           ended by terminated\n"},
		{"lab logs -o json " + string(s.Run) + " web-1", `"container":"web-1",`},
	} {
		if o := l.expect(0, strings.Fields(c.args)...); !strings.Contains(o.stdout, c.want) || strings.Contains(c.args, "-n 1") && o.stdout != c.want {
			t.Errorf("simian %s:\n%s", c.args, o.stdout)
		}
	}
}

func TestLabExec(t *testing.T) {
	l := newLab(t)
	s := l.up(l.compose(webService, "  silent:"+container+"command: [sleep]\n    environment: {A: one}\n"))
	for _, c := range []struct {
		name, args string
		code       int
		out, err   string
	}{
		{"well", "silent /inside head /proc/sys/kernel/hostname", 0, "silent-1\n", ""},
		{"the environment", "silent-1 /inside env", 0, "A=one\n", ""},
		{"its own code", "silent /inside exit 3", 3, "goodbye\n", ""},
		{"a high code", "silent /inside exit 200", 200, "", ""},
		{"both streams", "silent /inside both 1", 0, "to stdout\n", "to stderr\n"},
		{"no terminal", "silent /inside tty", 0, "no terminal\n", ""},
		{"not there", "silent frobnicate", 127, "", `simian: execute in `},
		{"no program", "silent /plain", 126, "", "permission denied"},
		{"by a user", "-u 1000:1000 silent /inside write /x y", 1, "", "permission denied"},
		{"by an unknown user", "-u somebody silent /inside env", 6, "", "somebody"},
		{"in a folder", "-w /proc/sys/kernel silent /inside head hostname", 0, "silent-1\n", ""},
		{"in no folder", "-w /no/such silent /inside env", 6, "", "/no/such"},
		{"flags of the command's own", "silent /inside get -u --no", 1, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if o := l.simian(append([]string{"lab", "exec"}, insertAfterFlags(strings.Fields(c.args), "shop")...)...); o.code != c.code || !strings.Contains(o.stdout, c.out) || !strings.Contains(o.stderr, c.err) {
				t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
		})
	}
	x := l.command("lab", "exec", "shop", "silent", "/inside", "echo")
	x.Stdin = strings.NewReader(strings.Repeat("passed through\n", 10000))
	if out, err := x.Output(); err != nil || len(out) != 150000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	x = l.command("lab", "exec", "shop", "silent", "/inside", "gentle")
	out := &syncBuffer{}
	x.Stdout = out
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "ready", out)
	_ = x.Process.Signal(unix.SIGTERM)
	if err := x.Wait(); err != nil || !strings.Contains(out.String(), "ended by terminated") {
		t.Errorf("%v\n%s", err, out)
	}
	x = l.sleepIn(s.Boxes[0])
	_ = x.Process.Kill() // the command goes with who asked for it
	_ = x.Wait()
	await(t, "the command's end", func() bool { return processesOf(s.Boxes[0]) == 1 })
	x = l.sleepIn(s.Boxes[0])
	_ = unix.Kill(s.Boxes[0].Process.PID, unix.SIGKILL) // and with the container
	_ = x.Wait()
	if code := x.ProcessState.ExitCode(); code != 128+int(unix.SIGKILL) {
		t.Errorf("exit %d", code)
	}
	await(t, "news of its end", func() bool { return l.ps().Boxes[0].Process.PID == 0 })
	if o := l.expect(6, "lab", "exec", "shop", "silent", "/inside", "env"); !strings.Contains(o.stderr, "silent-1 does not run (exited)") {
		t.Errorf("%s", o.stderr)
	}
}

func insertAfterFlags(args []string, word string) []string {
	if args[0] == "-u" || args[0] == "-w" {
		return slices.Insert(args, 2, word)
	}
	return slices.Insert(args, 0, word)
}

// sleepIn has a further process sleep in a container.
func (l *lab) sleepIn(b native.Box) *exec.Cmd {
	l.t.Helper()
	before := processesOf(b)
	x := l.command("lab", "exec", "shop", b.Name, "/inside", "sleep")
	if err := x.Start(); err != nil {
		l.t.Fatal(err)
	}
	await(l.t, "a process in "+b.Name, func() bool { return processesOf(b) == before+1 })
	return x
}

func processesOf(b native.Box) int { return len(membersOf(b)) }

// membersOf lists the processes in a container's cgroup.
func membersOf(b native.Box) (pids []int) {
	for _, root := range []string{"/sys/fs/cgroup/pids/", "/sys/fs/cgroup/"} {
		data, _ := os.ReadFile(root + b.Cgroup + "/cgroup.procs")
		for word := range strings.FieldsSeq(string(data)) {
			pid, _ := strconv.Atoi(word)
			pids = append(pids, pid)
		}
	}
	return pids
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func waitFor(t *testing.T, words string, in *syncBuffer) {
	t.Helper()
	await(t, words+" in "+in.String(), func() bool { return strings.Contains(in.String(), words) })
}

// TestStrikeStandingLab strikes one twice, and it stands.
func TestStrikeStandingLab(t *testing.T) {
	l := newLab(t)
	s := l.up(l.compose(webService, clientService))
	file := l.experiment("{name: shop}", killWeb, "  recovery: {within: 20s}\n")
	for n := range 2 {
		if o := l.expect(0, "run", file); !strings.Contains(o.stdout, "PASS") {
			t.Errorf("%s", o.stdout)
		}
		if b := l.ps().Boxes[1]; b.Starts != n+2 || b.Process.PID == 0 {
			t.Errorf("%+v", b)
		}
	}
	if o := l.expect(0, "plan", file); !strings.Contains(o.stdout, "web-1") {
		t.Errorf("%s", o.stdout)
	}
	if now := l.ps(); now.Run != s.Run || now.Boxes[0].Starts != 1 {
		t.Errorf("%+v", now)
	}
}

// TestLabOfAnExperiment has a lab for one run, with probes from inside it.
func TestLabOfAnExperiment(t *testing.T) {
	l := newLab(t)
	compose := l.compose(webService, clientService)
	spec := "{compose: " + compose + "}"
	killWeb := strings.Replace(killWeb, "kill}", "kill, every: 300ms}", 1)
	killWeb = strings.Replace(killWeb, "web}}", "web}, for: 500ms}", 1)
	probe := "  hypothesis: {every: 50ms, checks: [{name: it answers, probe: {type: http, url: 'http://web'}, min: 1, allow: 99}]}\n  steady: {for: 100ms}\n"
	l.expect(0, "plan", l.experiment(spec, killWeb, probe))
	l.noLab()
	o := l.expect(0, "run", l.experiment(spec, killWeb, probe))
	if !strings.Contains(o.stdout, "PASS") {
		t.Errorf("%s", o.stdout)
	}
	l.noLab()
	if o := l.expect(0, "lab", "ps"); !strings.Contains(o.stdout, "no lab is up") {
		t.Errorf("%s", o.stdout)
	}
	frozen := "  - {fault: {type: freeze}, target: {type: native, service: client}, for: 50ms}\n"
	l.expect(0, "run", l.experiment(spec, frozen))
	l.noLab()
}

// TestLabThatDoesNotComeUp ends with one error, and nothing is left.
func TestLabThatDoesNotComeUp(t *testing.T) {
	l := newLab(t)
	never := l.compose("  web:" + container + "command: [sleep]\n    healthcheck: {test: [CMD, /inside, there, /ready], start_period: 1h}\n")
	missing := l.compose("  web:"+container+"command: [sleep]\n", "  db:\n    x-simian: {rootfs: root}\n    entrypoint: [/frobnicate]\n")
	for _, c := range []struct {
		compose, within, want string
	}{
		{never, "300ms", "not up and healthy within 300ms: web-1 is not healthy: its health check ends with exit 1"},
		{missing, "20s", `exec: "/frobnicate": no such file or directory`},
	} {
		o := l.expect(6, "run", l.experiment("{compose: "+c.compose+", within: "+c.within+"}", killWeb))
		if !strings.Contains(o.stdout, c.want) {
			t.Errorf("%s%s", o.stdout, o.stderr)
		}
		l.noLab()
		o = l.expect(6, "lab", "up", "--within", c.within, c.compose)
		if !strings.Contains(o.stderr, c.want) {
			t.Errorf("%s%s", o.stdout, o.stderr)
		}
		l.noLab()
	}
}

// events returns how many lines of its journal the newest finished run wrote.
func (l *lab) events() int { return bytes.Count(l.journal(l.t), []byte("\n")) }
