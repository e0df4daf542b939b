package stage

import (
	"syscall"
	"unsafe"
)

const (
	sigChld   = uintptr(syscall.SIGCHLD)
	waitNoHup = 1 // WNOHANG
)

// fork is CallFork: the child goes on with the program, and the parent skips
// to where it says what the parent is for.
//
//go:nosplit
//go:norace
func (m *machine) fork(op *Op) (pid, errno uintptr) {
	var args cloneArgs
	args.exitSignal = uint64(sigChld)
	if cgroup := m.arg(op, 0); int(cgroup) >= 0 {
		args.flags = cloneIntoCgroup
		args.cgroup = uint64(cgroup)
	}
	pid, errno = raw(sysClone3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		m.at -= int(op.OnOK) // run adds it again
	}
	return pid, errno
}

// reap is PID 1 of a container with init: it reaps what is orphaned, passes
// signals on to child, and ends as child does, with its wait status written to
// fd: an exit code alone could not tell a signal from a code.
//
//go:nosplit
//go:norace
func (m *machine) reap(child, fd uintptr) {
	all := ^uint64(0)
	for {
		signal, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&all)), 0, 0, 8, 0, 0)
		if errno != 0 {
			continue
		}
		if signal != sigChld {
			_, _, _ = syscall.RawSyscall(syscall.SYS_KILL, child, signal, 0)
			continue
		}
		collect(child, fd)
	}
}

// collect takes in all processes that have ended.
//
//go:nosplit
//go:norace
func collect(child, fd uintptr) {
	for {
		var status uint32
		pid, errno := raw(syscall.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&status)), waitNoHup, 0, 0, 0)
		if errno != 0 || pid == 0 {
			return
		}
		if pid != child {
			continue
		}
		_, _ = raw(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&status)), 4, 0, 0, 0)
		if killed := status & 0x7f; killed != 0 {
			exit(uintptr(128 + killed))
		}
		exit(uintptr(status>>8) & 0xff)
	}
}
