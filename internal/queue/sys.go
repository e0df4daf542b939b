package queue

import (
	"syscall"
	"unsafe"
)

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	syscall.Msghdr
	sent uint32
	_    [4]byte
}

// pollfd is struct pollfd of poll(2).
type pollfd struct {
	fd      int32
	events  int16
	revents int16
}

const pollIn = 1

// What follows is called for each packet. It does not block, so Go's scheduler
// need not be told of it, which would cost as much as the call itself.

func readv(fd int, iov *[2]syscall.Iovec) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(iov)), 2)
	return int(n), errno
}

func writev(fd int, iov *syscall.Iovec, n int) syscall.Errno {
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(iov)), uintptr(n))
	return errno
}

func sendmmsg(fd int, messages *mmsghdr, n int) (int, syscall.Errno) {
	sent, _, errno := syscall.RawSyscall6(sysSendmmsg, uintptr(fd), uintptr(unsafe.Pointer(messages)), uintptr(n), syscall.MSG_DONTWAIT, 0, 0)
	return int(sent), errno
}

// ppoll waits until one of fds can be read, or for so many nanoseconds, for
// ever where that is negative.
func ppoll(fds []pollfd, ns int64) {
	var until *syscall.Timespec
	if ns >= 0 {
		ts := syscall.NsecToTimespec(ns)
		until = &ts
	}
	_, _, _ = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(fds))), uintptr(len(fds)),
		uintptr(unsafe.Pointer(until)), 0, 0, 0)
}

// monotonic is CLOCK_MONOTONIC, on which Go's clock runs too, and BPF's.
func monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}
