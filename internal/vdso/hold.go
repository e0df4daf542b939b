package vdso

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// ptrace(2).
const (
	ptraceGetSiginfo = 0x4202
	ptraceSeize      = 0x4206
	ptraceInterrupt  = 0x4207
	eventStop        = 128 // PTRACE_EVENT_STOP
)

func ptrace(request, tid int, data uintptr) error {
	if _, _, e := syscall.Syscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(tid), 0, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// Still is a process whose threads all stand still, held through ptrace(2) by
// the thread that Hold calls its function on.
type Still struct {
	Memory
	PID int

	proc    string
	mu      sync.Mutex // for the rescuer
	threads map[int]*thread
	denied  int
}

// denials is how often the kernel may deny a thread before that is believed.
const denials = 50

// thread is one that was seized.
type thread struct {
	stopped bool
	ip, sp  uint64
	signal  syscall.Signal // that it was about to get, 0 for none
}

// Hold holds all threads of a process, calls do, and lets them go on. They
// notice nothing of it but what a SIGSTOP and a SIGCONT would have them notice
// that nobody else sees: epoll_wait and few other system calls return EINTR
// (signal(7)). Where this process dies in between, the kernel lets them go on.
func Hold(ctx context.Context, proc string, pid int, do func(*Still) error) error {
	var err error
	onThread(func() bool {
		s := &Still{proc: proc, PID: pid, threads: map[int]*thread{}}
		err = s.with(ctx, do)
		return s.release()
	})
	return err
}

// onThread calls fn on a thread of its own, which ends afterwards where fn
// says that something hangs on it still: its end lets go of that. The main
// thread can't end.
func onThread(fn func() (clean bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == syscall.Getpid() {
			onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		if fn() {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

func (s *Still) with(ctx context.Context, do func(*Still) error) error {
	stop := s.rescue()
	err := s.catch(ctx)
	stop()
	if err != nil {
		return err
	}
	if s.Memory, err = Open(s.proc, s.leader()); err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

// catch seizes threads until there are no more of them, and all stand. Between
// two looks, one that had not come to a stop yet may have made another.
func (s *Still) catch(ctx context.Context) error {
	for quiet := 0; quiet < 2; {
		more, err := s.seize()
		if err != nil {
			return err
		}
		all := s.look()
		switch {
		case len(s.threads) == 0 && all:
			return ErrGone
		case !more && all:
			quiet++
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %s", ErrRestless, s.restless())
		}
		if quiet = 0; !all {
			nap()
		}
	}
	return nil
}

func nap() {
	_ = syscall.Nanosleep(&syscall.Timespec{Nsec: 30_000}, nil)
}

// seize seizes the threads that are not yet, and tells whether there were any.
func (s *Still) seize() (more bool, err error) {
	tids, err := threadsOf(s.proc, s.PID)
	if err != nil {
		return false, err
	}
	for tid := range s.threads {
		if !slices.Contains(tids, tid) {
			s.forget(tid)
		}
	}
	for _, tid := range tids {
		if s.threads[tid] != nil {
			continue
		}
		taken, err := s.take(tid)
		if err != nil {
			return false, err
		}
		more = more || taken
	}
	return more, nil
}

func (s *Still) take(tid int) (bool, error) {
	switch err := ptrace(ptraceSeize, tid, 0); {
	case err == nil, tracer(s.proc, tid) == syscall.Gettid(): // what is ours already has got this number by execve(2)
	case errors.Is(err, syscall.ESRCH), exited(s.proc, s.PID, tid):
		return false, nil
	case tracer(s.proc, tid) != 0:
		return false, ErrTraced
	case s.denied < denials:
		s.denied++ // a thread that was ending as it was asked for; execve(2) may give its number to another
		nap()
		return true, nil
	default:
		return false, fmt.Errorf("trace thread %d: %w", tid, err)
	}
	s.mu.Lock()
	s.threads[tid] = &thread{}
	s.mu.Unlock()
	_ = ptrace(ptraceInterrupt, tid, 0)
	return true, nil
}

func (s *Still) forget(tid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.threads, tid)
}

// look reads where threads stand, and tells whether all do. One that stood may
// have become another program's meanwhile, or have been killed. It is asked by
// ptrace(2), not by wait(2): what another waits for in this process is left to
// them.
func (s *Still) look() bool {
	all := true
	for tid, t := range s.threads {
		ip, sp, err := registers(tid)
		if t.stopped = err == nil; t.stopped {
			t.ip, t.sp, t.signal = ip, sp, pending(tid)
			continue
		}
		if exited(s.proc, s.PID, tid) {
			s.reap(tid)
			s.forget(tid)
			continue
		}
		// By execve(2) the number may be another's, who was not told yet to
		// stop, or is not seized.
		if err := ptrace(ptraceInterrupt, tid, 0); err != nil {
			s.forget(tid)
		}
		all = false
	}
	return all
}

// pending is the signal that a thread which stands is about to get: it was on
// its way as the thread stopped, and has to be given to it as it goes on. Where
// it stands for another reason there is none.
func pending(tid int) syscall.Signal {
	var info [32]int32 // siginfo_t: the signal, an error, a code
	_, _, e := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSiginfo, uintptr(tid), 0, uintptr(unsafe.Pointer(&info)), 0, 0)
	if e != 0 || info[2]>>8 == eventStop {
		return 0
	}
	return syscall.Signal(info[0])
}

// restless says which threads have not stopped.
func (s *Still) restless() string {
	var list []string
	for tid, t := range s.threads {
		if !t.stopped {
			list = append(list, fmt.Sprintf("thread %d is in state %s", tid, state(s.proc, s.PID, tid)))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// leader is a thread to read the process by: one that has exited has no memory.
func (s *Still) leader() int {
	if s.threads[s.PID] != nil {
		return s.PID
	}
	for tid := range s.threads {
		return tid
	}
	return s.PID
}

// release lets all threads go on, and tells whether nothing is held any more.
func (s *Still) release() (clean bool) {
	clean = true
	for tid, t := range s.threads {
		err := ptrace(syscall.PTRACE_DETACH, tid, uintptr(t.signal))
		clean = clean && err == nil
	}
	return clean
}

// rescue keeps an execve(2) of the process from waiting for us while we wait
// for it: it waits until all other threads are reaped, which we trace, and
// holds the lock that seizing the next one takes.
func (s *Still) rescue() (stop func()) {
	done := make(chan struct{})
	go func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				s.reapAll()
			}
		}
	}()
	return func() { close(done) }
}

func (s *Still) reapAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tid := range s.threads {
		s.reap(tid)
	}
}

// reap takes the end of a thread down, so that the kernel lets go of it. That
// of the main one is its parent's to see.
func (s *Still) reap(tid int) {
	if tid == s.PID {
		return
	}
	const pPID, wall = 1, 0x40000000
	_, _, _ = syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(tid), 0, syscall.WEXITED|syscall.WNOHANG|wall, 0, 0)
}

func threadsOf(proc string, pid int) ([]int, error) {
	dir, err := os.Open(proc + "/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return nil, ErrGone
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, ErrGone
	}
	tids := make([]int, 0, len(names))
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// state is the letter of proc_pid_stat(5), X where there is no such thread.
func state(proc string, pid, tid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("%s/%d/task/%d/stat", proc, pid, tid))
	if i := strings.LastIndexByte(string(data), ')'); i >= 0 && len(data) > i+2 {
		return string(data[i+2])
	}
	return "X"
}

func exited(proc string, pid, tid int) bool {
	letter := state(proc, pid, tid)
	return letter == "Z" || letter == "X"
}

// tracer is the thread that traces another, 0 for none.
func tracer(proc string, tid int) int {
	data, _ := os.ReadFile(proc + "/" + strconv.Itoa(tid) + "/status")
	_, rest, _ := strings.Cut(string(data), "\nTracerPid:")
	line, _, _ := strings.Cut(rest, "\n")
	by, _ := strconv.Atoi(strings.TrimSpace(line))
	return by
}
