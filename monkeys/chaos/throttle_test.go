package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
)

// throttleForms are throttles of each file, and what must be set before.
var throttleForms = []struct {
	name, fields string
	sets         []string
}{
	{name: "cpus", fields: "cpus: 0.25"},
	{name: "cpu-percent", fields: "cpuPercent: 50", sets: []string{"cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"}},
	{name: "cpu-burst", fields: "cpus: 0.1", sets: []string{"cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000", "cpu.cfs_burst_us", "20000", "cpu.max.burst", "20000"}},
	{name: "cpuset", fields: `cpuset: "1"`, sets: []string{"cpuset.cpus", "0-1"}},
	{name: "memory", fields: "memory: 64MiB"},
	{name: "memory-percent", fields: "memoryPercent: 33", sets: []string{"memory.limit_in_bytes", "100M", "memory.max", "100M"}},
	{name: "pids", fields: "pids: 20"},
	{name: "io", fields: "io: [{path: /tmp, readBytes: 1MiB, writeOps: 50}]"},
	{name: "devices", fields: "denyDevices: [{device: /dev/null, access: rw}, {device: 'c 1:5'}]"},
	{name: "several", fields: "cpus: 0.5, memory: 64MiB, pids: 20"},
}

func TestThrottleConformance(t *testing.T) {
	for _, form := range throttleForms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			h := op.NewHost(host)
			fault, err := readThrottle(h, form.fields)
			must(t, err)
			var l *tamed
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: h.Ops(),
				Snapshot: func(target experiment.Target) string { return observed(target) + programs(target) },
				Target: func(t testing.TB) experiment.Target {
					l = newTamed(t, "exec sleep 60", form.sets...)
					return l.target()
				},
				Gone: func(t testing.TB, _ experiment.Target) {
					l.end()
					for _, dir := range l.dirs { // another one comes, of the same path
						await(t, "rmdir", func() bool { return os.Remove(dir) == nil })
						must(t, os.Mkdir(dir, 0o755))
					}
				},
			})
		})
	}
}

// programs tells whether a device may be opened in t's cgroup: nothing else
// shows a BPF program to who has not made it.
func programs(t experiment.Target) string {
	d := op.DenyDevices(op.NewHost(host), "abcd23", t.Cgroup.V2, []op.DeviceRule{
		{Kind: "c", Major: 1, Minor: 3, Access: "rw"}, {Kind: "c", Major: 1, Minor: 5, Access: "rwm"},
	})
	ev, err := d.Do.(experiment.Verifier).Verify(context.Background())
	if err != nil {
		return err.Error()
	}
	return ev.What
}

// TestThrottleCPU measures how much a spinner gets.
func TestThrottleCPU(t *testing.T) {
	l := newTamed(t, "while :; do :; done", "cpu.cfs_quota_us", "80000", "cpu.max", "80000 100000")
	l.goOn()
	steps := l.lower("cpuPercent: 5") // of 0.8: 0.04, which it gets on a busy machine too
	share := cpuShare(t, l)
	await(t, "throttled", func() bool { return seenOf(t, steps[0].Do).Felt == experiment.FeltYes })
	ev := seenOf(t, steps[0].Do)
	if share > 0.1 || !strings.Contains(ev.What, "throttled") {
		t.Errorf("it has %.2f CPUs, not 0.04: %+v", share, ev)
	}
	l.back(steps)
	t.Logf("%.2f CPUs (0.04 asked); %s", share, ev.What)
	if got := l.read("cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(got, "80000") {
		t.Errorf("the quota is %s", got)
	}
}

// cpuShare measures for a second.
func cpuShare(t *testing.T, l *tamed) float64 {
	t.Helper()
	start, used := monotonic(), cpuTime(t, l)
	sleepFor(1500)
	return float64(cpuTime(t, l)-used) / float64(monotonic()-start)
}

// TestThrottleCPUBelow lowers a quota under those of cgroups below, which
// version 1 refuses unless they go first.
func TestThrottleCPUBelow(t *testing.T) {
	l := newTamed(t, "exec sleep 60", "cpu.cfs_quota_us", "80000")
	if l.v2() {
		t.Skip("no cgroup v1 cpu is mounted")
	}
	child := filepath.Join(l.dirs["cpu"], "below")
	must(t, os.Mkdir(child, 0o755))
	must(t, os.WriteFile(filepath.Join(child, "cpu.cfs_quota_us"), []byte("60000"), 0))
	before := observed(l.target())
	steps := l.lower("cpus: 0.3")
	got, err := os.ReadFile(filepath.Join(child, "cpu.cfs_quota_us"))
	must(t, err)
	if len(steps) != 2 || string(got) != "30000\n" {
		t.Errorf("%d steps, and %s for the child", len(steps), got)
	}
	l.back(steps)
	if got, _ := os.ReadFile(filepath.Join(child, "cpu.cfs_quota_us")); string(got) != "60000\n" || observed(l.target()) != before {
		t.Errorf("the child has %s, and it has\n%s, not\n%s", got, observed(l.target()), before)
	}
}

// TestThrottleCPUSet asks the kernel where the process may run.
func TestThrottleCPUSet(t *testing.T) {
	for _, fields := range []string{`cpuset: "1"`, "cpusetCount: 1"} {
		l := newTamed(t, "exec sleep 60", "cpuset.cpus", "0-1")
		if dir := l.dirs["cpuset"]; dir != "" { // those below go first in version 1
			child := filepath.Join(dir, "below")
			must(t, os.Mkdir(child, 0o755))
			copyFiles(t, dir, child, "cpuset.cpus", "cpuset.mems")
		}
		before := observed(l.target())
		steps := l.lower(fields)
		want := map[bool]string{true: "1", false: "0"}[strings.HasPrefix(fields, "cpuset:")]
		if got, err := host.Affinities(l.id.PID); err != nil || got[0] != want {
			t.Errorf("%s: it may run on %v, %v", fields, got, err)
		}
		t.Log(seenOf(t, steps[0].Do).What)
		l.back(steps)
		if after := observed(l.target()); after != before {
			t.Errorf("it is\n%s, and was\n%s", after, before)
		}
	}
}

// TestThrottleMemory has a process need more than it is let: the kernel takes
// back page cache first, and kills then.
func TestThrottleMemory(t *testing.T) {
	l := newTamed(t, "while :; do dd if=/dev/zero of=/dev/null bs=120M count=1 2>/dev/null; echo $?; read go; done")
	l.goOn()
	if got := l.line(); got != "0" {
		t.Fatalf("without a limit it ends %s", got)
	}
	steps := l.lower("memory: 48MiB")
	l.goOn()
	if got := l.line(); got == "0" {
		t.Errorf("it had 120 MB of 48 MiB")
	}
	ev := seenOf(t, steps[0].Do)
	if ev.Felt != experiment.FeltYes || !strings.Contains(ev.What, "1 OOM kill") {
		t.Errorf("%+v", ev)
	}
	t.Log(ev.What)
	l.back(steps)
	l.goOn()
	if got := l.line(); got != "0" {
		t.Errorf("the limit is back, and it ends %s", got)
	}
}

// TestThrottleMemoryCache lowers the limit under what is in use: page cache is
// given back, and nobody is killed; what cannot be given back is refused.
func TestThrottleMemoryCache(t *testing.T) {
	file := cold(t, 64<<20)
	l := newTamed(t, "cat "+file+" >/dev/null; echo read; read go; dd if=/dev/zero bs=40M count=1 2>/dev/null | sleep 60")
	l.goOn()
	l.line()
	steps, err := l.throttle("memory: 32MiB")
	must(t, err)
	if notes := steps[0].Do.(experiment.Noted).Notes(); len(notes) != 1 || !strings.Contains(notes[0], "page cache") {
		t.Errorf("its notes are %q", notes)
	}
	steps = l.lower("memory: 32MiB")
	if !host.Alive(l.id) || strings.Contains(seenOf(t, steps[0].Do).What, "kill") {
		t.Errorf("killed: %+v", seenOf(t, steps[0].Do))
	}
	l.back(steps)
	l.goOn() // dd holds a block that nobody takes
	await(t, "40 MiB", func() bool {
		_, err := l.throttle("memory: 8MiB")
		return err != nil && strings.Contains(err.Error(), "cannot be given back")
	})
	if _, err := l.throttle("memory: 8MiB"); err == nil || !strings.Contains(err.Error(), "cannot be given back (8MiB asked for)") {
		t.Errorf("it gives %v", err)
	}
}

// TestThrottleMemoryHigh slows a process down that needs more.
func TestThrottleMemoryHigh(t *testing.T) {
	l := newTamed(t, "dd if=/dev/zero of=/dev/null bs=60M count=1 2>/dev/null & read go")
	if !l.v2() {
		_, err := l.throttle("memoryHigh: 16MiB")
		if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "soft limit") {
			t.Errorf("it gives %v", err)
		}
		return
	}
	steps := l.lower("memoryHigh: 16MiB")
	l.goOn()
	await(t, "felt", func() bool { return seenOf(t, steps[0].Do).Felt == experiment.FeltYes })
	t.Log(seenOf(t, steps[0].Do).What)
	l.back(steps)
}

// TestThrottlePIDs has forks fail.
func TestThrottlePIDs(t *testing.T) {
	l := newTamed(t, "i=0; while [ $i -lt 12 ]; do sleep 60 & i=$((i+1)); done 2>/dev/null; echo done; read go")
	steps := l.lower("pids: 5")
	l.goOn()
	await(t, "a fork refused", func() bool { return seenOf(t, steps[0].Do).Felt == experiment.FeltYes })
	if n, _ := strconv.Atoi(l.read("pids.current")); n > 5 {
		t.Errorf("%d processes, 5 allowed", n)
	}
	t.Log(seenOf(t, steps[0].Do).What)
	l.back(steps)
	if got := l.read("pids.max"); got != "max" {
		t.Errorf("pids.max is %s", got)
	}
}

// TestThrottleIO times how long a file takes to be read.
func TestThrottleIO(t *testing.T) {
	for _, c := range []struct {
		fields string
		size   int64
		rate   float64 // bytes a second
	}{
		{"readBytes: 4MiB", 12 << 20, 4 << 20},
	} {
		file := cold(t, c.size)
		l := newTamed(t, "cat "+file+" >/dev/null; echo done; read go")
		steps := l.lower("io: [{path: " + file + ", " + c.fields + "}]")
		start := monotonic()
		l.goOn()
		l.line()
		took := float64(monotonic()-start) / 1e9
		ev := seenOf(t, steps[0].Do)
		want := float64(c.size) / c.rate
		if took < want*0.7 || ev.Felt != experiment.FeltYes {
			t.Errorf("it took %.2fs, not %.2f: %+v", took, want, ev)
		}
		t.Logf("%.2fs for %.2f; %s", took, want, ev.What)
		l.back(steps)
		l.end()
	}
}

// cold writes a file that is on the disk, and not in the page cache.
func cold(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for range size >> 20 {
		_, err = f.Write(block)
		must(t, err)
	}
	must(t, f.Sync())
	must(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	return path
}

// TestThrottleHugetlb has a page refused: the kernel tells by SIGBUS. Programs
// that ask for one are rare, so the limit is looked at, and what it counts.
func TestThrottleHugetlb(t *testing.T) {
	l := newTamed(t, "exec sleep 60")
	steps, err := l.throttle("hugetlb: {2MB: 0B}")
	if l.read("hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes") == "" {
		if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "hugetlb controller is not") {
			t.Errorf("it gives %v", err)
		}
		return
	}
	must(t, err)
	l.back(steps)
	steps = l.lower("hugetlb: {2MB: 0B}")
	if got := l.read("hugetlb.2MB.max"); got != "0" {
		t.Errorf("the limit is %s", got)
	}
	l.back(steps)
	if _, err := l.throttle("hugetlb: {3MB: 0B}"); err == nil || !strings.Contains(err.Error(), "no pages of 3MB here, but") {
		t.Errorf("it gives %v", err)
	}
}

// TestThrottleDevices has open(2) fail, and what is open stay so.
func TestThrottleDevices(t *testing.T) {
	l := newTamed(t, "exec 3</dev/zero; while :; do if (: </dev/zero); then echo yes; else echo no; fi; head -c 1 <&3 | wc -c; read go; done 2>/dev/null")
	l.goOn()
	if got := l.line() + l.line(); got != "yes1" {
		t.Fatalf("before, it gives %s", got)
	}
	steps := l.lower("denyDevices: [{device: /dev/zero, access: r}]")
	l.goOn()
	if got := l.line() + l.line(); got != "no1" {
		t.Errorf("denied, it gives %s", got)
	}
	ev := seenOf(t, steps[0].Do)
	if ev.Felt != experiment.FeltYes || !strings.Contains(ev.What, "denied 1 call") {
		t.Errorf("%+v", ev)
	}
	t.Log(ev.What)
	l.back(steps)
	l.goOn()
	if got := l.line() + l.line(); got != "yes1" {
		t.Errorf("afterwards, it gives %s", got)
	}
}

// TestThrottleDevicesV1 takes a device from version 1's list, and from those
// of the cgroups below.
func TestThrottleDevicesV1(t *testing.T) {
	l := newTamed(t, "while :; do if (: </dev/zero); then echo yes; else echo no; fi; read go; done 2>/dev/null")
	dir := l.dirs["devices"]
	if dir == "" {
		t.Skip("no cgroup v1 devices is mounted")
	}
	must(t, os.WriteFile(filepath.Join(dir, "devices.deny"), []byte("a"), 0))
	for _, rule := range []string{"c 1:3 rwm", "c 1:5 rwm", "c 1:8 rwm"} {
		must(t, os.WriteFile(filepath.Join(dir, "devices.allow"), []byte(rule), 0))
	}
	child := filepath.Join(dir, "below") // it inherits the list
	must(t, os.Mkdir(child, 0o755))
	target := l.target()
	target.Cgroup.V2 = experiment.CgroupDir{} // it has none: the list is all there is
	f, err := readThrottle(op.NewHost(host), "denyDevices: [{device: /dev/zero, access: r}]")
	must(t, err)
	steps, err := f.Plan(t.Context(), "abcd23", target)
	must(t, err)
	l.goOn()
	got := l.line()
	for _, s := range steps {
		must(t, s.Do.Apply(t.Context()))
	}
	l.goOn()
	got += " " + l.line()
	l.back(steps)
	l.goOn()
	if got += " " + l.line(); got != "yes no yes" || len(steps) != 2 {
		t.Errorf("it opens: %s (%d steps)", got, len(steps))
	}
	list, err := os.ReadFile(filepath.Join(child, "devices.list"))
	if must(t, err); !strings.Contains(string(list), "c 1:5 rwm\n") {
		t.Errorf("the child's list is %s", list)
	}
}

// TestThrottleDevicesKilled kills who holds the program: the kernel takes it
// back, and who takes back for the dead finds nothing to do.
func TestThrottleDevicesKilled(t *testing.T) {
	l := newTamed(t, "while :; do if (: </dev/zero); then echo yes; else echo no; fi; read go; done 2>/dev/null")
	holder := exec.Command("/proc/self/exe")
	holder.Env = append(os.Environ(), throttleEnv+"="+strconv.Itoa(l.id.PID))
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	said, err := bufio.NewReader(out).ReadString('\n')
	if must(t, err); said != "applied\n" {
		t.Fatal(said)
	}
	l.goOn()
	if got := l.line(); got != "no" {
		t.Errorf("denied, it says %s", got)
	}
	steps, err := l.throttle("denyDevices: [{device: /dev/zero}]") // the same, by name
	must(t, err)
	if ev := seenOf(t, steps[0].Do); !ev.InForce {
		t.Errorf("another process does not see it: %+v", ev)
	}
	must(t, holder.Process.Kill())
	_ = holder.Wait()
	l.back(steps)
	l.goOn()
	if got := l.line(); got != "yes" {
		t.Errorf("who held it is dead, and it says %s", got)
	}
}

// throttleEnv has the test binary deny a device to a process, and hold that.
const throttleEnv = "SIMIAN_TEST_THROTTLE"

func denyAndHold(pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	target, err := host.Target(n)
	if err != nil {
		return err
	}
	f := Throttle{DenyDevices: []DeniedDevice{{Device: "/dev/zero"}}, host: op.NewHost(host)}
	steps, err := f.Plan(context.Background(), "abcd23", target)
	if err != nil {
		return err
	}
	if err := steps[0].Do.Apply(context.Background()); err != nil {
		return err
	}
	fmt.Println("applied")
	time.Sleep(time.Minute)
	return nil
}

// pageEnv has a copy of the test binary touch a huge page. The copy may be in
// a target's cgroup: it is not the program that tests.
const pageEnv = "SIMIAN_TEST_PAGE"

func touchPage() error {
	_, _ = os.Stdin.Read(make([]byte, 1))
	page, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_HUGETLB)
	if err != nil {
		return err
	}
	page[0] = 1 // SIGBUS, where it is refused
	return nil
}

// TestThrottleHugetlbFelt has a page refused: the kernel tells by SIGBUS.
func TestThrottleHugetlbFelt(t *testing.T) {
	const reserve = "/proc/sys/vm/nr_hugepages"
	if os.Getenv("SIMIAN_VM") == "" {
		t.Skip("it takes huge pages from the host: in a virtual machine only")
	}
	must(t, os.WriteFile(reserve, []byte("4"), 0))
	t.Cleanup(func() { must(t, os.WriteFile(reserve, []byte("0"), 0)) })
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	program := filepath.Join(t.TempDir(), "page")
	must(t, os.WriteFile(program, self, 0o755))
	l := newTamed(t, pageEnv+"=1 "+program+" 2>/dev/null; echo $?; read go; "+pageEnv+"=1 "+program+" 2>/dev/null; echo $?; read go")
	steps := l.lower("hugetlb: {2MB: 0B}")
	l.goOn()
	l.goOn()
	if got := l.line(); got == "0" {
		t.Error("it had a page")
	}
	if ev := seenOf(t, steps[0].Do); ev.Felt != experiment.FeltYes || !strings.Contains(ev.What, "page refused") {
		t.Errorf("%+v", ev)
	} else {
		t.Log(ev.What)
	}
	l.back(steps)
	l.goOn()
	l.goOn()
	if got := l.line(); got != "0" {
		t.Errorf("the limit is back, and it ends %s", got)
	}
}
