package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// started is a command that goes on.
type started struct {
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	master *os.File      // of its terminal; nil where it has none
}

// manner is how a command is started.
type manner struct {
	attr     syscall.SysProcAttr
	before   []string // argument list in front of it: a shell, or what enters a cgroup
	terminal bool
	deaf     bool // nobody reads the terminal
}

// start starts simian on the trial's state directory.
func (t *trial) start(m manner, args ...string) (*started, error) {
	all := append([]string{t.soak.simian, "--state", t.dir}, args...)
	c := &exec.Cmd{Path: t.soak.simian, Args: all}
	if len(m.before) > 0 {
		c.Path, c.Args = "/proc/self/exe", append(m.before, all...)
	}
	c.Env = append(os.Environ(), "SIMIAN_SOAK="+t.dir)
	c.SysProcAttr = &m.attr
	s := &started{cmd: c, done: make(chan struct{})}
	err := s.launch(m, filepath.Join(t.work, "output"))
	if err != nil {
		return nil, fmt.Errorf("start simian: %w", err)
	}
	go func() { _ = c.Wait(); close(s.done) }()
	return s, nil
}

func (s *started) launch(m manner, output string) error {
	if m.terminal {
		return s.onTerminal(m.deaf)
	}
	out, err := os.OpenFile(output, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	s.cmd.Stdout, s.cmd.Stderr = out, out
	return s.cmd.Start()
}

// onTerminal starts the command as the leader of a session whose terminal is
// a pseudoterminal of its own (pty(7), TIOCSCTTY of ioctl_tty(2)).
func (s *started) onTerminal(deaf bool) error {
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	defer slave.Close()
	s.master = master
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr.Setsid, s.cmd.SysProcAttr.Setctty, s.cmd.SysProcAttr.Ctty = true, true, 0
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("on a terminal: %w", err)
	}
	if !deaf {
		go func() { _, _ = io.Copy(io.Discard, master) }()
	}
	return nil
}

func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	n := 0
	if cerr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); cerr != nil || err != nil {
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, slave, err
}

// hangUp takes the terminal away.
func (s *started) hangUp() {
	if s.master != nil {
		_ = s.master.Close()
		s.master = nil
	}
}

func (s *started) pid() int { return s.cmd.Process.Pid }

// ended tells whether it ends within d.
func (s *started) ended(d time.Duration) bool {
	select {
	case <-s.done:
		return true
	case <-time.After(d):
		return false
	}
}

// code is the exit code, -1 where it was killed or goes on.
func (s *started) code() int {
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

func (s *started) signal(sig unix.Signal) { _ = s.cmd.Process.Signal(sig) }

// simian runs a command to its end, which must come in time.
func (t *trial) simianRun(args ...string) (code int, out string, err error) {
	output := filepath.Join(t.work, fmt.Sprintf("output-%d", len(t.notes)))
	s := &started{done: make(chan struct{})}
	s.cmd = &exec.Cmd{Path: t.soak.simian, Args: append([]string{t.soak.simian, "--state", t.dir}, args...), Env: append(os.Environ(), "SIMIAN_SOAK="+t.dir)}
	if err := s.launch(manner{}, output); err != nil {
		return -1, "", err
	}
	go func() { _ = s.cmd.Wait(); close(s.done) }()
	if !s.ended(t.patience()) {
		_ = s.cmd.Process.Kill()
		<-s.done
		err = fmt.Errorf("simian %v did not end within %s", args, t.patience())
	}
	data, _ := os.ReadFile(output)
	_ = os.Remove(output)
	return s.code(), string(data), err
}
