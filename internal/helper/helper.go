// Package helper is a process beside Simian that goes on with something while a
// fault is in force: it holds packets, answers lookups, burns processor time.
// It is the same binary under another name, stopped before the rest of it is
// initialised (internal/stage), so the package imports the standard library
// only.
//
// A helper hangs on its parent by a socket, and ends when that is closed,
// however it came about: so what it holds for itself (sockets, devices, files
// without a name, the socket that owns an nft table) goes with the run.
package helper

import (
	"encoding/json"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
)

// Control is the file descriptor on which a helper and its parent talk.
const Control = 3

// Work is what a helper does, once it is begun. Its methods are called one at a
// time.
type Work interface {
	// Report returns what became of it so far, to be sent as JSON.
	Report() (any, error)
	// End comes to an end of it: nothing is answered after it.
	End()
}

// Caller is an ability of Work: what else its parent can ask of it.
type Caller interface {
	Call(body []byte) ([]byte, error)
}

// Begin begins the work that args tell of. Files are those that its parent sent
// along, as open file descriptors, in their order.
type Begin func(args json.RawMessage, files []int) (Work, error)

// Main is the life of a helper that does the work of begin. The result is an
// exit code.
func Main(begin Begin) int {
	harden()
	s := &server{conn: os.NewFile(Control, "control"), begin: begin}
	defer s.end() // the parent has died, or both no longer understand each other
	return s.serve()
}

// memoryLimit is what a helper's Go heap may grow to, in bytes, before garbage
// is collected. What is begun may set another.
const memoryLimit = 64 << 20

// harden leaves the helper to its parent: a terminal's signals do not end it.
// It is the first to go where memory is short.
func harden() {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGUSR1, syscall.SIGUSR2)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	debug.SetMemoryLimit(memoryLimit)
}

// server answers the parent.
type server struct {
	conn  *os.File
	begin Begin
	work  Work
	once  sync.Once
}

func (s *server) serve() int {
	kind, args, files, err := receiveFiles()
	for err == nil {
		var answer []byte
		if answer, err = s.do(kind, args, files); err != nil {
			err = send(s.conn, answerError, []byte(err.Error()))
		} else {
			err = send(s.conn, answerOK, answer)
		}
		if err != nil || kind == askEnd {
			break
		}
		files = nil
		kind, args, err = receive(s.conn)
	}
	if err != nil {
		return 1
	}
	return 0
}

func (s *server) do(kind byte, body []byte, files []int) (answer []byte, err error) {
	switch {
	case kind == askBegin && s.work == nil:
		s.work, err = s.begin(body, files)
		return nil, err
	case s.work == nil:
		return nil, errNotBegun
	case kind == askReport:
		report, err := s.work.Report()
		if err != nil {
			return nil, err
		}
		return json.Marshal(report)
	case kind == askCall:
		if c, ok := s.work.(Caller); ok {
			return c.Call(body)
		}
	case kind == askEnd:
		s.end()
		return nil, nil
	}
	return nil, errUnknown
}

func (s *server) end() {
	if s.work != nil {
		s.once.Do(s.work.End)
	}
}
