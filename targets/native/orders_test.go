package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/monkeys/chaos"
)

// condition is all that orders change of a container: whether it runs, with
// which capabilities and clocks.
func (s *stage) condition(name string) string {
	b := s.box(name)
	if b.Process.PID == 0 {
		return "down"
	}
	caps, err := proc0.Caps(b.Process.PID)
	clocks, _ := os.ReadFile(fmt.Sprintf("/proc/%d/timens_offsets", b.Process.PID))
	return fmt.Sprint(caps.Bounding.Names(), strings.Fields(string(clocks)), err)
}

// faultOf makes a fault of the Chaos Monkey.
func faultOf[F experiment.Fault](name string, set func(F)) experiment.Fault {
	f := chaos.All(proc0)[name]()
	if set != nil {
		set(f.(F))
	}
	return f
}

func withoutRaw() experiment.Fault {
	return faultOf("capabilities", func(f *chaos.Capabilities) { f.Drop = chaos.CapNames{"cap_net_raw", "KILL"} })
}

// clocks is a fault that does no more than leave the order to move clocks.
type clocks struct{ monotonic, boottime time.Duration }

func (c clocks) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	o := op.Order{
		Container: t.Runtime.ID, Run: run, Process: t.PIDs[0], What: op.OrderClocks,
		MonotonicNs: int64(c.monotonic), BoottimeNs: int64(c.boottime),
	}
	return []experiment.Step{{Do: op.NewKeep(proc0, t.Runtime, o, true), Undo: op.NewKeep(proc0, t.Runtime, o, false)}}, nil
}

// TestOrdersConformance holds every fault that is an order to the suite, in
// containers that no policy restarts.
func TestOrdersConformance(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]experiment.Fault{
		"stop":         faultOf[*chaos.Stop]("stop", nil),
		"remove":       faultOf[*chaos.Remove]("remove", nil),
		"capabilities": withoutRaw(),
		"clocks":       clocks{time.Hour, 2*time.Hour + time.Nanosecond},
		"clocks back":  clocks{-time.Second - time.Nanosecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			web := newService(t, "web", "sleep")
			web.Init = true // PID 1 does not heed what it has no handler for, as yet
			s := up(t, web)
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: op.All(proc0),
				Target:   func(t testing.TB) experiment.Target { return s.struck(t, "web-1") },
				Snapshot: func(experiment.Target) string { return s.condition("web-1") },
				Gone:     s.another,
			})
		})
	}
}

// another has a container restarted, so that another process is in it.
func (s *stage) another(t testing.TB, target experiment.Target) {
	step := s.strike(target.Name, clocks{time.Second, 0})
	s.applied(step.Undo)
}

// strike plans one fault on a container, and applies its one step.
func (s *stage) strike(name string, f experiment.Fault) experiment.Step {
	s.t.Helper()
	steps, err := f.Plan(s.t.Context(), "abcd23", s.struck(s.t, name))
	must(s.t, err)
	s.applied(steps[0].Do)
	return steps[0]
}

func (s *stage) applied(o experiment.Op) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	must(s.t, o.Apply(ctx))
}

// evidence is what an op says of itself.
func (s *stage) evidence(o experiment.Op) experiment.Evidence {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	ev, err := o.(experiment.Verifier).Verify(ctx)
	must(s.t, err)
	return ev
}

// says waits until an op is in force, and says these words of it.
func (s *stage) says(o experiment.Op, felt experiment.Felt, words ...string) {
	s.t.Helper()
	eventually(s.t, func() string {
		ev := s.evidence(o)
		lacks := slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(ev.What, w) })
		if !ev.InForce || ev.Felt != felt || lacks {
			return fmt.Sprintf("%s: %+v, want %q", o, ev, words)
		}
		return ""
	})
}

// TestStopHolds stops a container that its policy always restarts, and starts
// it again.
func TestStopHolds(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "gentle")
	web.Restart = Restart{Policy: "always", Delay: time.Millisecond}
	s := up(t, web)
	s.said("web-1", "stdout: ready")
	step := s.strike("web-1", faultOf[*chaos.Stop]("stop", nil))
	s.says(step.Do, experiment.FeltYes, "after SIGTERM (exit 0)", "held down")
	s.said("web-1", "stdout: ended by terminated")
	time.Sleep(50 * time.Millisecond)
	if b := s.box("web-1"); b.Starts != 1 || b.Process.PID != 0 || b.State != experiment.ContainerExited {
		t.Errorf("it does not stay down: %+v", b)
	}
	s.applied(step.Undo)
	if b := s.box("web-1"); b.Starts != 2 || b.Process.PID == 0 {
		t.Errorf("it is not started: %+v", b)
	}
	s.says(step.Undo, "")
	marks := s.told("web-1")
	ended, again := marks[2], marks[len(marks)-1]
	if ended.By != "stop of run abcd23" || again.By != "stop of run abcd23" || again.Policy != "" {
		t.Errorf("%+v", marks)
	}
	s.noOrders()
}

// noOrders wants nothing to be left of orders.
func (s *stage) noOrders() {
	s.t.Helper()
	left, _ := filepath.Glob(s.dir(op.OrdersDir, "*"))
	if len(left) > 0 {
		s.t.Errorf("left: %q", left)
	}
}

// TestStopKills is of a container that does not end when it is asked to.
func TestStopKills(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "stubborn")
	web.StopGrace = time.Hour
	s := up(t, web)
	s.said("web-1", "stdout: ready")
	grace := experiment.Duration(80 * time.Millisecond)
	step := s.strike("web-1", faultOf("stop", func(f *chaos.Stop) { f.Grace = &grace }))
	s.says(step.Do, experiment.FeltYes, "did not end within 80ms of SIGTERM, and was killed")
	s.applied(step.Undo)
	eventually(t, func() string {
		if said := s.log("web-1"); len(said) != 2 {
			return strings.Join(said, "\n")
		}
		return ""
	})
	step = s.strike("web-1", faultOf[*chaos.Stop]("stop", nil)) // it may take an hour
	s.says(step.Do, experiment.FeltNo, "asked to end by SIGTERM, and has not yet: it is killed after 1h0m0s")
	s.applied(step.Undo) // its grace is cut short
	if b := s.box("web-1"); b.Starts != 3 || b.Process.PID == 0 {
		t.Errorf("%+v", b)
	}
	s.noOrders()
}

// TestStopSignal asks by another signal.
func TestStopSignal(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "gentle"))
	s.said("web-1", "stdout: ready")
	step := s.strike("web-1", faultOf("stop", func(f *chaos.Stop) { f.Signal = "USR1" }))
	s.says(step.Do, experiment.FeltYes, "after SIGUSR1 (exit 0)")
	s.said("web-1", "stdout: ended by user defined signal 1")
	s.applied(step.Undo)
}

// TestRestartAfter has it started again before anybody takes it back.
func TestRestartAfter(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "gentle"))
	s.said("web-1", "stdout: ready")
	step := s.strike("web-1", faultOf("stop", func(f *chaos.Stop) { f.RestartAfter = experiment.Duration(150 * time.Millisecond) }))
	down := time.Now()
	b := s.until("web-1", "is started again", func(b Box) bool { return b.Starts == 2 && b.Process.PID != 0 })
	if took := time.Since(down); took < 100*time.Millisecond {
		t.Errorf("started again after %s", took)
	}
	s.says(step.Do, experiment.FeltYes, "; started again after 150ms")
	s.applied(step.Undo)
	if now := s.box("web-1"); now.Process != b.Process {
		t.Errorf("it was started once more: %+v", now)
	}
	s.noOrders()
}

// TestRemove throws away what a container has written, but for its volumes.
func TestRemove(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Mounts = []Mount{{Type: "volume", Source: "data", Target: "/data"}, {Type: "volume", Target: "/own"}}
	web.Init = true
	s := up(t, web)
	s.exec("web-1", "write", "/written", "twelve bytes")
	s.exec("web-1", "write", "/data/kept", "kept")
	s.exec("web-1", "write", "/own/kept", "kept")
	s.exec("web-1", "write", "/etc/passwd", "root:x:0:0::/:")
	step := s.strike("web-1", faultOf[*chaos.Remove]("remove", nil))
	s.says(step.Do, experiment.FeltYes, "removed in", "with 2 files of 26 bytes", "held down")
	if notes := step.Do.(experiment.Noted).Notes(); len(notes) != 1 || !strings.Contains(notes[0], "is lost") {
		t.Errorf("%q", notes)
	}
	s.applied(step.Undo)
	for path, there := range map[string]bool{"/written": false, "/data/kept": true, "/own/kept": true} {
		if _, exit := s.exec("web-1", "there", path); exit.Success() != there {
			t.Errorf("%s: %s", path, exit)
		}
	}
	if out, _ := s.exec("web-1", "head", "/etc/passwd"); !strings.Contains(out, "app:") {
		t.Errorf("its image's file is not back: %s", out)
	}
	s.noOrders()

	step = s.strike("web-1", faultOf("remove", func(f *chaos.Remove) { f.Volumes = true }))
	s.applied(step.Undo)
	for path, there := range map[string]bool{"/own/kept": false, "/data/kept": true} {
		if _, exit := s.exec("web-1", "there", path); exit.Success() != there {
			t.Errorf("%s: %s", path, exit)
		}
	}
}

// TestCapabilities restarts a container without one, which it does not need.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "serve", ":80"), "get", "http://localhost:80")
	s := up(t, web)
	before := s.condition("web-1")
	step := s.strike("web-1", withoutRaw())
	s.until("web-1", "is healthy", func(b Box) bool { return b.State == experiment.ContainerHealthy && b.Starts == 2 })
	s.says(step.Do, "", "restarted in", "without KILL, NET_RAW; running, healthy")
	caps, err := proc0.Caps(s.box("web-1").Process.PID)
	must(t, err)
	if all := strings.Join(caps.Bounding.Names(), " ") + strings.Join(caps.Permitted.Names(), " "); strings.Contains(all, "NET_RAW") || strings.Contains(all, " KILL") || !strings.Contains(all, "CHOWN") {
		t.Error(all)
	}
	if out, _ := s.exec("web-1", "head", "/proc/self/status"); !strings.Contains(out, "CapBnd:\t00000000a80405db") {
		t.Errorf("what is run in it has other capabilities:\n%s", out)
	}
	s.applied(step.Undo)
	if b := s.box("web-1"); b.Starts != 3 || b.Process.PID == 0 || s.condition("web-1") != before {
		t.Errorf("%+v", b)
	}
	if out, _ := s.exec("web-1", "head", "/proc/self/status"); !strings.Contains(out, "CapBnd:\t00000000a80425fb") {
		t.Errorf("what is run in it has other capabilities:\n%s", out)
	}
	s.noOrders()
}

// TestCapabilityThatIsNeeded takes one away without which it does not serve.
func TestCapabilityThatIsNeeded(t *testing.T) {
	t.Parallel()
	drop := faultOf("capabilities", func(f *chaos.Capabilities) { f.Drop = chaos.CapNames{"CHOWN"} })
	for name, policy := range map[string]Restart{"restarted": {Policy: "always", Delay: time.Millisecond}, "not restarted": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			web := newService(t, "web", "chown", "/file")
			web.Restart = policy
			s := up(t, web)
			s.said("web-1", "stdout: chowned")
			step := s.strike("web-1", drop)
			ended := map[string]string{"restarted": "; ended 3 times, at last: exit 1", "not restarted": "; ended once: exit 1"}[name]
			s.says(step.Do, experiment.FeltYes, "without CHOWN"+ended)
			s.applied(step.Undo)
			b := s.until("web-1", "runs", func(b Box) bool { return b.Process.PID != 0 })
			time.Sleep(50 * time.Millisecond)
			if now := s.box("web-1"); now.Process != b.Process {
				t.Errorf("it does not run on: %+v", now)
			}
			s.noOrders()
		})
	}
}

// TestOrdersTogether stops a container that has lost a capability, and takes
// both back, in either sequence.
func TestOrdersTogether(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "sleep"))
	before := s.condition("web-1")
	for _, stopFirst := range []bool{true, false} {
		caps := s.strike("web-1", withoutRaw())
		without := s.condition("web-1")
		stop := s.strike("web-1", faultOf("stop", func(f *chaos.Stop) { f.Signal = "KILL" }))
		if stopFirst {
			s.applied(stop.Undo)
			if now := s.condition("web-1"); now != without {
				t.Errorf("started with %s, want %s", now, without)
			}
			s.applied(caps.Undo)
		} else {
			s.applied(caps.Undo)
			if now := s.condition("web-1"); now != "down" {
				t.Errorf("it does not stay down: %s", now)
			}
			s.applied(stop.Undo)
		}
		if now := s.condition("web-1"); now != before {
			t.Errorf("%s, want %s", now, before)
		}
	}
	s.noOrders()
}

// TestOrderOfAnother meets a process that came in the place of the one planned.
func TestOrderOfAnother(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Restart = Restart{Policy: "always", Delay: time.Millisecond}
	s := up(t, web)
	steps, err := faultOf[*chaos.Stop]("stop", nil).Plan(t.Context(), "abcd23", s.struck(t, "web-1"))
	must(t, err)
	must(t, unix.Kill(s.box("web-1").Process.PID, unix.SIGKILL))
	s.until("web-1", "is started again", func(b Box) bool { return b.Starts == 2 && b.Process.PID != 0 })
	if err := steps[0].Do.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
	if b := s.box("web-1"); b.Starts != 2 {
		t.Errorf("%+v", b)
	}
	// One that a fault has had restarted meanwhile is another too.
	keep := *steps[0].Do.(*op.Keep)
	keep.Order.Process = s.box("web-1").Process
	keep.Order.Process.Start++
	s.leaveRaw("x.order", `{"container": "web-1", "what": "stop", "process": {"pid": 1}}`)
	s.leaveRaw("y.order", `{"container": "nobody"}`)
	s.leaveRaw("z.order", `not JSON`)
	for _, name := range []string{"x", "y", "z"} {
		eventually(t, func() string {
			data, _ := os.ReadFile(s.dir(op.OrdersDir, name+op.Answered))
			if strings.Contains(string(data), `"refused"`) {
				return ""
			}
			return name + ": " + string(data)
		})
		must(t, os.Rename(s.dir(op.OrdersDir, name+op.Ordered), s.dir(op.OrdersDir, name+op.Back)))
	}
	eventually(t, func() string {
		left, _ := filepath.Glob(s.dir(op.OrdersDir, "*"))
		return strings.Join(left, " ")
	})
	if b := s.box("web-1"); b.Starts != 2 || b.Process.PID == 0 {
		t.Errorf("%+v", b)
	}
}

func (s *stage) leaveRaw(name, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(s.dir("left"), []byte(text), 0o600))
	must(s.t, os.Rename(s.dir("left"), s.dir(op.OrdersDir, name)))
}

// TestOrdersOfALabThatIsDown gives up at once.
func TestOrdersOfALabThatIsDown(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "sleep"))
	step := s.strike("web-1", faultOf("stop", func(f *chaos.Stop) { f.Signal = "KILL" }))
	s.Rest()
	start := time.Now()
	for _, o := range []experiment.Op{step.Undo, step.Do} {
		if err := o.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v, want ErrGone", o, err)
		}
	}
	s.down()
	if _, err := step.Undo.(experiment.Verifier).Verify(t.Context()); !errors.Is(err, experiment.ErrGone) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

// TestUndoThatCannotStart tells why, and goes on trying.
func TestUndoThatCannotStart(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	s := up(t, web)
	step := s.strike("web-1", faultOf("stop", func(f *chaos.Stop) { f.Signal = "KILL" }))
	must(t, os.Remove(web.Rootfs+"/inside"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := step.Undo.Apply(ctx); err == nil || !strings.Contains(err.Error(), "web-1 is exited") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
	program, err := inside()
	must(t, err)
	must(t, os.Link(program, web.Rootfs+"/inside"))
	s.applied(step.Undo)
	if b := s.box("web-1"); b.Process.PID == 0 {
		t.Errorf("%+v", b)
	}
}

// TestClocksOfAContainer reads them inside: also in what is run in it.
func TestClocksOfAContainer(t *testing.T) {
	t.Parallel()
	for _, init := range []bool{false, true} {
		web := newService(t, "web", "clocks")
		web.Init = init
		s := up(t, web)
		step := s.strike("web-1", clocks{100 * time.Hour, 200 * time.Hour})
		s.says(step.Do, "", "with its clocks moved by 100h0m0s (monotonic) and 200h0m0s (boottime); running")
		var own unix.Timespec
		must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &own))
		out, _ := s.exec("web-1", "clocks", "once")
		var monotonic, boottime, day int64
		if _, err := fmt.Sscan(out, &monotonic, &boottime, &day); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if off := monotonic - own.Sec - 360000; off < 0 || off > 5 {
			t.Errorf("monotonic is off by %d s: %s", off, out)
		}
		if off := boottime - monotonic; off < 360000-5 || off > 360000+int64(400*24*time.Hour/time.Second) {
			t.Errorf("boottime is %d s before monotonic", off)
		}
		if off := day - time.Now().Unix(); off < -5 || off > 5 {
			t.Errorf("the time of day is moved by %d s", off)
		}
		s.applied(step.Undo)
		out, _ = s.exec("web-1", "clocks", "once")
		if _, err := fmt.Sscan(out, &monotonic); err != nil || monotonic-own.Sec > 60 {
			t.Errorf("monotonic is %d, and was %d", monotonic, own.Sec)
		}
	}
}

// TestClocksThatCannotBe are before the machine was started.
func TestClocksThatCannotBe(t *testing.T) {
	t.Parallel()
	s := up(t, newService(t, "web", "sleep"))
	step := s.strike("web-1", clocks{-1e6 * time.Hour, 0})
	eventually(t, func() string {
		if ev := s.evidence(step.Do); ev.InForce || !strings.Contains(ev.What, "numerical result out of range") {
			return fmt.Sprintf("%+v", ev)
		}
		return ""
	})
	s.applied(step.Undo)
	if b := s.box("web-1"); b.Process.PID == 0 {
		t.Errorf("%+v", b)
	}
}
