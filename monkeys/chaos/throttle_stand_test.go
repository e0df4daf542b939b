package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// tamed is a shell in cgroups of its own, one in each hierarchy, which does
// what its script says once it is told to.
type tamed struct {
	t    testing.TB
	cmd  *exec.Cmd
	id   experiment.ProcessID
	in   io.Writer
	out  *bufio.Reader
	dirs map[string]string // by controller of version 1; "" is version 2's
}

// newTamed starts it. Sets are files of the cgroups, and what they are to
// hold, where they are there.
func newTamed(t testing.TB, script string, sets ...string) *tamed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a cgroup can be made by root only")
	}
	l := &tamed{t: t, dirs: map[string]string{}, cmd: exec.Command("sh", "-c", "read go; "+script)}
	in, err := l.cmd.StdinPipe()
	must(t, err)
	out, err := l.cmd.StdoutPipe()
	must(t, err)
	l.in, l.out = in, bufio.NewReader(out)
	l.makeCgroups()
	l.write(sets...)
	must(t, l.cmd.Start())
	t.Cleanup(l.end)
	for _, dir := range l.dirs {
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(l.cmd.Process.Pid)), 0))
	}
	await(t, "sh", func() bool {
		st, err := host.Stat(l.cmd.Process.Pid)
		return err == nil && st.Comm == "sh" && st.State == 'S'
	})
	l.id, err = host.Identify(l.cmd.Process.Pid)
	must(t, err)
	return l
}

// makeCgroups makes one below this process's own, but in version 2 below the
// root: where there are controllers, a cgroup with processes has no child that
// has any.
func (l *tamed) makeCgroups() {
	own, err := host.Cgroup(os.Getpid())
	must(l.t, err)
	roots := map[string]string{"": own.V2.Path}
	for controller, dir := range own.V1 {
		roots[controller] = dir.Path
	}
	if len(own.V1) == 0 {
		all, err := host.CgroupHierarchies()
		must(l.t, err)
		roots[""] = all[0].Dir
	}
	name := fmt.Sprintf("simian-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	for controller, root := range roots {
		if root == "" || controller == "systemd" {
			continue
		}
		dir := filepath.Join(root, name)
		must(l.t, os.Mkdir(dir, 0o755))
		l.dirs[controller] = dir
		l.t.Cleanup(func() { await(l.t, "rmdir "+dir, func() bool { return removeAll(dir) == nil }) })
	}
	if dir := l.dirs["cpuset"]; dir != "" {
		copyFiles(l.t, filepath.Dir(dir), dir, "cpuset.cpus", "cpuset.mems")
	}
}

func copyFiles(t testing.TB, from, to string, names ...string) {
	t.Helper()
	for _, name := range names {
		value, err := os.ReadFile(filepath.Join(from, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(to, name), value, 0))
	}
}

// removeAll removes a cgroup, and those below it first.
func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			_ = removeAll(filepath.Join(dir, e.Name()))
		}
	}
	_ = err
	if err := os.Remove(dir); !os.IsNotExist(err) {
		return err
	}
	return nil
}

// write writes pairs of a file and a value, into each cgroup that has it.
func (l *tamed) write(sets ...string) {
	l.t.Helper()
	for pair := range slices.Chunk(sets, 2) {
		for _, dir := range l.dirs {
			if path := filepath.Join(dir, pair[0]); exists(path) {
				must(l.t, os.WriteFile(path, []byte(pair[1]), 0))
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// read returns a file, of whichever cgroup has it; "" where none has.
func (l *tamed) read(names ...string) string {
	for _, name := range names {
		for _, dir := range l.dirs {
			if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				return strings.TrimSpace(string(data))
			}
		}
	}
	return ""
}

func (l *tamed) v2() bool { return len(l.dirs) == 1 }

// go lets the script begin, or go on at its next read.
func (l *tamed) goOn() { _, err := io.WriteString(l.in, "\n"); must(l.t, err) }

// line reads what the script says next.
func (l *tamed) line() string {
	l.t.Helper()
	got := make(chan string, 1)
	go func() { text, _ := l.out.ReadString('\n'); got <- strings.TrimSpace(text) }()
	select {
	case text := <-got:
		return text
	case <-time.After(30 * time.Second):
		l.t.Fatal("the script says nothing")
		return ""
	}
}

// end kills all in its cgroups.
func (l *tamed) end() {
	for _, dir := range l.dirs {
		pids, _ := host.CgroupMembers(dir)
		for _, pid := range pids {
			if p, err := os.FindProcess(pid); err == nil && pid > 1 {
				_ = p.Kill()
			}
		}
	}
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait()
}

// target is all that is in the cgroup, as the process selector has it.
func (l *tamed) target() experiment.Target {
	l.t.Helper()
	pids := []int{l.id.PID}
	for _, dir := range l.dirs {
		members, err := host.CgroupMembers(dir)
		must(l.t, err)
		pids = append(pids, members...)
		break
	}
	t, err := host.Target(slices.Compact(pids)...)
	must(l.t, err)
	t.Kind, t.Name, t.ID = "process", "web", l.id.Handle()
	return t
}

// readThrottle makes a throttle of its fields, as a file has them.
func readThrottle(h *op.Host, fields string) (experiment.Fault, error) {
	l := experiment.Loader{
		Faults:  experiment.Catalog[experiment.Fault]{"throttle": throttles(h)},
		Targets: experiment.Catalog[experiment.Selector]{"peer": func() experiment.Selector { return &neighbours{} }},
	}
	e, err := l.Load("test.yaml", fmt.Appendf(nil, `apiVersion: %s
kind: %s
metadata: {name: test}
spec:
  method:
    - {fault: {type: throttle, %s}, target: {type: peer}, for: 10s}
`, experiment.APIVersion, experiment.Kind, fields), nil)
	if err != nil {
		return nil, err
	}
	return e.Spec.Method[0].Fault, nil
}

// throttle plans one with these fields.
func (l *tamed) throttle(fields string) ([]experiment.Step, error) {
	l.t.Helper()
	f, err := readThrottle(op.NewHost(host), fields)
	must(l.t, err)
	return f.Plan(l.t.Context(), "abcd23", l.target())
}

// lower plans, applies and verifies; the steps are taken back in the end.
func (l *tamed) lower(fields string) []experiment.Step {
	l.t.Helper()
	steps, err := l.throttle(fields)
	must(l.t, err)
	for _, s := range steps {
		must(l.t, s.Do.Apply(l.t.Context()))
		l.t.Cleanup(func() { _ = s.Undo.Apply(context.Background()) })
		if ev := seenOf(l.t, s.Do); !ev.InForce {
			l.t.Fatalf("%s: not in force: %+v", s.Do, ev)
		}
	}
	return steps
}

func seenOf(t testing.TB, o experiment.Op) experiment.Evidence {
	t.Helper()
	ev, err := o.(experiment.Verifier).Verify(t.Context())
	must(t, err)
	return ev
}

// back takes them back, in reverse.
func (l *tamed) back(steps []experiment.Step) {
	l.t.Helper()
	for _, s := range slices.Backward(steps) {
		must(l.t, s.Undo.Apply(l.t.Context()))
		if ev := seenOf(l.t, s.Undo); !ev.InForce {
			l.t.Errorf("%s: not taken back: %+v", s.Undo, ev)
		}
	}
}

// observed is all that could drift.
func observed(t experiment.Target) string {
	seen, err := proc.Host().Observe(context.Background(), t)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, o := range seen {
		if !strings.HasPrefix(o.Object, "net:") && !strings.HasPrefix(o.Object, "mnt:") {
			lines = append(append(lines, o.Object), o.Lines...)
		}
	}
	return strings.Join(lines, "\n")
}

func monotonic() time.Duration { return time.Duration(proc.BootTime()) }

func sleepFor(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }

func cpuTime(t testing.TB, l *tamed) time.Duration {
	t.Helper()
	st, err := host.Stat(l.id.PID)
	must(t, err)
	return st.CPU
}
