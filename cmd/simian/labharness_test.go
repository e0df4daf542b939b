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

// shop launches the services of most tests, and waits until the client can be
// asked to end: before that, PID 1 does not heed it.
func (l *lab) shop() native.State {
	l.t.Helper()
	s := l.up(l.compose(webService, clientService))
	l.ready(s)
	return s
}

func (l *lab) ready(s native.State) {
	l.t.Helper()
	await(l.t, "word of the client", func() bool {
		return strings.Contains(l.expect(0, "logs", string(s.Run), "client").stdout, "ready")
	})
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
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func waitFor(t *testing.T, words string, in *syncBuffer) {
	t.Helper()
	await(t, words+" in "+in.String(), func() bool { return strings.Contains(in.String(), words) })
}

// events returns how many lines of its journal the newest finished run wrote.
func (l *lab) events() int { return bytes.Count(l.journal(l.t), []byte("\n")) }
