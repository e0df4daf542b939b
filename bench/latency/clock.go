package main

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// All times of packets are the kernel's CLOCK_REALTIME, in nanoseconds: the one
// clock that it stamps packets with as they arrive (SO_TIMESTAMPNS, socket(7)).
// Both ends are in one machine, so one-way delays need no second clock, and no
// receiver need spin on one of few processors to be awake in time: when it
// wakes up does not matter.

// now reads that clock.
func now() int64 { return time.Now().UnixNano() }

// sleepUntil waits for a time of that clock on this thread, to the kernel's own
// precision: the Go runtime's is a millisecond.
func sleepUntil(at int64) {
	left := at - now()
	if left <= 0 {
		return
	}
	pause := unix.NsecToTimespec(left)
	for unix.Nanosleep(&pause, &pause) == unix.EINTR {
	}
}

// precise makes this thread's sleeps end when they are due (prctl(2),
// PR_SET_TIMERSLACK), rather than up to 50 µs later.
func precise() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }

// stampSpace is what one time stamp takes in a control message.
var stampSpace = unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{})))

// stamped makes a socket tell when each packet arrived.
func stamped(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
}

// stamp reads that from a control message; 0 where there is none.
func stamp(control []byte) int64 {
	if len(control) < stampSpace {
		return 0
	}
	head := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	if head.Level != unix.SOL_SOCKET || head.Type != unix.SCM_TIMESTAMPNS {
		return 0
	}
	return (*unix.Timespec)(unsafe.Pointer(&control[unix.CmsgLen(0)])).Nano()
}

// impatient makes a blocking socket give up now and then.
func impatient(fd int) error {
	wait := unix.NsecToTimeval((20 * time.Millisecond).Nanoseconds())
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
}
