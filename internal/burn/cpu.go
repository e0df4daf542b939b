package burn

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simianhq/simian/internal/helper"
)

// CPU is how much processor time is burnt.
type CPU struct {
	CPUs    float64 `json:"cpus"`    // seconds of processor time a second, of all workers
	Workers int     `json:"workers"` // threads: CPUs at the least
	Of      float64 `json:"of"`      // CPUs that are all of what the target may use, for the report
}

const (
	cpuSlice = time.Millisecond       // burnt at a time
	cpuLag   = 200 * time.Millisecond // two periods of a quota are made up for
	leastNap = 500 * time.Microsecond
)

// burnt is the work of BeginCPU.
type burnt struct {
	CPU
	began int64 // clockMonotonic
	base  int64 // clockProcess, when it began
	over  atomic.Bool

	mu   sync.Mutex
	rate *budget
	used int64 // nanoseconds of clockProcess
}

// BeginCPU implements helper.Begin: it starts the workers. The first file is a
// pidfd of the target.
func BeginCPU(args json.RawMessage, files []int) (helper.Work, error) {
	b := &burnt{began: clock(clockMonotonic), base: clock(clockProcess)}
	b.used = b.base
	if err := json.Unmarshal(args, &b.CPU); err != nil {
		return nil, err
	}
	if len(files) != 1 || b.CPUs <= 0 || float64(b.Workers) < b.CPUs {
		return nil, errors.New("an order that can't be met")
	}
	helper.EndWith(files[0])
	b.rate = newBudget(b.CPUs*1e9, cpuLag)
	runtime.GOMAXPROCS(b.Workers + 1) // Go's own choice heeds the quota
	for range b.Workers {
		go b.work()
	}
	return b, nil
}

// work burns beside the other workers.
func (b *burnt) work() {
	runtime.LockOSThread()
	for !b.over.Load() {
		if wait := b.spend(); wait > 0 {
			time.Sleep(max(wait, leastNap))
			continue
		}
		spin(clock(clockThread) + int64(cpuSlice))
	}
}

// spend takes what this process has used since from the budget. The kernel's
// clock of its processor time counts what Go itself takes, too, and leaves out
// what is taken from it (steal, a quota).
func (b *burnt) spend() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := clock(clockProcess)
	wait := b.rate.spend(float64(now - b.used))
	b.used = now
	return wait
}

// spin burns until the thread's clock says until.
func spin(until int64) {
	for x := uint64(1); clock(clockThread) < until; {
		for range 20_000 { // some 20 µs
			x = x*6364136223846793005 + 1442695040888963407
		}
		sink.Store(x)
	}
}

// sink keeps the compiler from leaving the work out.
var sink atomic.Uint64

// Report implements helper.Work.
func (b *burnt) Report() (any, error) {
	used, wall := float64(clock(clockProcess)-b.base)/1e9, float64(clock(clockMonotonic)-b.began)/1e9
	r := helper.Report{
		Felt: "yes",
		What: fmt.Sprintf("burnt %.2f s of processor time in %.2f s: %.1f %% of %.4g CPUs", used, wall, 100*used/wall/b.Of, b.Of),
	}
	if short := b.CPUs*wall - used; wall > 1 && short > 0.05*b.CPUs*wall {
		r.Hint = fmt.Sprintf("%.1f %% were asked for: the target itself, or others on this host, took the rest", 100*b.CPUs/b.Of)
	}
	if used == 0 {
		r.Felt = "nothing"
	}
	return r, nil
}

// End implements helper.Work.
func (b *burnt) End() { b.over.Store(true) }
