package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/targets/native"
)

// freezeClient holds a run for as long as the test needs it.
const freezeClient = "  - {fault: {type: freeze}, target: {type: native, service: client}, for: 1h}\n"

// state reads what a run's lab was at.
func (l *lab) state(run string) native.State {
	l.t.Helper()
	s, err := native.ReadState(native.LabDir(l.dir, experiment.RunID(run)))
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// TestRunnerOfALabKilled kills the runner in mid-run: the kernel kills the
// containers, frozen ones too, and the guardian takes back the rest.
func TestRunnerOfALabKilled(t *testing.T) {
	l := newLab(t)
	file := l.experiment("{compose: "+l.compose(webService, clientService)+"}", freezeClient)
	c, run := l.start(experiment.EventInjected, "run", file)
	s := l.state(run)
	start := time.Now()
	_ = c.cmd.Process.Kill()
	dead(t, s)
	t.Logf("the containers are gone after %s", time.Since(start))
	l.waitForGuardians()
	t.Logf("all is gone after %s", time.Since(start))
	l.noLab()
	l.undoneOnce(t, run)
}

// TestSupervisorKilled does so to a standing lab.
func TestSupervisorKilled(t *testing.T) {
	l := newLab(t)
	s := l.shop()
	_ = unix.Kill(s.Process.PID, unix.SIGKILL)
	dead(t, s)
	l.waitForGuardians()
	l.noLab()
	l.undoneOnce(t, string(s.Run))
	if o := l.expect(0, "lab", "ps"); !strings.Contains(o.stdout, "no lab is up") {
		t.Errorf("%s", o.stdout)
	}
}

// TestSupervisorTold has it end by a signal: its containers are asked first.
func TestSupervisorTold(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
		l := newLab(t)
		s := l.shop()
		_ = unix.Kill(s.Process.PID, sig)
		dead(t, s)
		l.noLab()
		if o := l.expect(0, "logs", string(s.Run), "client"); !strings.Contains(o.stdout, "ended by terminated") {
			t.Errorf("%s", o.stdout)
		}
	}
}

// TestRunnerOfALabTold ends a run early, once while its lab comes up and once
// in its midst.
func TestRunnerOfALabTold(t *testing.T) {
	for _, kind := range []experiment.EventKind{experiment.EventBegin, experiment.EventAnnounce, experiment.EventContain, experiment.EventInjected} {
		t.Run(string(kind), func(t *testing.T) {
			l := newLab(t)
			file := l.experiment("{compose: "+l.compose(webService, clientService)+"}", freezeClient)
			c, _ := l.start(kind, "run", file)
			_ = c.cmd.Process.Signal(unix.SIGINT)
			<-c.done
			if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
				t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
			}
			l.noLab()
		})
	}
}

// TestLabKilledAtEveryWrite kills the runner, or tells it to end, at each
// write of the journal while its lab comes up and goes.
func TestLabKilledAtEveryWrite(t *testing.T) {
	l := newLab(t)
	file := l.experiment("{compose: "+l.compose(webService, clientService)+"}", "  - {fault: {type: freeze}, target: {type: native, service: client}, for: 1ms}\n")
	l.expect(0, "run", file)
	writes := l.events()
	if writes < 25 {
		t.Fatalf("the run writes %d events only", writes)
	}
	for n := 2; n <= writes; n++ {
		l.env = []string{fmt.Sprintf("SIMIAN_TEST_SIGNAL_AT=%s:%s:%d", []string{"before", "after"}[n%2], []string{"KILL", "INT"}[n/2%2], n)}
		o := l.simian("run", file)
		l.env = nil
		if o.code != -1 && o.code != 3 && o.code != 0 {
			t.Errorf("write %d of %d: exit %d\n%s%s", n, writes, o.code, o.stdout, o.stderr)
		}
		l.waitForGuardians()
		swept := l.expect(0, "rollback", "--all")
		l.noLab()
		if t.Failed() {
			t.Fatalf("write %d of %d: exit %d\n%s%s\nrollback: %s%s", n, writes, o.code, o.stdout, o.stderr, swept.stdout, swept.stderr)
		}
	}
}

// TestLabUpTold ends the launching of a standing lab, and kills who launches it.
func TestLabUpTold(t *testing.T) {
	l := newLab(t)
	never := l.compose("  web:" + container + "command: [sleep]\n    healthcheck: {test: [CMD, /inside, there, /ready], start_period: 1h}\n")
	c, _ := l.start(experiment.EventContain, "lab", "up", never)
	_ = c.cmd.Process.Signal(unix.SIGINT)
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() {
		t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
	}
	l.noLab()
	c, run := l.start(experiment.EventContain, "lab", "up", never)
	var s native.State
	for s.Process.PID == 0 {
		s, _ = native.ReadState(native.LabDir(l.dir, experiment.RunID(run)))
	}
	_ = unix.Kill(s.Process.PID, unix.SIGKILL)
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 6 || !strings.Contains(c.err.String(), "its process has ended") {
		t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
	}
	l.waitForGuardians()
	l.noLab()
}

// TestLabExecOnATerminal gives the command one of its own.
func TestLabExecOnATerminal(t *testing.T) {
	l := newLab(t)
	l.up(l.compose(webService))
	x := l.command("lab", "exec", "shop", "web", "/inside", "tty")
	f, err := pty.StartWithAttrs(x, &pty.Winsize{Rows: 33, Cols: 77}, &syscall.SysProcAttr{Setsid: true, Setctty: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := &syncBuffer{}
	go func() {
		for buf := make([]byte, 512); ; {
			n, err := f.Read(buf)
			_, _ = out.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	waitFor(t, "terminal of 77x33", out)
	if _, err := f.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, `typed "hello\n"`, out)
	_ = x.Wait()
	if code := x.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestStandingLabDiesWhileStruck kills its supervisor while a run holds a
// container of it frozen: the run ends, and nothing is left of either.
func TestStandingLabDiesWhileStruck(t *testing.T) {
	l := newLab(t)
	s := l.shop()
	c, run := l.startBeside(string(s.Run), experiment.EventInjected, "run", l.experiment("{name: shop}", freezeClient))
	_ = unix.Kill(s.Process.PID, unix.SIGKILL)
	dead(t, s)
	_ = c.cmd.Process.Signal(unix.SIGINT)
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != experiment.Aborted.ExitCode() && code != experiment.Residue.ExitCode() {
		t.Errorf("exit %d\n%s%s", code, c.out.String(), c.err.String())
	}
	l.waitForGuardians()
	l.noLab()
	l.undoneOnce(t, run)
	l.undoneOnce(t, string(s.Run))
}
