package stage

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// ContainerName is argv[0] of a fork server, and of what it forks until that
// becomes another program.
const ContainerName = "simian-container"

// Binary is the file descriptor of the program that a fork server is started
// from. It closes it.
const Binary = 4

// System calls, options and flags that the standard library does not name.
const (
	sysSetns      = sysSetnsArch
	sysClone3     = 435
	sysCloseRange = 436

	cloneParent       = 0x8000
	cloneNewPID       = 0x20000000
	cloneClearSighand = 0x100000000 // Linux 5.5
	cloneIntoCgroup   = 0x200000000 // Linux 5.7

	prSetDumpable = 4
	sigIgnore     = 1 // SIG_IGN
)

func init() {
	if len(os.Args) != 1 || os.Args[0] != ContainerName {
		return
	}
	os.Exit(serve())
}

// serve is the fork server's life. The launcher starts it once, and it forks
// each container by a copy of itself: so the time that a Go program takes to
// start is spent once, and not for each container. What it forks is a child of
// the launcher's thread, not its own (CLONE_PARENT): the launcher waits for
// it, and the kernel kills it when that thread ends.
func serve() int {
	runtime.LockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0)
	syscall.CloseOnExec(Socket)
	_ = syscall.Close(Binary)
	syscall.Umask(0)
	resetIgnored()
	s := &server{own: -1}
	for {
		if err := s.next(); err != nil {
			return 1 // the launcher has ended, or both no longer understand each other
		}
	}
}

// resetIgnored gives back their default to the signals that were ignored when
// the runner was started: a command would inherit that.
func resetIgnored() {
	for signal := uintptr(1); signal <= 64; signal++ {
		var action [4]uintptr // struct sigaction of the kernel: its handler comes first
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
		if action[0] == sigIgnore {
			action = [4]uintptr{}
			_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, signal, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
		}
	}
}

// server forks.
type server struct {
	own int // this process's PID namespace; -1 until it is needed
}

// next does one order: a program and its files come in, a pid goes out.
func (s *server) next() error {
	h, files, err := receive()
	defer closeAll(files)
	if err != nil {
		return err
	}
	rest := make([]byte, h.rest())
	if err := readFull(rest); err != nil {
		return err
	}
	p, err := decode(h, rest)
	if err != nil {
		return err
	}
	answer := s.fork(p, files)
	runtime.KeepAlive(p)
	_, err = syscall.Write(Socket, bytesOf(&answer))
	return err
}

// receive reads a header and the files that come with it.
func receive() (h header, files []int, err error) {
	oob := make([]byte, syscall.CmsgSpace(4*64))
	for {
		n, oobn, _, _, err := syscall.Recvmsg(Socket, bytesOf(&h), oob, syscall.MSG_CMSG_CLOEXEC|syscall.MSG_WAITALL)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return h, nil, err
		}
		files, err = rights(oob[:oobn])
		if n != headerSize || h.rest() > maxProgram {
			err = io.ErrUnexpectedEOF
		}
		return h, files, err
	}
}

func rights(oob []byte) (files []int, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	for i := range messages {
		more, bad := syscall.ParseUnixRights(&messages[i])
		if bad != nil {
			return files, bad
		}
		files = append(files, more...)
	}
	return files, err
}

func readFull(b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Read(Socket, b)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		default:
			b = b[n:]
		}
	}
	return nil
}

func closeAll(files []int) {
	for _, fd := range files {
		_ = syscall.Close(fd)
	}
}

// cloneArgs is struct clone_args of clone(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// fork starts a process that runs p.
func (s *server) fork(p *Program, files []int) Reply {
	m := &machine{ops: p.Ops}
	for i, fd := range files {
		m.regs[Status+i] = uintptr(fd)
	}
	if err := p.relocate(); err != nil {
		return Reply{Errno: int32(syscall.EINVAL)}
	}
	m.base = uintptr(unsafe.Pointer(unsafe.SliceData(p.Data)))
	args := cloneArgs{flags: p.Flags | cloneParent | cloneClearSighand}
	if p.IntoCgroup != 0 {
		args.flags |= cloneIntoCgroup
		args.cgroup = uint64(m.regs[p.IntoCgroup])
	}
	if p.JoinPIDs == 0 {
		return forkInto(m, &args)
	}
	if err := s.joinPIDs(int(m.regs[p.JoinPIDs])); err != nil {
		return Reply{Errno: int32(err.(syscall.Errno))}
	}
	answer := forkInto(m, &args)
	if _, _, errno := syscall.RawSyscall(sysSetns, uintptr(s.own), cloneNewPID, 0); errno != 0 {
		os.Exit(1) // further containers would be born into the wrong namespace
	}
	return answer
}

// joinPIDs makes the next child start in the PID namespace of a pidfd.
func (s *server) joinPIDs(pidfd int) error {
	if s.own < 0 {
		fd, err := syscall.Open("/proc/self/ns/pid", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		s.own = fd
	}
	if _, _, errno := syscall.RawSyscall(sysSetns, uintptr(pidfd), cloneNewPID, 0); errno != 0 {
		return errno
	}
	return nil
}

// forkInto forks a child that runs m. Signals wait meanwhile: the child must
// not run a handler of Go's.
//
//go:norace
func forkInto(m *machine, args *cloneArgs) Reply {
	all, before := ^uint64(0), uint64(0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	pid, _, errno := syscall.RawSyscall(sysClone3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	if errno == 0 && pid == 0 {
		m.run() // it does not return
	}
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
	return Reply{PID: int32(pid), Errno: int32(errno)}
}
