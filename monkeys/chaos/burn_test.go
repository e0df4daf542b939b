package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
	_ "github.com/simianhq/simian/internal/stage" // this binary is the helpers, too
)

// limited is a process in a cgroup of its own, in each hierarchy that is
// wanted, with limits.
type limited struct {
	*prey
	dirs map[string]string // by controller, as version 2 names it
}

// newLimited makes one. Limits are files of either version: what is not there
// is left out.
func newLimited(t testing.TB, limits map[string]string, command ...string) *limited {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a cgroup can be made by root only")
	}
	p := newPrey(t)
	if len(command) > 0 {
		p = preyOf(t, exec.Command(command[0], command[1:]...))
	}
	l := &limited{prey: p, dirs: map[string]string{}}
	own, err := host.Cgroup(os.Getpid())
	must(t, err)
	list, err := host.CgroupHierarchies()
	must(t, err)
	name := fmt.Sprintf("simian-test-%d-%d", os.Getpid(), p.id.PID)
	for controller, v1 := range map[string]string{"cpu": "cpu", "cpuset": "cpuset", "memory": "memory", "io": "blkio"} {
		for _, h := range list {
			if h.Controllers != nil && strings.Contains(strings.Join(h.Controllers, ","), v1) && own.V1[v1].Path != "" && l.dirs[controller] == "" {
				l.dirs[controller] = filepath.Join(h.Dir, name)
			}
			if h.Controllers == nil && l.dirs[controller] == "" && own.V1[v1].Path == "" {
				must(t, os.WriteFile(filepath.Join(h.Dir, "cgroup.subtree_control"), []byte("+"+controller), 0))
				l.dirs[controller] = filepath.Join(h.Dir, name)
			}
		}
	}
	for _, dir := range l.dirs {
		l.enter(t, dir)
	}
	for file, value := range limits {
		for _, dir := range l.dirs {
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				must(t, os.WriteFile(filepath.Join(dir, file), []byte(value), 0))
			}
		}
	}
	return l
}

// enter makes a cgroup and moves the process there.
func (l *limited) enter(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file)); err == nil && len(above) > 1 {
			_ = os.WriteFile(filepath.Join(dir, file), above, 0)
		}
	}
	t.Cleanup(func() {
		l.kill()
		await(t, "rmdir "+dir, func() bool { return os.Remove(dir) == nil || os.IsNotExist(os.Remove(dir)) })
	})
	must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(l.id.PID)), 0))
}

func (l *limited) children() string {
	var list []string
	for _, dir := range l.dirs {
		found, _ := filepath.Glob(filepath.Join(dir, "simian-*"))
		list = append(list, found...)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// quota gives a cgroup so many CPUs, on either version.
func quota(cpus float64) map[string]string {
	return map[string]string{
		"cpu.cfs_quota_us": fmt.Sprint(int(cpus * 100000)), "cpu.max": fmt.Sprintf("%d 100000", int(cpus*100000)),
	}
}

// memory gives a cgroup so many bytes.
func memory(bytes int64) map[string]string {
	return map[string]string{"memory.limit_in_bytes": fmt.Sprint(bytes), "memory.max": fmt.Sprint(bytes)}
}

func TestBurnConformance(t *testing.T) {
	t.Parallel()
	h := op.NewHost(host)
	for name, c := range map[string]struct {
		fault  experiment.Fault
		limits map[string]string
	}{
		"cpu":    {&BurnCPU{Load: 20, host: h}, quota(0.5)},
		"memory": {&BurnMemory{Percent: 25, host: h}, memory(64 << 20)},
		"io":     {&BurnIO{Path: "/var/tmp", Bytes: 1 << 20, File: 1 << 20, host: h}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l *limited
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: c.fault, Ops: h.Ops(),
				Target: func(t testing.TB) experiment.Target {
					l = newLimited(t, c.limits)
					return l.target(t)
				},
				Snapshot: func(experiment.Target) string { return l.children() },
				Gone:     func(testing.TB, experiment.Target) { l.kill() },
			})
		})
	}
}

// strike plans a fault for a target and does it until the test ends.
func strike(t testing.TB, f experiment.Fault, target experiment.Target) []experiment.Step {
	t.Helper()
	steps, err := f.Plan(t.Context(), "abcd23", target)
	must(t, err)
	for _, s := range steps {
		must(t, s.Do.Apply(t.Context()))
	}
	t.Cleanup(func() { undoAll(t, steps) })
	return steps
}

func undoAll(t testing.TB, steps []experiment.Step) {
	t.Helper()
	for _, s := range steps {
		if s.Undo != nil {
			must(t, s.Undo.Apply(context.Background()))
		}
	}
}

func evidence(t testing.TB, do experiment.Op) experiment.Evidence {
	t.Helper()
	e, err := do.(experiment.Verifier).Verify(t.Context())
	must(t, err)
	t.Logf("%+v", e)
	return e
}

// TestBurnCPU burns a share of a quota, and no more: as the kernel counts it.
func TestBurnCPU(t *testing.T) {
	for _, cpus := range []float64{0.1, 0.5, 1.5} {
		for _, load := range []experiment.Percent{10, 50, 90} {
			t.Run(fmt.Sprintf("%v %% of %v CPUs", load, cpus), func(t *testing.T) {
				h := op.NewHost(host)
				l := newLimited(t, quota(cpus))
				steps := strike(t, &BurnCPU{Load: load, host: h}, l.target(t))
				helper := helperIn(t, l.dirs["cpu"])
				began, used := time.Now(), processTime(t, helper)
				time.Sleep(2 * time.Second)
				share := 100 * (processTime(t, helper) - used).Seconds() / time.Since(began).Seconds() / cpus
				e := evidence(t, steps[0].Do)
				if !e.InForce || e.Felt != experiment.FeltYes || !strings.Contains(e.What, "burnt") {
					t.Errorf("%+v", e)
				}
				t.Logf("%.1f %%", share)
				if share > float64(load)+5 || share < 2 { // less may be all that this machine has just now
					t.Errorf("%.1f %%, want %v", share, load)
				}
			})
		}
	}
}

// helperIn finds the one helper in a cgroup below dir.
func helperIn(t testing.TB, dir string) int {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "simian-*", "cgroup.procs"))
	if len(files) != 1 {
		t.Fatalf("helpers in %s: %q", dir, files)
	}
	data, err := os.ReadFile(files[0])
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	must(t, err)
	return pid
}

// processTime is the processor time of a process (schedstat).
func processTime(t testing.TB, pid int) (d time.Duration) {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		if words := strings.Fields(string(data)); len(words) > 0 {
			n, _ := strconv.ParseInt(words[0], 10, 64)
			d += time.Duration(n)
		}
	}
	return d
}

// TestBurnMemory holds memory: as the cgroup counts it.
func TestBurnMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault BurnMemory
		want  float64 // MiB
	}{
		{BurnMemory{Percent: 50}, 32},
		{BurnMemory{Size: 40 << 20, Ramp: experiment.Duration(300 * time.Millisecond)}, 40},
	} {
		h := op.NewHost(host)
		c.fault.host = h
		l := newLimited(t, memory(64<<20))
		steps := strike(t, &c.fault, l.target(t))
		await(t, "held", func() bool {
			return strings.HasPrefix(evidence(t, steps[0].Do).What, fmt.Sprintf("%.1f MiB held", c.want))
		})
		files, _ := filepath.Glob(filepath.Join(l.dirs["memory"], "simian-*", "memory.stat"))
		if len(files) == 0 { // the target's own cgroup counts for both
			if got := float64(l.memoryUse()) / (1 << 20); got < c.want*0.98 || got > c.want*1.02+3 {
				t.Errorf("%.1f MiB, want %.1f", got, c.want)
			}
			continue
		}
		data, err := os.ReadFile(files[0])
		must(t, err)
		var anon int64
		for line := range strings.Lines(string(data)) {
			if v, ok := strings.CutPrefix(line, "anon "); ok {
				anon, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			}
			if v, ok := strings.CutPrefix(line, "rss "); ok {
				anon, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			}
		}
		if got := float64(anon) / (1 << 20); anon != 0 && (got < c.want*0.98 || got > c.want*1.02+1) {
			t.Errorf("%.1f MiB, want %.1f", got, c.want)
		}
	}
}

// TestBurnMemoryOOM uses up the memory until the kernel kills: the target, and
// not the helper, and the report says so.
func TestBurnMemoryOOM(t *testing.T) {
	t.Parallel()
	h := op.NewHost(host)
	l := newLimited(t, memory(320<<20), "sh", "-c", `x=$(head -c 80000000 /dev/zero | tr '\0' x); while :; do sleep 0.05; done`)
	await(t, "memory in use", func() bool { return l.memoryUse() > 78<<20 })
	steps := strike(t, &BurnMemory{OOM: true, host: h}, l.target(t))
	if len(steps) != 2 || steps[0].Undo != nil {
		t.Fatalf("%v", steps)
	}
	await(t, "killed", func() bool { return !host.Alive(l.id) })
	e := evidence(t, steps[0].Do)
	if e.Felt != experiment.FeltYes || !strings.Contains(e.What, "the kernel killed") {
		t.Errorf("%+v", e)
	}
}

func (l *limited) memoryUse() int64 {
	dir, err := host.FindCgroup(l.dirs["memory"])
	if err != nil {
		return 0
	}
	for _, d := range []experiment.CgroupDir{dir.V2, dir.V1["memory"]} {
		if d.Path != "" {
			return host.MemoryUse(d)
		}
	}
	return 0
}

// TestBurnIO writes and reads at a rate.
func TestBurnIO(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"write", "read", "both", "fsync"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			h := op.NewHost(host)
			l := newLimited(t, nil)
			steps := strike(t, &BurnIO{Path: "/var/tmp", Do: do, Random: do == "read", Rate: 50, Block: 4096, File: 1 << 20, host: h}, l.target(t))
			await(t, "it goes", func() bool { return evidence(t, steps[0].Do).Felt == experiment.FeltYes })
			time.Sleep(1500 * time.Millisecond)
			if e := evidence(t, steps[0].Do); !e.InForce || !strings.Contains(e.What, "MiB/s") {
				t.Errorf("%+v", e)
			}
		})
	}
}

// TestBurnGolden writes down what is planned, where cgroups can be made.
func TestBurnGolden(t *testing.T) {
	t.Parallel()
	h := op.NewHost(host)
	for name, c := range map[string]struct {
		fault  experiment.Fault
		limits map[string]string
	}{
		"burn-cpu":        {&BurnCPU{Load: 50, host: h}, quota(1.5)},
		"burn-memory":     {&BurnMemory{Percent: 50, Ramp: experiment.Duration(time.Second), host: h}, memory(64 << 20)},
		"burn-memory-oom": {&BurnMemory{OOM: true, host: h}, memory(64 << 20)},
		"burn-io":         {&BurnIO{Path: "/var/tmp", Do: "fsync", Random: true, Rate: 100, host: h}, nil},
	} {
		l := newLimited(t, c.limits)
		steps, err := c.fault.Plan(t.Context(), "abcd23", l.target(t))
		must(t, err)
		text := describe(steps)
		for _, s := range steps {
			if do, ok := s.Do.(*op.Helper); ok {
				text += "told    " + string(do.Args) + "\n"
			}
		}
		for _, dir := range l.dirs {
			st, err := os.Stat(dir)
			must(t, err)
			text = strings.ReplaceAll(text, fmt.Sprintf("cgroup:%d:%s", st.Sys().(*syscall.Stat_t).Ino, dir), "cgroup:31:/web")
			text = strings.ReplaceAll(text, dir, "/web")
		}
		text = strings.NewReplacer(l.id.Handle(), "process:812:99123", fmt.Sprintf("-%d", l.id.PID), "-812", "memory.oom_control", "memory.events").Replace(text)
		golden(t, name, text)
	}
}

// TestBurnRefused plans what can't be, and says why.
func TestBurnRefused(t *testing.T) {
	t.Parallel()
	h := op.NewHost(host)
	half := memory(64 << 20)
	for _, c := range []struct {
		name   string
		fault  experiment.Fault
		limits map[string]string
		want   string
	}{
		{"a percent of no limit", &BurnMemory{Percent: 50, host: h}, nil, "it has no memory limit that 50 % could be of: unsupported (say size)"},
		{"oom without a limit", &BurnMemory{OOM: true, host: h}, nil, "it has no memory limit, so the whole host would run out: unsupported (give it a limit)"},
		{"more than the limit", &BurnMemory{Size: 128 << 20, host: h}, half, "is more than its limit of 64MiB, so the kernel would kill: take less, or say oom: true"},
		{"no such folder", &BurnIO{Path: "/no/such", host: h}, nil, "open /no/such in the target: no such file or directory"},
		{"a file system in memory", &BurnIO{Path: "/dev/shm", host: h}, nil, "/dev/shm of the target is in memory, not on a disk: unsupported (name a path that is on one)"},
		{"read-only", &BurnIO{Path: "/proc", host: h}, nil, "/proc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLimited(t, c.limits)
			if _, err := c.fault.Plan(t.Context(), "abcd23", l.target(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	t.Run("a cgroup shared with others", func(t *testing.T) {
		for _, f := range []experiment.Fault{&BurnCPU{Load: 50, host: h}, &BurnMemory{Size: 1 << 20, host: h}, &BurnIO{host: h}} {
			if _, err := f.Plan(t.Context(), "abcd23", newPrey(t).target(t)); !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "others would pay for what is burnt") {
				t.Error(err)
			}
		}
	})
}

// TestBurnValidate reads what files say.
func TestBurnValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault experiment.Validator
		want  string
	}{
		{&BurnCPU{}, "say how much"},
		{&BurnMemory{}, "say one of percent, size and oom"},
		{&BurnMemory{Percent: 5, OOM: true}, "say one of percent, size and oom"},
		{&BurnIO{Do: "append"}, "unknown \"append\"\n        known: read write both fsync"},
		{&BurnIO{Bytes: 1, Rate: 1}, "say bytesPerSecond or operations, not both"},
		{&BurnIO{Block: 1000}, "is no multiple of 4KiB"},
		{&BurnIO{Block: 8 << 20, File: 4 << 20}, "4MiB is less than one block of 8MiB"},
		{&BurnIO{Path: "data"}, `"data" is not absolute`},
		{&BurnCPU{Load: 50}, ""},
		{&BurnMemory{OOM: true}, ""},
		{&BurnIO{}, ""},
	} {
		err := c.fault.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.fault, err, c.want)
		}
	}
}
