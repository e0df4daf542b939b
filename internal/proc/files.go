package proc

import (
	"fmt"
	"os"
)

// OpenFiles returns the file descriptors that a process has open, in order
// (proc_pid_fd(5)). It needs the right to trace it.
func (f FS) OpenFiles(pid int) ([]int, error) {
	dir, err := os.Open(f.path(pid, "fd"))
	if err != nil {
		return nil, f.failure("list open files", pid, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, f.failure("list open files", pid, err)
	}
	return numbers(names), nil
}

// FreeDescriptor returns the number of the descriptor that is the n-th free
// one, from 0: the kernel gives out the lowest (open(2)). Open is in order.
func FreeDescriptor(open []int, n int) int {
	next := 0
	for _, fd := range open {
		if free := fd - next; n < free {
			break
		} else {
			n -= free
		}
		next = fd + 1
	}
	return next + n
}

// Descendants returns of all processes those that came of these, as far as
// that can be seen: each has one of them above it, or is in its session.
func (f FS) Descendants(of []Stat) ([]Stat, error) {
	pids, err := f.PIDs()
	if err != nil {
		return nil, fmt.Errorf("look for descendants: %w", err)
	}
	in, sessions := map[int]bool{}, map[int]bool{}
	for _, s := range of {
		in[s.PID], sessions[s.Session] = true, true
	}
	var list []Stat
	rest := map[int]Stat{}
	for _, pid := range pids {
		if s, err := f.Stat(pid); err == nil && !in[pid] {
			rest[pid] = s
		}
	}
	for grown := true; grown; {
		grown = false
		for pid, s := range rest {
			if in[s.PPID] || sessions[s.Session] && s.Session != 0 {
				in[pid], grown = true, true
				list = append(list, s)
				delete(rest, pid)
			}
		}
	}
	return list, nil
}
