package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// blow is one way to strike a run.
type blow struct {
	name   string
	slack  time.Duration                                 // of run; 0 is its own
	manner func(t *trial) (manner, error)                // how the runner is started
	fall   func(t *trial) error                          // strikes, and calls whoever takes back then
	until  experiment.EventKind                          // a run struck before this event of its own must not pass
	may    func(t *trial, code int, lines []line) string // why the runner's own exit code is wrong, "" where it is not
	lab    bool                                          // the run launches a lab
	stands bool                                          // the lab stands, and others strike it
	fails  bool                                          // the run may end with an error
	kills  bool                                          // the runner is killed at the very moment
	net    bool                                          // the run breaks a network
	queue  bool                                          // and has a helper that holds packets
}

// slack replaces the 30 s that a guardian waits beyond all that a file allows,
// where a run is made to stand still.
const slack = 150 * time.Millisecond

// blows are those that this host can bear.
func blows(h host) []blow {
	session := func(*trial) (manner, error) { return manner{attr: syscall.SysProcAttr{Setsid: true}}, nil }
	list := []blow{
		{name: "runner killed", manner: session, fall: (*trial).killRunner, until: experiment.EventEnd, kills: true},
		{name: "guardian killed", manner: session, fall: (*trial).killGuardian, until: experiment.EventTakeBack, may: (*trial).afterGuardian},
		{name: "both killed", manner: session, fall: (*trial).killBoth, until: experiment.EventEnd},
		{name: "runner stopped", slack: slack, manner: session, fall: (*trial).stopRunner},
		{name: "group or session killed", manner: (*trial).groupOrSession, fall: (*trial).killGroup, until: experiment.EventEnd, kills: true},
		{name: "terminal gone", manner: (*trial).onTerminal, fall: (*trial).takeTerminal},
	}
	if h.killable != "" {
		list = append(list, blow{name: "cgroup killed", manner: (*trial).inCgroup, fall: (*trial).killItsCgroup, until: experiment.EventEnd, kills: true})
	}
	return list
}

// labBlows are those that befall labs.
func labBlows(h host) []blow {
	list := blows(h)
	for i := range list {
		list[i].lab = true
		list[i].name = "lab, " + list[i].name
	}
	list = append(list, blow{name: "lab, fork server killed", manner: list[0].manner, fall: (*trial).killForkServer, lab: true, fails: true})
	return append(list, standBlows()...)
}

// hitRunner waits until the runner has ended, and takes down whether it was
// the blow that ended it. Until now it may have gone on.
func (t *trial) hitRunner() {
	t.blown = bootNow()
	if t.runner.ended(patience) {
		status, _ := t.runner.cmd.ProcessState.Sys().(syscall.WaitStatus)
		t.struck = status.Signaled()
	}
}

func (t *trial) killRunner() error {
	t.fallen()
	t.runner.signal(unix.SIGKILL)
	t.hitRunner()
	return nil
}

// killForkServer kills the small process that forks the lab's containers,
// perhaps with an order that it has not answered. They live on, and those that
// are started afterwards need another one.
func (t *trial) killForkServer() error {
	t.timed = false // it goes on
	for !t.runner.ended(100 * time.Microsecond) {
		for _, pid := range children(proc.Host(), t.runner.pid()) {
			id, err := proc.Host().Identify(pid)
			args, _ := proc.Host().Cmdline(pid)
			if err == nil && innerPID(pid) == "" && len(args) > 0 && args[0] == stageName {
				t.fallen()
				if t.rng.IntN(2) == 0 {
					t.note("it was stopped before (alive: %v)", sendID(id, unix.SIGSTOP))
					time.Sleep(time.Duration(t.rng.IntN(200)) * time.Millisecond)
				}
				t.struck = killID(id)
				return nil
			}
		}
	}
	return nil
}

// guardian finds the guardian, which it waits for unless the run ends first.
func (t *trial) guardian() (experiment.ProcessID, bool) {
	for {
		if id, ok := t.findGuardian(); ok {
			return id, true
		}
		if t.runner.ended(100 * time.Microsecond) {
			return experiment.ProcessID{}, false
		}
	}
}

func (t *trial) findGuardian() (experiment.ProcessID, bool) { return guardianOf(t.runner.pid()) }

// guardianOf finds the guardian of a process.
func guardianOf(runner int) (experiment.ProcessID, bool) {
	fs := proc.Host()
	pids, _ := fs.PIDs()
	for _, pid := range pids {
		st, err := fs.Stat(pid)
		if err != nil || st.PPID != runner || st.Exited() {
			continue
		}
		if args, err := fs.Cmdline(pid); err == nil && len(args) > 0 && args[0] == guardianName {
			return st.ID(), true
		}
	}
	return experiment.ProcessID{}, false
}

// killID kills the very process, and tells whether it was alive.
func killID(id experiment.ProcessID) bool { return sendID(id, unix.SIGKILL) }

// sendID sends a signal to the very process. PID 1 is nobody's victim.
func sendID(id experiment.ProcessID, sig unix.Signal) bool {
	if id.PID <= 1 {
		return false
	}
	fd, err := proc.OpenPidfd(id)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}

func (t *trial) killGuardian() error {
	id, ok := t.guardian()
	if !ok {
		return nil
	}
	t.fallen()
	t.struck = killID(id)
	t.note("guardian %s killed", id)
	return nil
}

// afterGuardian: the runner takes back, and says so.
func (t *trial) afterGuardian(code int, lines []line) string {
	switch {
	case code == experiment.Aborted.ExitCode():
		return ""
	case code == experiment.Errored.ExitCode() && count(lines, experiment.EventAnnounce) == 0:
		return "" // it could not be armed, so nothing was injected
	case code == experiment.Fail.ExitCode() && t.recipe.checks != "":
		return "" // a check had failed before
	case code == experiment.NotInjected.ExitCode() && count(lines, experiment.EventMissed) > 0:
		return ""
	case code == experiment.Errored.ExitCode() && t.clashes():
		return ""
	}
	return fmt.Sprintf("its guardian was killed before it took anything back, and it ended with exit %d, not 3", code)
}

// killBoth kills runner and guardian shortly after each other, in either
// order, and then calls the sweep.
func (t *trial) killBoth() error {
	id, armed := t.findGuardian()
	gap := time.Duration(t.rng.IntN(6000)) * time.Microsecond
	if t.rng.IntN(3) == 0 {
		gap = 0
	}
	t.fallen()
	t.killed = t.blown
	if t.rng.IntN(2) == 0 {
		t.runner.signal(unix.SIGKILL)
		time.Sleep(gap)
		t.note("runner killed, guardian %s later (alive: %v)", gap, armed && killID(id))
	} else {
		t.note("guardian killed (alive: %v), runner %s later", armed && killID(id), gap)
		time.Sleep(gap)
		t.killed = bootNow()
		t.runner.signal(unix.SIGKILL)
	}
	t.hitRunner()
	t.settleBoth()
	return t.sweep()
}

// sweep calls the next command, which takes back what is left: perhaps only
// the second does, because the first is killed too.
func (t *trial) sweep() error {
	t.relief = time.Now()
	if t.rng.IntN(3) == 0 {
		if err := t.sweepKilled(); err != nil {
			return err
		}
	}
	args := []string{"rollback", "--all"}
	if t.rng.IntN(2) == 0 {
		h, err := t.recipe.herd(t.tag+"-next", nil, 1, false)
		if err != nil {
			return err
		}
		next := filepath.Join(t.work, "next.yaml")
		text := fmt.Sprintf("apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: next}\nspec:\n  method:\n"+
			"  - {fault: {type: freeze}, target: {type: process, pid: %d}, for: 5ms}\n", h.workers[0].cmd.Process.Pid)
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			return err
		}
		args = []string{"run", next}
	}
	t.relief = time.Now()
	return t.expect(0, args...)
}

func (t *trial) sweepKilled() error {
	s, err := t.start(manner{attr: syscall.SysProcAttr{Setsid: true}}, "rollback", "--all")
	if err != nil {
		return err
	}
	after := time.Duration(t.rng.IntN(20000)) * time.Microsecond
	s.ended(after)
	s.signal(unix.SIGKILL)
	s.ended(patience)
	t.note("a first sweep killed after %s (exit %d)", after, s.code())
	return nil
}

// expect runs simian, which must end with this exit code.
func (t *trial) expect(want int, args ...string) error {
	code, out, err := t.simianRun(args...)
	t.note("simian %v: exit %d", args, code)
	if err == nil && code != want {
		t.leak("simian %v: exit %d, want %d: %s", args, code, want, out)
	}
	return err
}

// stopRunner stops the runner for longer than it may stand still, or has it
// rolled back while it is stopped. Then it may go on, if it can.
func (t *trial) stopRunner() error {
	t.fallen()
	t.runner.signal(unix.SIGSTOP)
	t.struck = !t.runner.ended(time.Millisecond)
	defer t.runner.signal(unix.SIGCONT)
	t.tail.read()
	if (t.blow.lab || t.rng.IntN(2) == 0) && len(t.tail.data) > 0 {
		t.relief = time.Now()
		return t.expect(0, "rollback", t.tail.run)
	}
	allowed := t.recipe.length + steady + within + slack
	deadline := t.tail.deadline()
	if deadline == 0 {
		t.timed = false
		t.note("no guardian yet; goes on by itself: %v", !t.runner.ended(allowed+300*time.Millisecond))
		return nil
	}
	left := deadline.Sub(bootNow())
	t.relief = t.relief.Add(deadline.Sub(t.blown))
	t.runner.ended(left)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if t.runner.ended(10*time.Millisecond) || t.disarmed() {
			return nil
		}
	}
	t.leak("stopped past its deadline, and the guardian does not end it")
	return nil
}

// disarmed tells whether the run is finished and its guardian gone: then
// nobody ends what stands still right before its own end.
func (t *trial) disarmed() bool {
	_, watched := t.findGuardian()
	return !watched && len(t.journals("open")) == 0 && len(t.journals("done")) > 0
}
