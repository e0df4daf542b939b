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
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
)

func TestExecConformance(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, make := range victims("") {
		for _, where := range []string{op.Inside, op.Beside} {
			t.Run(name+" "+where, func(t *testing.T) {
				t.Parallel()
				h := op.NewHost(host)
				fault := &Exec{Where: where, host: h}
				experimenttest.Fault(t, experimenttest.FaultCase{
					Fault: fault, Ops: h.Ops(),
					Target: func(t testing.TB) experiment.Target {
						target, dir := make(t)
						if where == op.Beside {
							dir = t.TempDir()
						}
						target.Labels = map[string]string{"dir": dir}
						fault.Command = []string{"touch", dir + "/broken"}
						fault.Undo = []string{"sh", "-c", "rm -f " + dir + "/broken"}
						if name == "container" && where == op.Inside {
							fault.Undo = []string{"/bin/busybox", "rm", "-f", dir + "/broken"}
						}
						return target
					},
					Snapshot: func(target experiment.Target) string {
						dir := target.Labels["dir"]
						if where == op.Inside {
							dir = inside(target.PIDs[0].PID, dir)
						}
						names, _ := filepath.Glob(dir + "/*")
						return fmt.Sprint(names)
					},
					Gone: func(t testing.TB, target experiment.Target) {
						must(t, unix.Kill(target.PIDs[0].PID, unix.SIGKILL))
						await(t, "its end", func() bool { return !host.Alive(target.PIDs[0]) })
					},
				})
			})
		}
	}
}

// execCgroups lists the cgroups that commands of a run have in a target's.
func execCgroups(run string, pid int) (dirs []string) {
	c, err := host.Cgroup(pid)
	if err != nil {
		return nil
	}
	for _, dir := range op.ExecCgroups(c) {
		found, _ := filepath.Glob(dir.Path + "/simian-" + run + "-exec-*")
		dirs = append(dirs, found...)
	}
	return dirs
}

// runExec runs a command, and returns the evidence.
func runExec(t testing.TB, e *Exec, target experiment.Target) experiment.Evidence {
	t.Helper()
	e.host = op.NewHost(host)
	run := fmt.Sprintf("x%05d", target.PIDs[0].PID%100000)
	steps, err := e.Plan(t.Context(), experiment.RunID(run), target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	ev, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
	must(t, err)
	if left := execCgroups(run, target.PIDs[0].PID); len(left) > 0 {
		t.Errorf("left: %s", left)
	}
	return ev
}

// report is a command that says what it is and may do, and fails so that it is
// told.
const report = `{ cat /proc/self/status; for n in mnt net pid ipc uts cgroup user; do echo ns $n $(busybox readlink /proc/self/ns/$n); done; cat /proc/self/cgroup; env; hostname; } >/data/report`

// TestExecPrivileges holds what a command is and may do against the target's
// first process.
func TestExecPrivileges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*box.Spec){
		"docker's":         nil,
		"no_new_privs off": func(s *box.Spec) { s.NoNewPrivs = false },
		"another user":     func(s *box.Spec) { s.User = "1000:1001" },
		"no capability":    func(s *box.Spec) { s.Caps = nil },
		"a user namespace": func(s *box.Spec) { s.UserNS = &box.IDMap{HostID: 100000, Size: 65536} },
		"with init":        func(s *box.Spec) { s.Init = true },
		"without a filter": func(s *box.Spec) { s.Seccomp = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newContainer(t, func(s *box.Spec) {
				s.Mounts[0].Mode = 0o1777
				if change != nil {
					change(s)
				}
			})
			pid := target.PIDs[len(target.PIDs)-1].PID // after a reaper
			ev := runExec(t, &Exec{Command: []string{"sh", "-c", report}}, target)
			if !ev.InForce {
				t.Fatalf("%+v", ev)
			}
			t.Log(ev.What)
			data, err := os.ReadFile(inside(pid, "/data/report"))
			must(t, err)
			said := string(data)
			first, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			must(t, err)
			keys := []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask"}
			for _, key := range keys {
				if theirs, got := line(string(first), key), line(said, key); got != theirs {
					t.Errorf("%s: %q, the target's %q", key, got, theirs)
				}
			}
			if name == "another user" && (line(said, "Uid") != "1000\t1000\t1000\t1000" || line(said, "Gid") != "1001\t1001\t1001\t1001") {
				t.Errorf("user %s group %s", line(said, "Uid"), line(said, "Gid"))
			}
			for _, kind := range []string{"mnt", "net", "pid", "ipc", "uts", "user", "cgroup"} {
				theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
				must(t, err)
				if !strings.Contains(said, "ns "+kind+" "+theirs+"\n") {
					t.Errorf("namespace %s is not %s", kind, theirs)
				}
			}
			if !strings.Contains(said, "-exec-") || !strings.Contains(said, "MODE=test\n") || !strings.HasSuffix(said, "\nweb\n") {
				t.Errorf("it says\n%s", said)
			}
		})
	}
}

func line(text, key string) string {
	_, rest, _ := strings.Cut("\n"+text, "\n"+key+":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

// TestExecFilter tries what the target's seccomp filter forbids.
func TestExecFilter(t *testing.T) {
	t.Parallel()
	for name, filter := range map[string]bool{"with": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newContainer(t, func(s *box.Spec) {
				s.Caps = append(box.DefaultCaps(), "SYS_ADMIN")
				if !filter {
					s.Seccomp = nil
				}
			})
			ev := runExec(t, &Exec{Command: []string{"/bin/busybox", "unshare", "-U", "true"}}, target)
			if ev.InForce == filter {
				t.Errorf("%+v", ev)
			}
			t.Log(ev.What)
		})
	}
}

// TestExecTimeout kills a command, and all that it has started, also what has
// left its session.
func TestExecTimeout(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, make := range victims("") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, dir := make(t)
			mark := fmt.Sprintf("77%d", target.PIDs[0].PID)
			start := time.Now()
			ev := runExec(t, &Exec{
				Command: []string{"sh", "-c", "echo started; cd " + dir + "; setsid sleep " + mark + " & sleep " + mark},
				Timeout: experiment.Duration(300 * time.Millisecond),
			}, target)
			if ev.InForce || !strings.Contains(ev.What, "with all that it had started: started") || ev.Hint != "give it a longer timeout, or make it quicker" {
				t.Errorf("%+v", ev)
			}
			took(t, ev.What, start)
			pids, err := host.PIDs()
			must(t, err)
			for _, pid := range pids {
				if args, _ := host.Cmdline(pid); slices.Contains(args, mark) && !slices.Contains(args, "-c") {
					t.Errorf("pid %d goes on: %s", pid, args)
				}
			}
		})
	}
}

// TestExecEnd is how a command can end.
func TestExecEnd(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := newRoom(t, "size=1m")
	for _, c := range []struct {
		name  string
		exec  Exec
		force bool
		want  string
	}{
		{"well", Exec{Command: []string{"true"}}, true, `"true": exit 0 after `},
		{"badly", Exec{Command: []string{"sh", "-c", "echo one; echo two >&2; exit 3"}}, false, ": one | two"},
		{"as expected", Exec{Command: []string{"sh", "-c", "exit 3"}, Expect: 3}, true, `"sh" with 2 arguments: exit 3 after `},
		{"well, but not as expected", Exec{Command: []string{"true"}, Expect: 3}, false, "exit 0"},
		{"killed", Exec{Command: []string{"sh", "-c", "kill -TERM $$"}}, false, "killed by SIGTERM after "},
		{"much output", Exec{Command: []string{"sh", "-c", "yes secret | head -100000; exit 1"}}, false, "secret | secret | secret | secret | secret"},
		{"in the background", Exec{Command: []string{"sh", "-c", "sleep 60 & exit 0"}}, true, "exit 0 after "},
		{"beside", Exec{Command: []string{"sh", "-c", "test -d /proc/$SIMIAN_PID && test \"$HOME\" = /root"}, Where: op.Beside}, true, "exit 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ev := runExec(t, &c.exec, r.Target)
			if ev.InForce != c.force || !strings.Contains(ev.What, c.want) || len(ev.What) > 800 {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// TestExecJournal looks for the command in what is written down: the undo's is
// there, that of the change is not.
func TestExecJournal(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := newRoom(t, "size=1m")
	h := op.NewHost(host)
	fault := &Exec{Command: []string{"sh", "-c", "echo hunter2"}, Undo: []string{"sh", "-c", "echo undone >" + r.dir + "/undone"}, host: h}
	steps, err := fault.Plan(t.Context(), "abcd23", r.Target)
	must(t, err)
	if text := steps[0].Do.String() + steps[0].Undo.String(); strings.Contains(text, "hunter2") || strings.Contains(text, "undone") {
		t.Error(text)
	}
	line, err := experiment.Codec{Ops: h.Ops()}.Marshal(&experiment.Event{Kind: experiment.EventAnnounce, Steps: []experiment.PlannedStep{{N: 1, Target: "t", Step: steps[0]}}})
	must(t, err)
	if strings.Contains(string(line), "hunter2") || !strings.Contains(string(line), "echo undone") {
		t.Errorf("%s", line)
	}
	undoElsewhere(t, steps)
	if _, err := os.Stat(r.path(r.dir + "/undone")); err != nil {
		t.Error(err)
	}
}

// TestExecUndoFails keeps an undo that fails from being taken for done.
func TestExecUndoFails(t *testing.T) {
	t.Parallel()
	needRoot(t)
	r := newRoom(t, "size=1m")
	fault := &Exec{Command: []string{"true"}, Undo: []string{"sh", "-c", "test -e " + r.dir + "/ready || { echo not yet; exit 4; }"}, host: op.NewHost(host)}
	steps, err := fault.Plan(t.Context(), "abcd23", r.Target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	err = steps[0].Undo.Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), `the undo command "sh" with 2 arguments: exit 4 after `) || !strings.HasSuffix(err.Error(), ": not yet") {
		t.Error(err)
	}
	if ev, err := steps[0].Undo.(experiment.Verifier).Verify(t.Context()); err != nil || ev.InForce {
		t.Errorf("%+v, %v", ev, err)
	}
	must(t, os.WriteFile(r.path(r.dir+"/ready"), nil, 0o600))
	must(t, steps[0].Undo.Apply(t.Context()))
	if ev, err := steps[0].Undo.(experiment.Verifier).Verify(t.Context()); err != nil || !ev.InForce {
		t.Errorf("%+v, %v", ev, err)
	}
}

func TestExecRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	target := newContainer(t, nil)
	for _, c := range []struct {
		name string
		exec Exec
		want string
	}{
		{"no such command inside", Exec{Command: []string{"python3"}}, `there is no command "python3" in the target: file does not exist`},
		{"no such undo", Exec{Command: []string{"touch"}, Undo: []string{"/bin/rmx"}}, `there is no command "/bin/rmx" in the target`},
		{"no such command beside", Exec{Command: []string{"simian-nowhere"}, Where: op.Beside}, `there is no command "simian-nowhere" on this host`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.exec.host = op.NewHost(host)
			_, err := c.exec.Plan(t.Context(), "abcd23", target)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestExecValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		exec Exec
		want string
	}{
		{Exec{Command: []string{"true"}}, "<nil>"},
		{Exec{Command: []string{"true"}, Undo: []string{"true"}, Where: "beside", Timeout: experiment.Duration(9 * time.Second), Expect: 255}, "<nil>"},
		{Exec{}, "command is missing: what is run, as a list of words: [sh, -c, …]"},
		{Exec{Command: []string{""}}, "command: its first word is empty"},
		{Exec{Command: []string{"true"}, Undo: []string{"a\x00"}}, "undo: there is a zero byte in it"},
		{Exec{Command: []string{"true"}, Where: "outside"}, "where: unknown word \"outside\"\n        words: inside beside"},
		{Exec{Command: []string{"true"}, Timeout: experiment.Duration(time.Minute)}, "timeout: 1m0s is longer than 9s"},
		{Exec{Command: []string{"true"}, Expect: 256}, "expect: 256 is no exit code (0 to 255)"},
	} {
		if got := fmt.Sprint(c.exec.Validate()); got != c.want {
			t.Errorf("%+v: %s, want %s", c.exec, got, c.want)
		}
	}
	if (&Exec{Undo: []string{"true"}}).Instant() || !(&Exec{}).Instant() {
		t.Error("a command without an undo holds nothing")
	}
}

// TestExecTraced has a debugger hold the target: its filters can't be read.
// The target goes on, as it does after each command.
func TestExecGoesOn(t *testing.T) {
	t.Parallel()
	target := newContainer(t, func(s *box.Spec) {
		s.Args = []string{"/bin/busybox", "sh", "-c", "trap 'echo >>/data/caught' USR1; while :; do sleep 0.01; echo >>/data/beat; done"}
	})
	pid := target.PIDs[0].PID
	for range 20 {
		must(t, unix.Kill(pid, unix.SIGUSR1))
		if ev := runExec(t, &Exec{Command: []string{"touch", "/data/x"}}, target); !ev.InForce {
			t.Fatalf("%+v", ev)
		}
	}
	beat, _ := os.Stat(inside(pid, "/data/beat"))
	await(t, "the next beat", func() bool {
		now, err := os.Stat(inside(pid, "/data/beat"))
		return err == nil && now.Size() > beat.Size()
	})
	await(t, "its signals", func() bool { s, err := os.Stat(inside(pid, "/data/caught")); return err == nil && s.Size() > 10 })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	if line(string(status), "TracerPid") != "0" {
		t.Error("it is traced still")
	}
}

// execEnv has the test binary run a command in a target, and be killed.
const execEnv = "SIMIAN_TEST_EXEC"

func init() {
	pid, err := strconv.Atoi(os.Getenv(execEnv))
	if err != nil {
		return
	}
	target, err := host.Target(pid)
	if err == nil {
		e := &Exec{Command: []string{"sh", "-c", "setsid sleep 88" + strconv.Itoa(pid) + " & sleep 88" + strconv.Itoa(pid)}, Undo: []string{"true"}, host: op.NewHost(host)}
		var steps []experiment.Step
		if steps, err = e.Plan(context.Background(), "abcd29", target); err == nil {
			codec := experiment.Codec{Ops: op.All(host)}
			line, _ := codec.Marshal(&experiment.Event{Kind: experiment.EventAnnounce, Steps: []experiment.PlannedStep{{N: 1, Target: "t", Step: steps[0]}}})
			fmt.Println(string(line))
			err = steps[0].Do.Apply(context.Background())
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestExecRunnerKilled kills Simian while a command runs: the command dies
// with it, and the undo ends what that has started.
func TestExecRunnerKilled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	target := newContainer(t, nil)
	pid := target.PIDs[0].PID
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), execEnv+"="+strconv.Itoa(pid))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	buffer := make([]byte, 1<<16)
	n, err := out.Read(buffer)
	if err != nil || buffer[0] != '{' {
		t.Fatalf("%s, %v", buffer[:n], err)
	}
	sleepers := func() (n int) {
		pids, _ := host.PIDs()
		for _, p := range pids {
			if args, _ := host.Cmdline(p); len(args) == 2 && args[1] == "88"+strconv.Itoa(pid) {
				n++
			}
		}
		return n
	}
	go func() {
		n, _ := out.Read(make([]byte, 1<<16))
		if n > 0 {
			t.Error("it ended")
		}
	}()
	await(t, "the command", func() bool { return sleepers() == 2 })
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	var e experiment.Event
	must(t, experiment.Codec{Ops: op.All(host)}.Decoder()(buffer[:n], &e))
	must(t, e.Steps[0].Undo.Apply(t.Context()))
	if left := execCgroups("abcd29", pid); len(left) > 0 || sleepers() > 0 {
		t.Errorf("left: %s, %d processes", left, sleepers())
	}
	if err := e.Steps[0].Do.Apply(t.Context()); err == nil || errors.Is(err, experiment.ErrGone) {
		t.Errorf("a command that is not in the journal: %v", err)
	}
}
