package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// search goes over all processes once. It asks what is cheap to read first,
// and reads nothing that is not asked for.
type search struct {
	*Process
	command   *regexp.Regexp
	sockets   *sockets
	protected *proc.Protection
	kin       kin

	stats map[int]proc.Stat // of those that match
	names []string          // of all that run, where a name is looked for
	left  []string          // why those that match were left out
}

func (p *Process) newSearch() (*search, error) {
	s := &search{Process: p, stats: map[int]proc.Stat{}}
	var err error
	if s.command, err = regexp.Compile(p.Command); err != nil {
		return nil, fmt.Errorf("read command: %w", err)
	}
	if p.Port != 0 {
		s.sockets = newSockets(p.fs, p.Port)
	}
	if s.kin, err = p.newKin(); err != nil {
		return nil, err
	}
	s.protected, err = p.fs.Protected()
	return s, err
}

// run returns the processes that match, by pid.
func (s *search) run(ctx context.Context) ([]int, error) {
	pids, err := s.fs.PIDs()
	if err != nil {
		return nil, err
	}
	if s.PID != 0 { // of those listed: a thread's id is none
		if _, listed := slices.BinarySearch(pids, s.PID); !listed {
			return nil, nil
		}
		pids = []int{s.PID}
	}
	var found []int
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		stat, ok := s.matches(pid)
		if !ok {
			continue
		}
		if why := s.protected.Why(pid); why != "" && s.PID == 0 {
			s.left = append(s.left, fmt.Sprintf("pid %d is %s", pid, why))
			continue
		}
		again, ok := s.matches(pid)
		if !ok || again.ID() != stat.ID() {
			continue // the pid is another's, or it runs another program, than what was looked at
		}
		s.stats[pid] = stat
		found = append(found, pid)
	}
	return found, nil
}

// matches tells whether a process has all that is asked for, and runs. One
// that cannot be read, or is gone, does not match.
func (s *search) matches(pid int) (proc.Stat, bool) {
	if !s.hasName(pid) || !s.hasCommand(pid) || !s.hasPort(pid) || !s.standsThere(pid) {
		return proc.Stat{}, false
	}
	stat, err := s.fs.Stat(pid)
	if err != nil || stat.Kernel() && s.PID == 0 || stat.Exited() && !s.fs.Alive(stat.ID()) {
		return stat, false
	}
	if s.PID == 0 && s.fs.Settle(stat) {
		return s.matches(pid)
	}
	return stat, true
}

// hasName compares with the name the kernel keeps and with the executable's.
func (s *search) hasName(pid int) bool {
	if s.Name == "" {
		return true
	}
	comm, err := s.fs.Comm(pid)
	if err != nil {
		return false
	}
	if comm == s.Name {
		return true
	}
	exe, err := s.fs.Exe(pid)
	if err != nil {
		return false // a kernel thread, a zombie, or another user's
	}
	base := filepath.Base(exe)
	s.names = append(s.names, comm, base)
	return base == s.Name || s.cutName(pid, comm)
}

// cutName recognises a script by a name longer than the 15 bytes that the
// kernel keeps (PR_SET_NAME(2const)): the whole of it is an argument.
func (s *search) cutName(pid int, comm string) bool {
	const kept = 15
	if len(s.Name) <= kept || comm != s.Name[:kept] {
		return false
	}
	args, err := s.fs.Cmdline(pid)
	return err == nil && slices.ContainsFunc(args, func(arg string) bool { return filepath.Base(arg) == s.Name })
}

func (s *search) hasCommand(pid int) bool {
	if s.Command == "" {
		return true
	}
	args, err := s.fs.Cmdline(pid)
	return err == nil && len(args) > 0 && s.command.MatchString(strings.Join(args, " "))
}

func (s *search) hasPort(pid int) bool { return s.Port == 0 || s.sockets.heldBy(pid) }

// noMatch says what was looked for, what came near, and what was left out.
func (s *search) noMatch() error {
	hint := ""
	if near := experiment.Nearest(s.Name, s.names); s.Name != "" && near != "" && near != s.Name {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return noMatch(fmt.Sprintf("no running process has %s%s%s", s.Process, hint, s.instead()), s.left)
}

// instead says what has the pid that was asked for, where it is no process
// that can be a target.
func (s *search) instead() string {
	if s.PID == 0 {
		return ""
	}
	stat, err := s.fs.Stat(s.PID)
	switch {
	case errors.Is(err, experiment.ErrGone):
		return ": there is no such pid"
	case err != nil:
		return ": " + err.Error()
	case stat.Exited():
		return ": it has exited (" + stat.Comm + ")"
	}
	if pids, err := s.fs.PIDs(); err == nil && !slices.Contains(pids, s.PID) {
		return ": it is a thread of another process"
	}
	return ": it is " + stat.Comm
}

func noMatch(what string, left []string) error {
	switch n := len(left); {
	case n == 1:
		what += "; left out, because it must not be touched: " + left[0]
	case n > 1:
		what += fmt.Sprintf("; %d were left out, because they must not be touched, such as: %s", n, left[0])
	}
	return fmt.Errorf("%w: %s", experiment.ErrNoMatch, what)
}
