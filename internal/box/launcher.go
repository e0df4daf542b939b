package box

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/stage"
)

// orderTimeout is how long the fork server may take to fork, in seconds.
const orderTimeout = 30

// ErrClosed is what a Launcher says once it is closed.
var ErrClosed = errors.New("the launcher is closed")

// Launcher launches containers. It holds one OS thread, whose children they
// are, and a fork server: a small process of the same binary that has been
// initialised already, so that a container need not pay for that.
//
//	runner ──order (socket)──▶ fork server ──clone3(CLONE_PARENT)──┐
//	  └── thread ── parent of ─────────────────────────────────────┴▶ container's PID 1
//
// When the thread ends, with the Launcher or with the whole process, the
// kernel kills every container (PR_SET_PDEATHSIG, which looks at the parent's
// thread).
type Launcher struct {
	fs   proc.FS
	exe  *os.File // this binary, read-only
	null *os.File
	jobs chan func() // for the thread
	host host

	maps  sync.Mutex         // guards users
	users map[IDMap]*os.File // a user namespace for each map

	tid int // of the thread

	kin  sync.Mutex
	born map[int]bool // children that somebody waits for, by pid

	mu     sync.Mutex // one order at a time
	server *forkServer
	closed bool
}

// NewLauncher returns a Launcher with a fork server that is ready.
func NewLauncher(fs proc.FS) (*Launcher, error) {
	l := &Launcher{fs: fs, jobs: make(chan func()), born: map[int]bool{}, users: map[IDMap]*os.File{}}
	var err error
	if l.host, err = look(fs); err != nil {
		return nil, fmt.Errorf("launch containers: %w", err)
	}
	if l.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("launch containers: %w", err)
	}
	if l.exe, err = high(ownBinary()); err != nil {
		return nil, errors.Join(fmt.Errorf("launch containers: %w", err), l.null.Close())
	}
	go l.thread()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.serve(); err != nil {
		l.shut()
		return nil, fmt.Errorf("launch containers: %w", err)
	}
	return l, nil
}

// thread does jobs on one OS thread, which ends with the last. It is never the
// process's main thread: that one can't end.
func (l *Launcher) thread() {
	runtime.LockOSThread() // a goroutine that ends locked takes its thread along
	if unix.Gettid() == os.Getpid() {
		done := make(chan struct{})
		go func() { // on another thread, since this goroutine keeps the main one
			defer close(done)
			l.thread()
		}()
		<-done
		runtime.UnlockOSThread()
		return
	}
	l.tid = unix.Gettid()
	for job := range l.jobs {
		job()
	}
}

// onThread runs job on the thread, and waits for it.
func (l *Launcher) onThread(job func()) {
	done := make(chan struct{})
	l.jobs <- func() {
		defer close(done)
		job()
	}
	<-done
}

// Close ends the thread and the fork server. Containers that still run are
// killed by the kernel.
func (l *Launcher) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return l.shut()
}

func (l *Launcher) shut() error {
	l.closed = true
	if l.server != nil {
		l.server.end()
	}
	close(l.jobs)
	for _, users := range l.users {
		users.Close()
	}
	return errors.Join(l.exe.Close(), l.null.Close())
}

// forkServer is the launcher's end of a fork server.
type forkServer struct {
	cmd    *exec.Cmd
	socket int
	gone   chan struct{}
}

// serve starts a fork server unless one is there.
func (l *Launcher) serve() error {
	if l.closed {
		return ErrClosed
	}
	if l.server != nil && l.server.alive() {
		return nil
	}
	if l.server != nil {
		l.server.end()
		l.server = nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "order")
	defer theirs.Close()
	s := &forkServer{cmd: l.command(theirs), socket: pair[0], gone: make(chan struct{})}
	l.onThread(func() { err = s.cmd.Start() })
	if err != nil {
		unix.Close(s.socket)
		return fmt.Errorf("start fork server: %w", err)
	}
	go func() {
		_ = s.cmd.Wait()
		_ = unix.Shutdown(s.socket, unix.SHUT_RDWR) // wakes who waits for its answer: what it has forked holds its end still
		close(s.gone)
	}()
	_ = unix.SetsockoptTimeval(s.socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: orderTimeout})
	l.server = s
	return nil
}

func (l *Launcher) command(socket *os.File) *exec.Cmd {
	return &exec.Cmd{
		// In the child, where files have their numbers already: to move others
		// about, os/exec may use any number beyond theirs, that of exe too.
		Path:        fmt.Sprintf("/proc/self/fd/%d", stage.Binary),
		Args:        []string{stage.ContainerName},
		Env:         []string{"GOMAXPROCS=1"}, // and none of the runner's: a reaper shows it to its container
		Dir:         "/",
		ExtraFiles:  []*os.File{stage.Socket - 3: socket, stage.Binary - 3: l.exe},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
}

func (s *forkServer) alive() bool {
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

func (s *forkServer) end() {
	_ = s.cmd.Process.Kill()
	<-s.gone
	unix.Close(s.socket)
}

// fork has a new process run p with files, and returns its pid. The process is
// this one's child.
func (l *Launcher) fork(p *stage.Program, files []int) (pid int, err error) {
	message := p.Encode()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.serve(); err != nil {
		return 0, err
	}
	pid, err = l.server.order(message, files)
	switch {
	case err == nil:
		l.kin.Lock()
		l.born[pid] = true
		l.kin.Unlock()
	case !errors.Is(err, errFork):
		l.server.end() // both may no longer understand each other
		l.server = nil // its socket is closed once: the number may be another file's by now
		l.reapLost()
	}
	return pid, err
}

// reapLost ends what a fork server has forked and died before it told. Nobody
// knows of it, and a health check that is not reaped keeps its container's
// PID 1 from ending (zap_pid_ns_processes).
func (l *Launcher) reapLost() {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", l.tid)) // proc_pid_task(5)
	for word := range strings.FieldsSeq(string(data)) {
		pid, err := strconv.Atoi(word)
		l.kin.Lock()
		known := l.born[pid]
		l.kin.Unlock()
		if err != nil || known {
			continue
		}
		_ = unix.Kill(pid, unix.SIGKILL) // a child: nobody else gets its number before it is reaped
		go func() {
			for {
				if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
					return
				}
			}
		}()
	}
}

// reap is wait4(2) for a child that fork has made.
func (l *Launcher) reap(pid int, status *unix.WaitStatus, options int) (int, error) {
	if options&unix.WNOHANG == 0 {
		return waitEnd(pid, status, options)
	}
	l.kin.Lock()
	defer l.kin.Unlock()
	got, err := waitEnd(pid, status, options)
	if got == pid {
		delete(l.born, pid)
	}
	return got, err
}

// waitEnd is wait4(2) for the end of a child. One that a thread of this process
// traces shows its stops too, whatever is asked for (ptrace(2)): the fault clock
// does.
func waitEnd(pid int, status *unix.WaitStatus, options int) (int, error) {
	for {
		got, err := unix.Wait4(pid, status, options, nil)
		switch {
		case err != nil || got != pid || !status.Stopped():
			return got, err
		case options&unix.WNOHANG != 0:
			return 0, nil
		}
	}
}

// errFork says that the fork server is well, but its fork was refused.
var errFork = errors.New("fork")

func (s *forkServer) order(message []byte, files []int) (pid int, err error) {
	rights := unix.UnixRights(files...)
	for len(message) > 0 {
		n, err := unix.SendmsgN(s.socket, message, rights, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("order a fork: %w", err)
		}
		message, rights = message[n:], nil
	}
	return s.answer()
}

func (s *forkServer) answer() (pid int, err error) {
	var answer stage.Reply
	for {
		n, err := unix.Read(s.socket, answer.Bytes())
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("wait for a fork: %w", err)
		case n == 0:
			return 0, errors.New("wait for a fork: the fork server has died")
		case answer.Errno != 0:
			return 0, fmt.Errorf("%w: %w", errFork, unix.Errno(answer.Errno))
		}
		return int(answer.PID), nil
	}
}
