package stage

import (
	"syscall"
	"unsafe"
)

const sigSetmask = 2 // SIG_SETMASK of <asm-generic/signal-defs.h>

// openat2(2) says EAGAIN where something was renamed or mounted on the host
// while it went up a path: the same again may succeed.
const (
	sysOpenat2 = 437
	openTries  = 1000
)

// machine runs a program in a child of fork(2) that has one thread left of
// many. Nothing of Go's runtime works there: its functions do not split the
// stack, allocate, take locks or write pointers.
type machine struct {
	ops      []Op
	base     uintptr // of the program's data
	regs     [256]uintptr
	at       int     // the op that runs
	recalled uintptr // the errno that CallStop reports
	recallAt int
}

// run ends in another program, or in exit.
//
//go:nosplit
//go:norace
func (m *machine) run() {
	for m.at >= 0 && m.at < len(m.ops) {
		op := &m.ops[m.at]
		result, errno := m.do(op)
		switch {
		case errno == 0 && (result != 0 || op.Flags&NonZero == 0):
			m.regs[op.Out] = result
			m.at += 1 + int(op.OnOK)
		case errno == 0:
			m.fail(uintptr(syscall.ECONNRESET))
		case errno == uintptr(op.Allow[0]) || errno == uintptr(op.Allow[1]):
			m.remember(op, errno)
			m.at += 1 + int(op.OnErr)
		default:
			m.fail(errno)
		}
	}
	m.fail(uintptr(syscall.ENOEXEC))
}

// remember keeps the first error that says more than that there is no such
// file, as a shell does while it searches $PATH.
//
//go:nosplit
//go:norace
func (m *machine) remember(op *Op, errno uintptr) {
	if op.Flags&Remember == 0 || m.recalled != 0 || errno == uintptr(syscall.ENOENT) || errno == uintptr(syscall.ENOTDIR) {
		return
	}
	m.recalled, m.recallAt = errno, m.at
}

//go:nosplit
//go:norace
func (m *machine) do(op *Op) (result, errno uintptr) {
	switch op.Call {
	case CallFork:
		return m.fork(op)
	case CallReap:
		m.reap(m.arg(op, 0), m.arg(op, 1))
	case CallLoad:
		return uintptr(*(*uint32)(pointer(m.arg(op, 0)))), 0
	case CallStore:
		*(*uint64)(pointer(m.arg(op, 0))) = uint64(m.arg(op, 1))
		return 0, 0
	case CallByte:
		if uintptr(*(*byte)(pointer(m.arg(op, 0)))) != m.arg(op, 1) {
			return 0, uintptr(syscall.ENOENT)
		}
		return 1, 0
	case CallStop:
		if m.recalled != 0 {
			m.at = m.recallAt
			return 0, m.recalled
		}
		return 0, uintptr(syscall.ENOENT)
	}
	for range openTries {
		result, errno = m.call(op)
		if errno != uintptr(syscall.EAGAIN) || op.Call != sysOpenat2 {
			break
		}
	}
	return result, errno
}

//go:nosplit
//go:norace
func (m *machine) call(op *Op) (result, errno uintptr) {
	return raw(uintptr(op.Call), m.arg(op, 0), m.arg(op, 1), m.arg(op, 2), m.arg(op, 3), m.arg(op, 4), m.arg(op, 5))
}

// pointer is an address that Go knows nothing of: it points into a program's
// data, which does not move.
//
//go:nosplit
//go:norace
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

//go:nosplit
//go:norace
func (m *machine) arg(op *Op, i uint) uintptr {
	i &= 7
	if i > 5 {
		return 0
	}
	switch v := uintptr(op.Args[i]); op.Kinds[i] {
	case Address:
		return m.base + v
	case Register:
		return m.regs[byte(v)]
	default:
		return v
	}
}

//go:nosplit
//go:norace
func raw(call, a, b, c, d, e, f uintptr) (result, errno uintptr) {
	for {
		r, _, err := syscall.RawSyscall6(call, a, b, c, d, e, f)
		if err != syscall.EINTR {
			return r, uintptr(err)
		}
	}
}

// fail tells the launcher which op failed, waits until it has looked at what
// is there, and ends.
//
//go:nosplit
//go:norace
func (m *machine) fail(errno uintptr) {
	var word [9]byte
	word[0] = Failed
	*(*uint32)(unsafe.Pointer(&word[1])) = uint32(m.at)
	*(*uint32)(unsafe.Pointer(&word[5])) = uint32(errno)
	_, _ = raw(syscall.SYS_WRITE, m.regs[Status], uintptr(unsafe.Pointer(&word)), 9, 0, 0, 0)
	_, _ = raw(syscall.SYS_READ, m.regs[Status], uintptr(unsafe.Pointer(&word)), 1, 0, 0, 0)
	exit(127)
}

//go:nosplit
//go:norace
func exit(code uintptr) {
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, code, 0, 0)
	}
}
