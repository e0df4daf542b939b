// Package bench measures, with the real binary on the real kernel, the figures
// that the README gives. `make bench` builds the binary first. It asserts
// nothing about time.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// simian is the binary to measure.
func simian(b *testing.B) string {
	b.Helper()
	path, err := filepath.Abs("../bin/simian")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		b.Skip("make build first: ", err)
	}
	return path
}

// times collects durations, and reports them in milliseconds.
type times []time.Duration

func (t times) report(b *testing.B) {
	slices.Sort(t)
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	b.ReportMetric(ms(t[len(t)/2]), "median-ms")
	b.ReportMetric(ms(t[len(t)*99/100]), "p99-ms")
	b.ReportMetric(ms(t[len(t)-1]), "max-ms")
	b.ReportMetric(0, "ns/op")
}

func sleeper(b *testing.B) experiment.ProcessID {
	b.Helper()
	c := exec.Command("/bin/sleep", "3600")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	id, err := proc.Host().Identify(c.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// ownCgroup moves a process into a cgroup of its own below root.
func ownCgroup(b *testing.B, root string, id experiment.ProcessID) experiment.CgroupDir {
	b.Helper()
	dir := filepath.Join(root, fmt.Sprintf("simian-bench-%d", id.PID))
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() {
		_ = syscall.Kill(id.PID, syscall.SIGKILL)
		for range 100 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		b.Errorf("%s is left", dir)
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, id.PID), 0); err != nil {
		b.Skip(err)
	}
	c, err := proc.StatCgroup(dir)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkFreezeInForce is the time from the call of Apply until the kernel
// says that the target is frozen. Goal: 1 ms.
func BenchmarkFreezeInForce(b *testing.B) {
	fs := proc.Host()
	id := sleeper(b)
	b.Run("SIGSTOP", func(b *testing.B) {
		inForce(b, op.NewStop(fs, id, "sleep", true), op.NewStop(fs, id, "sleep", false))
	})
	roots, _ := fs.CgroupRoots()
	for _, root := range roots {
		version := ""
		switch filepath.Base(root) {
		case "freezer":
			version = op.FreezerV1
		case "unified", "cgroup":
			version = op.FreezerV2
		default:
			continue
		}
		b.Run(strings.ReplaceAll(version, " ", "-"), func(b *testing.B) {
			dir := ownCgroup(b, root, sleeper(b))
			inForce(b, op.NewFreezer(fs, dir, version, true), op.NewFreezer(fs, dir, version, false))
		})
	}
}

// freezer is an op that can be verified.
type freezer interface {
	experiment.Op
	experiment.Verifier
}

func inForce(b *testing.B, do, undo freezer) {
	ctx := context.Background()
	var took times
	for b.Loop() {
		start := time.Now()
		if err := do.Apply(ctx); err != nil {
			b.Fatal(err)
		}
		if ev, err := do.Verify(ctx); err != nil || !ev.InForce {
			b.Fatal(ev, err)
		}
		took = append(took, time.Since(start))
		if err := undo.Apply(ctx); err != nil {
			b.Fatal(err)
		}
		if ev, err := undo.Verify(ctx); err != nil || !ev.InForce {
			b.Fatal(ev, err)
		}
	}
	took.report(b)
}

const head = "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: bench}\nspec:\n"

func file(b *testing.B, spec string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "bench.yaml")
	if err := os.WriteFile(path, []byte(head+spec), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkKilledToTakenBack is the time from SIGKILL of the runner until its
// target runs again. Goal: at most 100 ms, median 30.
func BenchmarkKilledToTakenBack(b *testing.B) {
	bin, id, state := simian(b), sleeper(b), b.TempDir()
	path := file(b, fmt.Sprintf("  method:\n  - {fault: {type: freeze}, target: {type: process, pid: %d}, for: 1h}\n", id.PID))
	var took times
	for b.Loop() {
		c := exec.Command(bin, "--state", state, "run", path)
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		awaitInjected(b, state)
		start := time.Now()
		_ = c.Process.Kill()
		for stopped(b, id) {
			if time.Since(start) > 10*time.Second {
				b.Fatal("not taken back within 10 s")
			}
		}
		took = append(took, time.Since(start))
		_ = c.Wait()
		awaitNone(b, state)
	}
	took.report(b)
}

// awaitNone waits until no run is unfinished, and no process of Simian's is
// left that could write to its state directory.
func awaitNone(b *testing.B, state string) {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if len(journals(state)) == 0 && !at(state) {
			return
		}
	}
	b.Fatal("a run is unfinished after 10 s")
}

// at tells whether a process works on this state directory.
func at(state string) bool {
	fs := proc.Host()
	pids, _ := fs.PIDs()
	return slices.ContainsFunc(pids, func(pid int) bool {
		args, err := fs.Cmdline(pid)
		return err == nil && slices.Contains(args, state)
	})
}

func stopped(b *testing.B, id experiment.ProcessID) bool {
	b.Helper()
	st, err := proc.Host().Stat(id.PID)
	if err != nil {
		b.Fatal(err)
	}
	return st.State == 'T'
}

func journals(state string) []string {
	open, _ := filepath.Glob(filepath.Join(state, "open", "*.jsonl"))
	return open
}

func awaitInjected(b *testing.B, state string) {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, path := range journals(state) {
			if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(`"kind":"injected"`)) {
				return
			}
		}
	}
	b.Fatal("no fault within 10 s")
}

// BenchmarkVersion is the whole process of simian version. Goal: 25 ms.
func BenchmarkVersion(b *testing.B) {
	bin := simian(b)
	var took times
	for b.Loop() {
		start := time.Now()
		if err := exec.Command(bin, "version").Run(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	took.report(b)
}

// BenchmarkRunOfNoLength is the whole process of a run that freezes a process
// for 1 ms, with its guardian and fsyncs, and no check. Goal: 80 ms.
func BenchmarkRunOfNoLength(b *testing.B) {
	bin, id, state := simian(b), sleeper(b), b.TempDir()
	path := file(b, fmt.Sprintf("  method:\n  - {fault: {type: freeze}, target: {type: process, pid: %d}, for: 1ms}\n", id.PID))
	var took times
	for b.Loop() {
		start := time.Now()
		if out, err := exec.Command(bin, "--state", state, "run", path).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		took = append(took, time.Since(start))
	}
	took.report(b)
}

// BenchmarkGuardian is how long the real binary takes to arm its guardian, as
// its journal has it, and what that costs in memory. Goals: 5 ms, 20 MB.
func BenchmarkGuardian(b *testing.B) {
	bin, id, state := simian(b), sleeper(b), b.TempDir()
	path := file(b, fmt.Sprintf("  method:\n  - {fault: {type: freeze}, target: {type: process, pid: %d}, for: 50ms}\n", id.PID))
	var took times
	var resident float64
	for b.Loop() {
		c := exec.Command(bin, "--state", state, "run", path)
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		awaitInjected(b, state)
		pid, seconds := guardian(b, state)
		resident = max(resident, residentMB(b, pid))
		took = append(took, time.Duration(seconds*1e9))
		if err := c.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	took.report(b)
	b.ReportMetric(resident, "max-resident-MB")
}

// guardian reads the journal of the run that goes on.
func guardian(b *testing.B, state string) (pid int, seconds float64) {
	b.Helper()
	for _, path := range journals(state) {
		data, _ := os.ReadFile(path)
		for line := range bytes.Lines(data) {
			var e struct {
				Kind     experiment.EventKind
				Seconds  float64
				Guardian struct{ Process experiment.ProcessID }
			}
			if json.Unmarshal(line, &e) == nil && e.Kind == experiment.EventGuardian {
				return e.Guardian.Process.PID, e.Seconds
			}
		}
	}
	b.Fatal("no guardian is armed")
	return 0, 0
}

func residentMB(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, pages int
	if err == nil {
		_, err = fmt.Sscan(string(data), &size, &pages)
	}
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / 1e6
}

// BenchmarkHundredChecks is the CPU that a run with 100 checks each 100 ms
// costs, in percent of a core, in excess of the same run with one check. Goal: 5.
func BenchmarkHundredChecks(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer answers.Close()
	traffic := "  traffic:\n  - {name: load, url: \"http://" + l.Addr().String() + "/\", rate: 1/s}\n"
	for _, c := range []struct{ name, more, check string }{
		{"tcp", "", "probe: {type: tcp, address: \"" + l.Addr().String() + "\"}, max: 1s"},
		{"traffic", traffic, "traffic: load, measure: rate, max: 1000"},
		{"http", "", "probe: {type: http, url: \"" + answers.URL + "\"}, max: 299"},
	} {
		b.Run(c.name, func(b *testing.B) { checksCost(b, c.more, c.check) })
	}
}

func checksCost(b *testing.B, more, check string) {
	bin, id, state := simian(b), sleeper(b), b.TempDir()
	spec := func(n int) string {
		var s strings.Builder
		s.WriteString(more + "  steady: {for: 1s}\n  hypothesis:\n    every: 100ms\n    checks:\n")
		for i := range n {
			fmt.Fprintf(&s, "    - {name: check %d, %s, allow: 100}\n", i, check)
		}
		fmt.Fprintf(&s, "  method:\n  - {fault: {type: freeze}, target: {type: process, pid: %d}, for: 5s}\n", id.PID)
		return s.String()
	}
	share := func(n int) float64 {
		c := exec.Command(bin, "--state", state, "run", file(b, spec(n)))
		start := time.Now()
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		cpu := c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		return 100 * cpu.Seconds() / time.Since(start).Seconds()
	}
	var excess, hundred []float64
	for b.Loop() {
		one, all := share(1), share(100)
		hundred, excess = append(hundred, all), append(excess, all-one)
	}
	slices.Sort(hundred)
	slices.Sort(excess)
	b.ReportMetric(hundred[len(hundred)/2], "percent-of-a-core")
	b.ReportMetric(excess[len(excess)/2], "percent-more-than-1-check")
	b.ReportMetric(0, "ns/op")
}
