package stage

import (
	"encoding/binary"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"unsafe"
)

// System calls that the standard library does not name.
const (
	sysPidfdSendSignal = 424 // pidfd_send_signal(2)
	sysPidfdOpen       = 434 // pidfd_open(2)

	clockBoottime = 7
	timerAbsolute = 1
	pollIn        = 1
)

// termGraceNs is how long the runner has to take back after the guardian was
// told to end.
const termGraceNs = 10e9

// guardian watches one runner.
type guardian struct {
	order  Order
	runner int // pidfd
	timer  int // timerfd on CLOCK_BOOTTIME
	signal int // readable after a SIGTERM
	late   bool
}

// guard is the guardian's life: it watches until the runner says that nothing
// is left, or dies, or is past its deadline. The result is an exit code.
func guard(o Order) int {
	g := &guardian{order: o}
	hardenSelf()
	if err := g.open(); err != nil {
		return 1
	}
	if _, err := syscall.Write(Socket, []byte{Ready}); err != nil {
		return 1
	}
	for {
		switch g.wait() {
		case g.runner:
			return takeOver(g.command())
		case g.timer:
			g.late = true
			g.kill(syscall.SIGKILL)
			g.set(0)
		case g.signal:
			_, _ = syscall.Read(g.signal, make([]byte, 1))
			g.kill(syscall.SIGTERM)
			g.set(min(o.DeadlineBootNs, bootNs()+termGraceNs))
		case Socket:
			if g.disarmed() {
				return 0
			}
		}
	}
}

func (g *guardian) command() []string {
	if g.late {
		return g.order.Late
	}
	return g.order.Died
}

// hardenSelf makes the guardian outlive what its runner does not: its
// terminal, its signals, a full memory.
func hardenSelf() {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGUSR1, syscall.SIGUSR2)
	for score := -1000; score <= 0; score += 100 { // as low as allowed (proc_pid_oom_score_adj(5))
		if os.WriteFile("/proc/self/oom_score_adj", strconv.AppendInt(nil, int64(score), 10), 0) == nil {
			return
		}
	}
}

func (g *guardian) open() error {
	if os.Getppid() != g.order.RunnerPID {
		return syscall.ESRCH // it died before we looked; its journal has no change in it yet
	}
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(g.order.RunnerPID), 0, 0)
	if errno != 0 {
		return errno
	}
	if g.runner = int(fd); os.Getppid() != g.order.RunnerPID {
		return syscall.ESRCH
	}
	fd, _, errno = syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockBoottime, syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return errno
	}
	g.timer = int(fd)
	g.set(g.order.DeadlineBootNs)
	return g.onTerm()
}

// onTerm makes SIGTERM readable.
func (g *guardian) onTerm() error {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return err
	}
	g.signal = p[0]
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go func() {
		for range c {
			_, _ = syscall.Write(p[1], []byte{1})
		}
	}()
	return nil
}

// set arms the timer for a moment on CLOCK_BOOTTIME; 0 disarms it.
func (g *guardian) set(ns int64) {
	spec := [4]int64{2: ns / 1e9, 3: ns % 1e9} // struct itimerspec: interval, value
	_, _, _ = syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(g.timer), timerAbsolute, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
}

// wait returns the file descriptor that has something to say. The runner's
// farewell counts before its death: it may end right after it.
func (g *guardian) wait() int {
	fds := [4]int{Socket, g.runner, g.timer, g.signal}
	var set [4 * 8]byte // struct pollfd: int fd, short events, short revents
	for i, fd := range fds {
		binary.NativeEndian.PutUint32(set[8*i:], uint32(fd))
		binary.NativeEndian.PutUint16(set[8*i+4:], pollIn)
	}
	for {
		n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), uintptr(len(fds)), 0, 0, 0, 0)
		if int(n) > 0 {
			break
		}
	}
	for i, fd := range fds {
		if events := binary.NativeEndian.Uint16(set[8*i+6:]); events&pollIn != 0 {
			return fd
		}
	}
	return g.runner // its end of the socket is closed, and it is about to die
}

// disarmed reads what the runner says. An end without a word means that it is
// about to die, or is dead.
func (g *guardian) disarmed() bool {
	var b [1]byte
	n, err := syscall.Read(Socket, b[:])
	if n == 1 {
		return b[0] == Disarm
	}
	if err == nil || err != syscall.EINTR {
		g.awaitDeath()
	}
	return false
}

// awaitDeath leaves the socket out from now on: the other end is closed.
func (g *guardian) awaitDeath() {
	var p [2]int
	if syscall.Pipe2(p[:], syscall.O_CLOEXEC) == nil { // a pipe that stays silent takes its place
		_ = syscall.Dup3(p[0], Socket, syscall.O_CLOEXEC)
	}
}

func (g *guardian) kill(s syscall.Signal) {
	_, _, _ = syscall.Syscall6(sysPidfdSendSignal, uintptr(g.runner), uintptr(s), 0, 0, 0, 0)
}

func bootNs() int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}
