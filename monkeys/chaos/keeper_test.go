package chaos

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
)

// ofKeeper makes a target of Simian's own of a process, as a selector does.
func ofKeeper(t testing.TB, p *prey) experiment.Target {
	t.Helper()
	target := p.target(t)
	target.Kind, target.Name = "native", "web-1"
	target.Runtime = &experiment.RuntimeRef{Runtime: "simian", ID: "web-1", Started: "1", Lab: "/var/lib/simian/labs/lab234", Keeper: experiment.ProcessID{PID: 700, Start: 9}}
	return target
}

// TestKeeperPlans writes down what is planned.
func TestKeeperPlans(t *testing.T) {
	t.Parallel()
	p := newPrey(t)
	target := ofKeeper(t, p)
	second := experiment.Duration(time.Second)
	for name, fault := range map[string]experiment.Fault{
		"stop": &Stop{fs: host}, "remove": &Remove{fs: host},
		"stop-all": &Stop{Signal: "SIGUSR1", Grace: &second, RestartAfter: 5 * second, fs: host},
	} {
		steps, err := fault.Plan(t.Context(), "abcd23", target)
		must(t, err)
		golden(t, name, describe(steps)+notes(steps))
	}
	o := op.Order{What: op.OrderCapabilities, Drop: CapNames{"cap_net_raw", "NET_BIND_SERVICE", "NET_RAW"}.names()}
	steps := ordered(host, "abcd23", target, o)
	o = op.Order{What: op.OrderClocks, MonotonicNs: int64(time.Hour), BoottimeNs: -int64(time.Minute)}
	golden(t, "keeper-restart", describe(append(steps, ordered(host, "abcd23", target, o)...)))
	target.Runtime = nil
	steps, err := (&Stop{fs: host}).Plan(t.Context(), "abcd23", target)
	must(t, err)
	numbers := strings.NewReplacer(p.id.String(), "pid 812", p.id.Handle(), "process:812:99123")
	golden(t, "stop-process", numbers.Replace(describe(steps)))
}

func notes(steps []experiment.Step) string {
	text := ""
	for _, s := range steps {
		for _, n := range s.Do.(experiment.Noted).Notes() {
			text += "note    " + n + "\n"
		}
	}
	return text
}

func TestKeeperValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault experiment.Validator
		want  string
	}{
		{&Stop{}, ""},
		{&Stop{Signal: "SIGINT"}, ""},
		{&Stop{Signal: "TREM"}, `unknown signal "TREM" (did you mean "TERM"?)`},
		{&Stop{Signal: "SIGSTOP"}, "SIGSTOP does not end a process, but leaves it as it is: the fault freeze does that, and takes it back"},
		{&Remove{}, ""},
		{&Capabilities{}, "say which capability it is to be without, such as NET_RAW"},
		{&Capabilities{Drop: CapNames{"NET_RAW", "cap_sys_admin"}}, ""},
		{&Capabilities{Drop: CapNames{"NET_ROW"}}, `unknown capability "NET_ROW" (did you mean "NET_RAW"?)` + "\n        capabilities: CHOWN DAC_OVERRIDE"},
		{&Capabilities{Drop: CapNames{"ALL"}}, `unknown capability "ALL"`},
		{&Capabilities{Drop: CapNames{""}}, `unknown capability ""`},
	} {
		if err := c.fault.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.fault, err, c.want)
		}
	}
}

func TestCapNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`"NET_RAW"`: `"NET_RAW"`, `["NET_RAW"]`: `"NET_RAW"`, `["NET_RAW","KILL"]`: `["NET_RAW","KILL"]`,
		`[]`: "", `7`: "", `[7]`: "", `{}`: "", `null`: "",
	} {
		var c CapNames
		err := c.UnmarshalJSON([]byte(text))
		if err != nil {
			if want != "" || err.Error() != "want a capability such as NET_RAW, or a list of them" {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if got, err := json.Marshal(c); err != nil || string(got) != want {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
}

// TestNotLaunched asks for what only a keeper can do, of a process.
func TestNotLaunched(t *testing.T) {
	t.Parallel()
	target := newPrey(t).target(t)
	docker := target
	docker.Runtime = &experiment.RuntimeRef{Runtime: "docker", ID: "1c9e", Started: "now"}
	long := experiment.Duration(time.Minute)
	for _, c := range []struct {
		fault  experiment.Fault
		target experiment.Target
		want   string
	}{
		{&Remove{fs: host}, target, "nothing here could start it again: only a container that Simian launched can be removed (a lab's, found by a target of type native): unsupported"},
		{&Remove{fs: host}, docker, "can be removed"},
		{&Capabilities{Drop: CapNames{"KILL"}, fs: host}, target, "only a container that Simian launched can be restarted without a capability"},
		{&Stop{RestartAfter: 1, fs: host}, target, "only a container that Simian launched can be started again"},
		{&Stop{Grace: &long, fs: host}, target, "a grace of 1m0s is too long for a process that has no keeper: 8s at the most"},
		{&Stop{fs: host}, experiment.Target{}, "it has no process here"},
		{&Remove{fs: host}, experiment.Target{}, "it has no process here"},
	} {
		_, err := c.fault.Plan(t.Context(), "abcd23", c.target)
		if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %v, want %q", c.fault, err, c.want)
		}
	}
}

// TestCapabilityItDoesNotHave would change nothing.
func TestCapabilityItDoesNotHave(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can take a capability away")
	}
	prey := make(chan *prey)
	go func() {
		runtime.LockOSThread() // it goes with this thread, whose child has no more than it
		defer close(prey)
		if unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYSLOG, 0, 0, 0) == nil {
			prey <- newPrey(t)
		}
	}()
	p := <-prey
	if p == nil {
		t.Fatal("no capability can be dropped")
	}
	target := ofKeeper(t, p)
	_, err := (&Capabilities{Drop: CapNames{"syslog"}, fs: host}).Plan(t.Context(), "abcd23", target)
	if want := "it does not have SYSLOG, so nothing would change\n        it has: CHOWN"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	p.kill()
	if _, err := (&Capabilities{Drop: CapNames{"CHOWN"}, fs: host}).Plan(t.Context(), "abcd23", target); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("%v, want ErrGone", err)
	}
}

func TestStopProcessConformance(t *testing.T) {
	t.Parallel()
	var p *prey
	experimenttest.Fault(t, experimenttest.FaultCase{
		Fault: &Stop{fs: host}, Ops: op.All(host), Snapshot: snapshot, NoUndo: true,
		Target: func(t testing.TB) experiment.Target { p = newPrey(t); return p.target(t) },
		Gone:   func(testing.TB, experiment.Target) { p.kill() },
	})
}

// TestStopProcess is killed where it does not end when it is asked to.
func TestStopProcess(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"exec sleep 60": "after TERM",
		"trap '' TERM; while sleep 0.02; do :; done":       "did not end within 50ms of TERM, and was killed",
		"trap 'exit 3' TERM; while sleep 0.02; do :; done": "after TERM",
	} {
		cmd := exec.Command("sh", "-c", script)
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		id, err := host.Identify(cmd.Process.Pid)
		must(t, err)
		await(t, "its trap", func() bool {
			sigs, err := host.Signals(id.PID)
			const term = 1 << 14
			return err == nil && ((sigs.Caught|sigs.Ignored)&term != 0 || strings.HasPrefix(script, "exec"))
		})
		grace := 5 * time.Second
		if strings.Contains(want, "50ms") {
			grace = 50 * time.Millisecond
		}
		end := op.NewEnd(host, id, "web", "TERM", grace)
		must(t, end.Apply(t.Context()))
		if ev, err := end.Verify(t.Context()); err != nil || !ev.InForce || !strings.Contains(ev.What, want) {
			t.Errorf("%s: %+v, %v, want %q", script, ev, err, want)
		}
	}
}
