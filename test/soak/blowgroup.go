package main

import (
	"errors"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

func (t *trial) groupOrSession() (manner, error) {
	if t.rng.IntN(2) == 0 {
		return manner{attr: syscall.SysProcAttr{Setpgid: true}}, nil
	}
	return manner{attr: syscall.SysProcAttr{Setsid: true}}, nil
}

func (t *trial) killGroup() error {
	t.fallen()
	if !t.runner.cmd.SysProcAttr.Setsid {
		_ = unix.Kill(-t.runner.pid(), unix.SIGKILL)
		t.hitRunner()
		return nil
	}
	fs := proc.Host()
	pids, err := fs.PIDs()
	for _, pid := range pids {
		if st, err := fs.Stat(pid); err == nil && st.Session == t.runner.pid() {
			killID(st.ID())
		}
	}
	t.hitRunner()
	return err
}

func (t *trial) onTerminal() (manner, error) {
	m := manner{terminal: true, deaf: t.rng.IntN(4) == 0}
	if shells := []string{"", sameGroup, foreground, background}; t.rng.IntN(3) > 0 {
		if how := shells[t.rng.IntN(len(shells))]; how != "" {
			m.before = []string{roleShell, how}
			t.timed = how != background // nobody tells it to end
			t.note("a shell starts it: %s", how)
		}
	}
	t.note("nobody reads the terminal: %v", m.deaf)
	return m, nil
}

// takeTerminal closes the terminal, or kills the shell on it.
func (t *trial) takeTerminal() error {
	t.struck = len(t.processes()) > 0
	shell := t.runner.cmd.Args[0] == roleShell
	t.fallen()
	if shell && t.rng.IntN(2) == 0 {
		t.note("the shell is killed")
		t.runner.signal(unix.SIGKILL)
		return nil
	}
	t.note("the terminal is closed")
	t.runner.hangUp()
	return nil
}

func (t *trial) inCgroup() (manner, error) {
	dir, err := makeCgroup(t.soak.host.killable, t.tag+"-runner")
	if err != nil {
		return manner{}, err
	}
	t.cgroup = dir
	return manner{
		attr:   syscall.SysProcAttr{Setsid: true},
		before: []string{roleEnter, filepath.Join(dir, procsFile)},
	}, nil
}

func (t *trial) killItsCgroup() error {
	t.fallen()
	err := killCgroup(t.cgroup)
	t.hitRunner()
	if errors.Is(err, experiment.ErrGone) {
		return nil
	}
	return err
}
