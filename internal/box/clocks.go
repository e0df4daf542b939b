package box

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// shiftClocks gives it a time namespace of its own, whose offsets can be set
// only as long as nobody is in it: it is made for its children, and joined.
func (c *container) shiftClocks(a *assembler) {
	if c.Clocks == (Clocks{}) {
		return
	}
	words := fmt.Sprintf("move its clocks by %s (monotonic) and %s (boottime)", c.Clocks.Monotonic, c.Clocks.Boottime)
	offsets := timespec("monotonic", c.Clocks.Monotonic) + timespec("boottime", c.Clocks.Boottime)
	file := a.scratch(0)
	a.do("make its time namespace", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	a.do(words, unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/self/timens_offsets", unix.O_WRONLY|unix.O_CLOEXEC, 0).into(file)
	a.do(words, unix.SYS_WRITE, file, offsets, len(offsets))
	a.do(words, unix.SYS_CLOSE, file)
	a.do("open its time namespace", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc/self/ns/time_for_children", unix.O_RDONLY|unix.O_CLOEXEC, 0).into(file)
	a.do("join its time namespace", unix.SYS_SETNS, file, unix.CLONE_NEWTIME)
	a.do("join its time namespace", unix.SYS_CLOSE, file)
}

// timespec is a line of /proc/PID/timens_offsets: seconds, and nanoseconds
// that are never negative.
func timespec(clock string, d time.Duration) string {
	ts := unix.NsecToTimespec(int64(d))
	if ts.Nsec < 0 {
		ts.Sec, ts.Nsec = ts.Sec-1, ts.Nsec+int64(time.Second)
	}
	return fmt.Sprintf("%s %d %d\n", clock, ts.Sec, ts.Nsec)
}
