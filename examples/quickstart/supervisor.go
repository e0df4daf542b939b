package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// What a worker inherits, besides standard output and error.
const (
	socketFD   = 3 // the listening socket
	lifelineFD = 4 // a pipe that reaches its end when the supervisor does
)

const (
	firstWait   = 50 * time.Millisecond // before a worker is started again …
	longestWait = time.Second           // … doubled each time, up to this
	settled     = 5 * time.Second       // a worker that lived so long starts at firstWait again
	grace       = 5 * time.Second       // what is left of the workers is killed so long after SIGTERM
)

// supervisor keeps the workers running.
//
//	supervisor ── opens ──▶ listening socket ◀── accept ── worker 1
//	     │                                   ◀── accept ── worker 2
//	     └── starts, and starts again ──▶ workers
//
// There is one socket, and each worker has a descriptor of it. Connections
// that wait in its queue belong to nobody yet: when a worker is gone, the
// other one takes them.
type supervisor struct {
	socket  *os.File
	addr    string
	workers int
	stderr  io.Writer
	log     *log.Logger

	lifeline *os.File // the end that the workers read
	slots    []slot
	ended    chan ending
	due      chan int // slots to start again
}

// slot is the place of one worker.
type slot struct {
	process *os.Process // nil while there is none
	since   time.Time
	wait    time.Duration
}

// ending is the end of the worker in a slot.
type ending struct {
	slot int
	how  string
}

// openSocket returns a listening socket that others may inherit, and its
// address. It stays non-blocking: the file that TCPListener.File gives is set
// to blocking each time a process is started with it, and since the workers
// share one open socket, an accept of theirs would then block for good.
func openSocket(address string) (*os.File, string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, "", err
	}
	defer listener.Close()
	conn, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, "", err
	}
	var fd int
	var failed error
	err = conn.Control(func(listening uintptr) {
		if fd, failed = syscall.Dup(int(listening)); failed == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, "", fmt.Errorf("share the socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "socket"), listener.Addr().String(), nil
}

// run starts the workers and returns once ctx is done and all have ended.
func (s *supervisor) run(ctx context.Context) error {
	// Workers ask the kernel to be killed when their parent ends, and for that
	// the parent is the thread that started them. This one lasts as long as
	// the supervisor.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	lifeline, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the lifeline: %w", err)
	}
	defer lifeline.Close()
	defer hold.Close()
	s.lifeline = lifeline
	s.slots = make([]slot, s.workers)
	s.ended = make(chan ending, s.workers)
	s.due = make(chan int, s.workers)

	s.log.Printf("serving at http://%s", s.addr)
	for i := range s.slots {
		s.start(i)
	}
	for {
		select {
		case <-ctx.Done():
			s.stop()
			return nil
		case e := <-s.ended:
			s.again(e)
		case i := <-s.due:
			s.start(i)
		}
	}
}

// start starts the worker of slot i.
func (s *supervisor) start(i int) {
	s.slots[i].since = time.Now()
	cmd, err := s.worker()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.ended <- ending{i, err.Error()}
		return
	}
	s.slots[i].process = cmd.Process
	s.log.Printf("worker %d started, pid %d", i+1, cmd.Process.Pid)
	go func() {
		_ = cmd.Wait() // how it ended is in its state
		s.ended <- ending{i, cmd.ProcessState.String()}
	}()
}

// worker returns the command of a worker. Its first word is "quickstart"
// wherever the binary is, so that ^quickstart worker finds the workers and
// nothing else.
func (s *supervisor) worker() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &exec.Cmd{
		Path:       self,
		Args:       []string{"quickstart", "worker", s.addr},
		Stderr:     s.stderr,
		ExtraFiles: []*os.File{s.socket, s.lifeline},
		// SIGKILL, because it ends a stopped worker too.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}, nil
}

// again has the worker that ended started again, the later the more often it
// ended soon.
func (s *supervisor) again(e ending) {
	slot := &s.slots[e.slot]
	slot.process = nil
	if time.Since(slot.since) >= settled {
		slot.wait = 0
	}
	slot.wait = min(max(2*slot.wait, firstWait), longestWait)
	s.log.Printf("worker %d ended: %s; again in %s", e.slot+1, e.how, slot.wait)
	time.AfterFunc(slot.wait, func() { s.due <- e.slot })
}

// stop ends the workers: those that do not end by themselves are killed.
func (s *supervisor) stop() {
	s.log.Print("stopping")
	s.signal(syscall.SIGTERM)
	late := time.After(grace)
	for s.running() > 0 {
		select {
		case e := <-s.ended:
			s.slots[e.slot].process = nil
		case <-late:
			s.signal(syscall.SIGKILL)
		}
	}
	s.log.Print("stopped")
}

func (s *supervisor) signal(sig os.Signal) {
	for _, slot := range s.slots {
		if slot.process != nil {
			_ = slot.process.Signal(sig) // it may have ended already
		}
	}
}

func (s *supervisor) running() int {
	n := 0
	for _, slot := range s.slots {
		if slot.process != nil {
			n++
		}
	}
	return n
}
