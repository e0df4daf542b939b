package main

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

var sessionOfItsOwn = manner{attr: syscall.SysProcAttr{Setsid: true}}

// standBlows are those that befall standing labs, and those who use them.
func standBlows() []blow {
	list := []blow{
		{name: "supervisor killed", fall: (*trial).killSupervisor, until: experiment.EventEnd, kills: true},
		{name: "its guardian killed", fall: (*trial).killItsGuardian},
		{name: "both killed", fall: (*trial).killLabAndGuardian, until: experiment.EventEnd},
		{name: "supervisor stopped", fall: (*trial).stopSupervisor},
		{name: "client killed", fall: (*trial).killClient},
		{name: "down, and a kill", fall: (*trial).raceDown},
	}
	for i := range list {
		list[i].name = "standing lab, " + list[i].name
		list[i].lab, list[i].stands = true, true
	}
	return list
}

// awaitSupervisor finds the process that keeps the lab up, which it waits for
// unless the life ends first.
func (t *trial) awaitSupervisor() (experiment.ProcessID, bool) {
	for {
		if id, ok := t.supervisor(); ok {
			return id, true
		}
		select {
		case <-t.life.ended:
			return t.supervisor()
		case <-time.After(100 * time.Microsecond):
		}
	}
}

func (t *trial) killSupervisor() error {
	id, ok := t.awaitSupervisor()
	if !ok {
		return nil
	}
	t.fallen()
	t.struck = killID(id)
	return nil
}

func (t *trial) killItsGuardian() error {
	id, ok := t.awaitSupervisor()
	for ok && proc.Host().Alive(id) {
		if guardian, found := guardianOf(id.PID); found {
			t.fallen()
			t.struck = killID(guardian)
			return nil
		}
	}
	return nil
}

func (t *trial) killLabAndGuardian() error {
	id, ok := t.awaitSupervisor()
	if !ok {
		return nil
	}
	guardian, armed := guardianOf(id.PID)
	gap := time.Duration(t.rng.IntN(6000)) * time.Microsecond
	t.fallen()
	if t.rng.IntN(2) == 0 {
		t.struck = killID(id)
		time.Sleep(gap)
		t.note("supervisor killed, guardian %s later (alive: %v)", gap, armed && killID(guardian))
	} else {
		t.note("guardian killed (alive: %v), supervisor %s later", armed && killID(guardian), gap)
		time.Sleep(gap)
		t.struck = killID(id)
	}
	t.lifeEnds()
	t.settleBoth()
	return t.sweep()
}

// lifeEnds has no further command begun, and waits for the one that goes on.
func (t *trial) lifeEnds() {
	t.life.stop()
	<-t.life.ended
}

// stopSupervisor stops the supervisor, and has its lab taken down while it
// stands still.
func (t *trial) stopSupervisor() error {
	id, ok := t.awaitSupervisor()
	if !ok {
		return nil
	}
	fd, err := proc.OpenPidfd(id)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	t.fallen()
	t.struck = unix.PidfdSendSignal(fd, unix.SIGSTOP, nil, 0) == nil
	defer func() { _ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0) }()
	time.Sleep(time.Duration(t.rng.IntN(50)) * time.Millisecond)
	t.tail.read()
	if len(t.tail.data) == 0 {
		return nil // it has begun nothing, and goes on
	}
	t.timed = false
	return t.expect(0, "rollback", t.tail.run)
}

// killClient kills the command that goes on: up, a run that strikes, or down.
func (t *trial) killClient() error {
	for {
		if s := t.life.current(); s != nil {
			t.fallen()
			t.timed = false // the lab goes on
			t.note("killed: simian %v", s.cmd.Args[3:])
			_ = unix.Kill(-s.pid(), unix.SIGKILL)
			s.ended(patience)
			status, _ := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
			t.struck = status.Signaled()
			return nil
		}
		select {
		case <-t.life.ended:
			return nil
		case <-time.After(50 * time.Microsecond):
		}
	}
}

// raceDown has the lab taken down, perhaps twice at a time, and kills one of
// those who take part.
func (t *trial) raceDown() error {
	id, ok := t.awaitSupervisor()
	if !ok {
		return nil
	}
	guardian, armed := guardianOf(id.PID)
	var downs []*started
	for range 1 + t.rng.IntN(2) {
		args := []string{"lab", "down", t.recipe.lab.name()}
		if t.rng.IntN(2) == 0 {
			args = append(args, "--now")
		}
		s, err := t.start(sessionOfItsOwn, args...)
		if err != nil {
			return err
		}
		downs = append(downs, s)
	}
	time.Sleep(time.Duration(t.rng.IntN(120)) * time.Millisecond)
	t.fallen()
	switch t.rng.IntN(4) {
	case 0:
		t.struck = killID(id)
		t.note("supervisor killed while it goes down (alive: %v)", t.struck)
	case 1:
		t.struck = armed && killID(guardian)
		t.note("guardian killed while it goes down (alive: %v)", t.struck)
	case 2:
		t.struck, t.timed = proc.Host().Alive(id), false
		downs[0].signal(unix.SIGKILL)
		t.note("down killed (supervisor alive: %v)", t.struck)
	default:
		t.struck, t.timed = true, false
	}
	for _, s := range downs {
		if !s.ended(3 * patience) {
			t.leak("simian %v does not end", s.cmd.Args)
			s.signal(unix.SIGKILL)
		}
		t.note("down: exit %d", s.code())
	}
	return nil
}
