// Package burn uses up processor time, memory and disk bandwidth, as much as it
// is told and no more. It is the work of helpers (internal/helper), which run in
// a cgroup below the target's, so that what they use counts against the target's
// limits and costs nobody else. The package imports the standard library only.
package burn

import (
	"syscall"
	"time"
	"unsafe"
)

// The names of the helpers: argv[0].
const (
	CPUName    = "simian-burn-cpu"
	MemoryName = "simian-burn-memory"
	IOName     = "simian-burn-io"
)

const (
	clockMonotonic = 1 // CLOCK_MONOTONIC of clock_gettime(2)
	clockProcess   = 2 // CLOCK_PROCESS_CPUTIME_ID
	clockThread    = 3 // CLOCK_THREAD_CPUTIME_ID
)

// clock reads a clock, in nanoseconds.
func clock(id uintptr) int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// budget lets something happen at a rate. What was missed is made up for, but
// for no longer than lag: a stop of a minute is not followed by a storm.
type budget struct {
	perSecond float64
	lag       time.Duration
	last      int64 // clockMonotonic
	have      float64
}

func newBudget(perSecond float64, lag time.Duration) *budget {
	return &budget{perSecond: perSecond, lag: lag, last: clock(clockMonotonic)}
}

// spend takes used from what has come in since, and returns how long to wait
// until something is there again; not more than zero says that it is.
func (b *budget) spend(used float64) time.Duration {
	now := clock(clockMonotonic)
	b.have = min(b.have+float64(now-b.last)/1e9*b.perSecond, b.lag.Seconds()*b.perSecond) - used
	b.last = now
	return time.Duration(-b.have / b.perSecond * 1e9)
}
