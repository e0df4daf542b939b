package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Stat is what proc_pid_stat(5) says of a process or a thread.
type Stat struct {
	PID, PPID     int
	Comm          string // its name, cut by the kernel at 15 bytes
	State         byte   // R S D T t Z X I
	Start         uint64 // clock ticks since boot: with PID its identity
	Flags         uint64 // PF_…, include/linux/sched.h
	CPU           time.Duration
	Session, PGrp int
	Nice          int // -20 to 19
}

// tick is the unit of times in proc_pid_stat(5): USER_HZ is 100 on every
// architecture Go runs on.
const tick = time.Second / 100

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

// Kernel tells whether it is a kernel thread.
func (s Stat) Kernel() bool { return s.Flags&kernelThread != 0 }

// Exited tells whether it is a zombie, or dead. Where the main thread of a
// process alone has exited, this is true though others run on: FS.Alive asks
// them too.
func (s Stat) Exited() bool { return s.State == 'Z' || s.State == 'X' }

// ID returns the identity of the process.
func (s Stat) ID() experiment.ProcessID { return experiment.ProcessID{PID: s.PID, Start: s.Start} }

// Stat reads the state of a process, or of a thread by its id.
func (f FS) Stat(pid int) (Stat, error) {
	data, err := f.read(pid, "stat")
	if err != nil {
		return Stat{}, err
	}
	return parseStat(data)
}

// parseStat reads the line of proc_pid_stat(5). The name in it may hold
// spaces and parentheses, so it ends at the last one.
func parseStat(data []byte) (Stat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 1 || end < open {
		return Stat{}, fmt.Errorf("read stat: no name in %q", data)
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return Stat{}, fmt.Errorf("read stat: %d fields after the name in %q", len(fields), data)
	}
	var err error
	number := func(s string) int {
		n, bad := strconv.ParseInt(s, 10, 64)
		if bad != nil {
			err = fmt.Errorf("read stat: %w in %q", bad, data)
		}
		return int(n)
	}
	field := func(n int) int { return number(fields[n-3]) } // counted from 1 as the man page does
	s := Stat{
		PID: number(string(bytes.TrimSpace(data[:open]))), Comm: string(data[open+1 : end]), State: fields[0][0],
		PPID: field(4), PGrp: field(5), Session: field(6), Flags: uint64(field(9)),
		CPU: time.Duration(field(14)+field(15)) * tick, Nice: field(19), Start: uint64(field(22)),
	}
	return s, err
}

// Identify returns the identity of the process that has this pid now.
func (f FS) Identify(pid int) (experiment.ProcessID, error) {
	s, err := f.Stat(pid)
	return s.ID(), err
}

// Alive tells whether the very process id still runs: the start time is the
// same, and at least one thread has not exited.
func (f FS) Alive(id experiment.ProcessID) bool {
	s, err := f.Stat(id.PID)
	return err == nil && s.Start == id.Start && f.runs(s)
}

// runs tells whether a thread of the process has not exited.
func (f FS) runs(s Stat) bool {
	if !s.Exited() {
		return true
	}
	threads, err := f.Threads(s.PID)
	if err != nil {
		return false
	}
	for _, t := range threads {
		if !t.Exited() {
			return true
		}
	}
	return false
}

// Threads returns the state of each thread of a process, its main thread too.
func (f FS) Threads(pid int) ([]Stat, error) {
	dir, err := os.Open(f.path(pid, "task"))
	if err != nil {
		return nil, f.failure("list threads", pid, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, f.failure("list threads", pid, err)
	}
	var threads []Stat
	for _, tid := range numbers(names) {
		data, err := f.read(pid, "task/"+strconv.Itoa(tid)+"/stat")
		if err != nil {
			continue // the thread ended meanwhile
		}
		s, err := parseStat(data)
		if err != nil {
			return nil, err
		}
		threads = append(threads, s)
	}
	if len(threads) == 0 {
		return nil, fmt.Errorf("list threads of pid %d: %w", pid, experiment.ErrGone)
	}
	return threads, nil
}

// forked is PF_FORKNOEXEC of include/linux/sched.h.
const forked = 0x00000040

// settleFor is how long a new process may take to become another program.
const settleFor = 50 * time.Millisecond

// Settle waits while a process may be on its way from fork(2) to execve(2): it
// shows the command line of its parent then, and is not what it seems. The
// result tells whether there was anything to wait for.
func (f FS) Settle(s Stat) bool {
	born := experiment.BootTime(time.Duration(s.Start) * tick)
	left := settleFor - BootTime().Sub(born)
	if s.Flags&forked == 0 || left <= 0 {
		return false
	}
	time.Sleep(left)
	return true
}
