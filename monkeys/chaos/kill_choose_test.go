package chaos

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
)

// herd is a target of several processes: sleep 601, sleep 602 …
func herd(t testing.TB, n int) ([]*prey, experiment.Target) {
	t.Helper()
	var all []*prey
	var pids []int
	for i := range n {
		cmd := exec.Command("sleep", strconv.Itoa(601+i))
		must(t, cmd.Start())
		p := &prey{cmd: cmd}
		t.Cleanup(p.kill)
		await(t, "sleep", func() bool { st, err := host.Stat(cmd.Process.Pid); return err == nil && st.Comm == "sleep" })
		id, err := host.Identify(cmd.Process.Pid)
		must(t, err)
		p.id = id
		all, pids = append(all, p), append(pids, id.PID)
	}
	target, err := host.Target(pids...)
	must(t, err)
	target.Kind, target.Name, target.ID = "process", "web", all[0].id.Handle()
	return all, target
}

func TestKillChosenConformance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  *Kill
		target func(t testing.TB) experiment.Target
	}{
		"processes by name":   {&Kill{Process: "sleep", fs: host}, func(t testing.TB) experiment.Target { _, target := herd(t, 3); return target }},
		"a process by line":   {&Kill{Pattern: "sleep 60[12]$", Count: 1, fs: host}, func(t testing.TB) experiment.Target { _, target := herd(t, 3); return target }},
		"in a container":      {&Kill{Process: "sleep", Pattern: " 7", fs: host}, patientContainer},
		"all of a container ": {&Kill{Pattern: ".", fs: host}, patientContainer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: c.fault, Ops: op.All(host), NoUndo: true, Target: c.target,
				Snapshot: func(target experiment.Target) string {
					all, err := host.Within(target)
					if err != nil {
						return err.Error()
					}
					var lines []string
					for _, s := range all {
						lines = append(lines, s.ID().Handle())
					}
					return strings.Join(lines, "\n")
				},
				Gone: func(t testing.TB, target experiment.Target) {
					all, err := host.Within(target)
					must(t, err)
					for _, s := range all {
						must(t, murder(s.ID()))
					}
					for _, s := range all {
						await(t, "death", func() bool { return !host.Alive(s.ID()) })
					}
				},
			})
		})
	}
}

func murder(id experiment.ProcessID) error {
	if err := op.NewSignal(host, id, "sleep", "KILL").Apply(context.Background()); err != nil && !errors.Is(err, experiment.ErrGone) {
		return err
	}
	return nil
}

// busyContainer has a main process that starts a helper again whenever it ends.
func busyContainer(t testing.TB) experiment.Target {
	return helped(t, "sleep 602 & while :; do sleep 701; done")
}

// patientContainer has a main process that waits for its helpers, and starts
// none anew: what is done to it stays as it is.
func patientContainer(t testing.TB) experiment.Target {
	return helped(t, "sleep 602 & sleep 701 & wait")
}

// helped is a container whose main process, a shell's script, has two helpers.
func helped(t testing.TB, script string) experiment.Target {
	t.Helper()
	target := contained(t, box.Limits{}, "sh", "-c", script)
	await(t, "its helpers", func() bool { return len(lines(t, target)) == 3 })
	return target
}

// lines are the command lines of a target's processes.
func lines(t testing.TB, target experiment.Target) (list []string) {
	t.Helper()
	all, err := host.Within(target)
	must(t, err)
	for _, s := range all {
		if args, err := host.Cmdline(s.PID); err == nil && (len(args) != 3 || s.PID == target.PIDs[0].PID) {
			list = append(list, strings.Join(args, " "))
		}
	}
	return list
}

// TestKillHelper kills a helper in a container again and again: the main
// process, the other helper, and a process of that name outside live on.
func TestKillHelper(t *testing.T) {
	t.Parallel()
	target := busyContainer(t)
	outside, _ := herd(t, 1)
	fault := &Kill{Pattern: "^sleep 701", fs: host}
	seen := map[int]bool{}
	for range 3 {
		var steps []experiment.Step
		await(t, "the helper", func() (ok bool) {
			var err error
			steps, err = fault.Plan(t.Context(), "abcd23", target)
			if err != nil && !errors.Is(err, experiment.ErrNoMatch) {
				t.Fatal(err)
			}
			return err == nil
		})
		do := steps[0].Do.(*op.Signals)
		if len(steps) != 1 || len(do.Processes) != 1 || do.Leans() != "" || seen[do.Processes[0].Process.PID] {
			t.Fatalf("planned: %v, leans on %q", do, do.Leans())
		}
		seen[do.Processes[0].Process.PID] = true
		must(t, do.Apply(t.Context()))
		ev, err := do.Verify(t.Context())
		want := "1 gone: " + do.Processes[0].String()
		if err != nil || !ev.InForce || ev.Felt != experiment.FeltYes || ev.What != want {
			t.Errorf("%+v, %v; want %s", ev, err, want)
		}
	}
	if !host.Alive(target.PIDs[0]) || !host.Alive(outside[0].id) || !strings.Contains(strings.Join(lines(t, target), "\n"), "sleep 602") {
		t.Error("another is dead too")
	}
}

// TestKillChosenLeans wants the restart policy where the main process is one
// of those killed, and only there.
func TestKillChosenLeans(t *testing.T) {
	t.Parallel()
	target := busyContainer(t)
	for pattern, want := range map[string]string{"^sleep 602$": "", "^sh ": "restart: always", ".": "restart: always"} {
		steps, err := (&Kill{Pattern: pattern, fs: host}).Plan(t.Context(), "abcd23", target)
		must(t, err)
		if got := steps[0].Do.(experiment.Leaning).Leans(); got != want {
			t.Errorf("%s leans on %q, want %q", pattern, got, want)
		}
	}
}

func TestKillCount(t *testing.T) {
	t.Parallel()
	_, target := herd(t, 6)
	drawn := map[string]bool{}
	for _, run := range []experiment.RunID{"abcd23", "abcd24", "abcd25", "abcd26", "abcd27", "abcd32"} {
		fault := &Kill{Process: "sleep", Count: 2, fs: host}
		first, err := fault.Plan(t.Context(), run, target)
		must(t, err)
		if n := len(first[0].Do.(*op.Signals).Processes); n != 2 {
			t.Errorf("%d processes", n)
		}
		drawn[first[0].Do.String()] = true
	}
	if len(drawn) < 2 {
		t.Errorf("it is the same ones whatever the run: %v", drawn)
	}
}

func TestKillChosenGolden(t *testing.T) {
	t.Parallel()
	all, target := herd(t, 2)
	var pairs []string
	for i, p := range all {
		n := strconv.Itoa(812 + i)
		pairs = append(pairs, p.id.String(), "pid "+n, p.id.Handle(), "process:"+n+":99123")
	}
	steps, err := (&Kill{Process: "sleep", Signal: "TERM", fs: host}).Plan(t.Context(), "abcd23", target)
	must(t, err)
	golden(t, "kill-chosen", strings.NewReplacer(pairs...).Replace(describe(steps)))
}

func TestKillChosenRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kill Kill
		want string
	}{
		{Kill{Pattern: "java ("}, `pattern: "java (" is not a regular expression: missing closing ): ` + "`java (`"},
		{Kill{Process: "/usr/bin/java"}, `process: "/usr/bin/java" is a path: give the last part of it, "java"`},
		{Kill{Process: "simian"}, `process: "simian" is Simian itself: protected`},
		{Kill{Process: "simian-guardian"}, `process: "simian-guardian" is Simian itself: protected`},
		{Kill{Process: "java", Count: -1}, "count: -1 is no number of processes"},
		{Kill{Count: 2}, "count: goes with process or pattern: the main process is one"},
	} {
		var field *experiment.FieldError
		err := c.kill.Validate()
		if !errors.As(err, &field) || field.Field+": "+field.Err.Error() != c.want {
			t.Errorf("%+v: %v\nwant %s", c.kill, err, c.want)
		}
	}
	_, target := herd(t, 2)
	_, err := (&Kill{Process: "sleeep", fs: host}).Plan(t.Context(), "abcd23", target)
	want := "none of its processes is process \"sleeep\" (did you mean \"sleep\"?): no target matches\n        processes: sleep"
	if !errors.Is(err, experiment.ErrNoMatch) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestKillProtected has Simian itself among a target's processes.
func TestKillProtected(t *testing.T) {
	t.Parallel()
	_, target := herd(t, 1)
	self, err := host.Identify(os.Getpid())
	must(t, err)
	target.PIDs = append(target.PIDs, self)
	_, err = (&Kill{Pattern: ".", fs: host}).Plan(t.Context(), "abcd23", target)
	want := "pattern \".\" matches pid " + strconv.Itoa(os.Getpid()) + ", which is Simian itself: protected"
	if !errors.Is(err, experiment.ErrProtected) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := (&Kill{Pattern: "sleep", fs: host}).Plan(t.Context(), "abcd23", target); err != nil {
		t.Errorf("one that it does not match is in the way: %v", err)
	}
}
