package op

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/proc"
)

// newPIDs makes a cgroup with the pids controller, and these processes in it.
func newPIDs(t testing.TB, members ...*prey) experiment.CgroupDir {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a cgroup can be made by root only")
	}
	own, err := host.Cgroup(os.Getpid())
	must(t, err)
	root := own.V1["pids"].Path
	if root == "" { // in version 2 one with processes has no child with controllers
		all, err := host.CgroupHierarchies()
		must(t, err)
		root = all[0].Dir
	}
	dir, err := os.MkdirTemp(root, "simian-test-"+strconv.Itoa(os.Getpid())+"-")
	must(t, err)
	t.Cleanup(func() {
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

func setPIDs(dir experiment.CgroupDir) experiment.Step {
	return SetKnob(host, Knob{Cgroup: dir, File: "pids.max"}, "max", "20")
}

func TestCgroupSetConformance(t *testing.T) {
	t.Parallel()
	var dir experiment.CgroupDir
	experimenttest.Op(t, experimenttest.OpCase{
		Ops:  All(host),
		Step: func(t testing.TB) experiment.Step { dir = newPIDs(t, newPrey(t)); return setPIDs(dir) },
		Snapshot: func() string {
			data, _ := os.ReadFile(filepath.Join(dir.Path, "pids.max"))
			return string(data)
		},
	})
}

// TestCgroupSetSuperseded has somebody else change the value: before it is
// applied, and while it is in force. Theirs stays.
func TestCgroupSetSuperseded(t *testing.T) {
	t.Parallel()
	dir := newPIDs(t, newPrey(t))
	step := setPIDs(dir)
	file := filepath.Join(dir.Path, "pids.max")
	must(t, os.WriteFile(file, []byte("30"), 0))
	if err := step.Do.Apply(t.Context()); !errors.Is(err, experiment.ErrBusy) || !strings.Contains(err.Error(), "was max when this was planned, and is 30 now") {
		t.Errorf("it gives %v", err)
	}
	must(t, os.WriteFile(file, []byte("max"), 0))
	must(t, step.Do.Apply(t.Context()))
	must(t, os.WriteFile(file, []byte("30"), 0))
	if ev, err := step.Do.(experiment.Verifier).Verify(t.Context()); err != nil || ev.InForce || ev.Hint != "somebody has changed it since" {
		t.Errorf("%+v, %v", ev, err)
	}
	var superseded *experiment.SupersededError
	if err := step.Undo.Apply(t.Context()); !errors.As(err, &superseded) || superseded.Present != "30" || superseded.Read != "max" || superseded.Wrote != "20" {
		t.Errorf("the undo gives %v", err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "30\n" {
		t.Errorf("it is %q, %v", got, err)
	}
}

// TestCgroupSetGone removes the cgroup, and makes another at the same path.
func TestCgroupSetGone(t *testing.T) {
	t.Parallel()
	dir := newPIDs(t)
	step := setPIDs(dir)
	for _, again := range []bool{false, true} {
		if err := os.Remove(dir.Path); !again {
			must(t, err)
		} else {
			must(t, os.Mkdir(dir.Path, 0o755))
		}
		for _, o := range []experiment.Op{step.Do, step.Undo} {
			if err := o.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
				t.Errorf("%s: %v, want ErrGone", o, err)
			}
		}
	}
}

// TestCgroupSetProtected has a process that must not be touched move in after
// the plan.
func TestCgroupSetProtected(t *testing.T) {
	t.Parallel()
	guardian := newPrey(t, "threads") // this very program: Simian's own
	step := setPIDs(newPIDs(t, newPrey(t), guardian))
	if err := step.Do.Apply(t.Context()); !errors.Is(err, experiment.ErrProtected) {
		t.Errorf("it gives %v, want ErrProtected", err)
	}
}

// TestCgroupSetRefused has the kernel refuse a value, and make another of it.
func TestCgroupSetRefused(t *testing.T) {
	t.Parallel()
	dir := newPIDs(t, newPrey(t))
	for value, want := range map[string]string{"-3": "invalid argument", "007": "the kernel made 7 of 007, so it was put back"} {
		k := Knob{Cgroup: dir, File: "pids.max"}
		err := SetKnob(host, k, "max", value).Do.Apply(t.Context())
		if now, _ := k.Value(); err == nil || !strings.Contains(err.Error(), want) || now != "max" {
			t.Errorf("%s gives %v, and it is %s", value, err, now)
		}
	}
}

// TestKnobValue reads each form of a setting.
func TestKnobValue(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	for name, text := range map[string]string{
		"cpu.max": "25000 100000\n", "cpuset.cpus": "\n",
		"io.max":                         "8:0 rbps=1048576 wbps=max riops=max wiops=100\n254:0 rbps=1 wbps=max riops=max wiops=max\n",
		"blkio.throttle.read_bps_device": "254:0 4096\n8:0 1048576\n", "devices.list": "c 1:3 rwm\nc 1:30 r\n",
	} {
		must(t, os.WriteFile(filepath.Join(path, name), []byte(text), 0o644))
	}
	dir, err := proc.StatCgroup(path)
	must(t, err)
	for _, c := range []struct{ file, device, field, want string }{
		{"cpu.max", "", "", "25000 100000"},
		{"cpuset.cpus", "", "", ""},
		{"io.max", "8:0", "rbps", "1048576"},
		{"io.max", "8:0", "wiops", "100"},
		{"io.max", "8:16", "wbps", "max"},
		{"blkio.throttle.read_bps_device", "8:0", "", "1048576"},
		{"blkio.throttle.read_bps_device", "8:1", "", "max"},
		{"devices.list", "c 1:3", "", "rwm"},
		{"devices.list", "c 1:5", "", ""},
	} {
		k := Knob{Cgroup: dir, File: c.file, Device: c.device, Field: c.field}
		if got, err := k.Value(); err != nil || got != c.want {
			t.Errorf("%s is %q, %v; want %q", k, got, err, c.want)
		}
	}
	if _, err := (Knob{Cgroup: dir, File: "pids.max"}).Value(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file gives %v", err)
	}
}

// TestCounted reads the numbers that the kernel has in several forms.
func TestCounted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, key string
		want      int64
	}{
		{"low 0\nmax 3\noom_kill 1\n", "max", 3},
		{"42\n", "", 42},
		{"254:0 Read 4096\n254:0 Write 8192\nTotal 12288\n", "254:0 Write", 8192},
		{"8:0 rbytes=1 wbytes=2 rios=3 wios=4\n254:0 rbytes=5 wbytes=6 rios=7 wios=8\n", "254:0 rios", 7},
		{"8:0 rbytes=1\n", "254:0 rbytes", 0},
		{"", "max", 0},
	} {
		if got := numberAfter(c.text, c.key); got != c.want {
			t.Errorf("%q in %q is %d, want %d", c.key, c.text, got, c.want)
		}
	}
	if got := elapsed(3210*time.Millisecond) + " " + elapsed(3211*time.Microsecond); got != "3.21s 3ms" {
		t.Error(got)
	}
}
