package exhaust

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/simianhq/simian/internal/helper"
)

// PIDs is how many pids are left to a cgroup. The helper runs in a cgroup
// below it.
type PIDs struct {
	Dir   string `json:"dir"`            // its directory
	Leave int    `json:"leave,omitzero"` // of its limit
}

// cloneIdle makes a thread that does nothing, ever, and runs no Go: it has no
// stack of its own. It must not get signals. The result is its id, or minus
// the error's number.
func cloneIdle(flags uintptr) (tid int)

// idleFlags make a thread of this process (clone(2)): CLONE_VM, _FS, _FILES,
// _SIGHAND, _THREAD and _SYSVSEM.
const idleFlags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000

// spareThreads are those that the Go runtime has at hand before the cgroup is
// full: it can't make any more then.
const spareThreads = 6

// idlers is the work of BeginPIDs.
type idlers struct {
	PIDs
	held   atomic.Int64
	over   atomic.Bool
	events int64 // how often the limit was hit before
	fail   atomic.Int64
}

// BeginPIDs implements helper.Begin. The first file is a pidfd of the target.
// All is held when it returns.
func BeginPIDs(args json.RawMessage, files []int) (helper.Work, error) {
	w := &idlers{}
	if err := json.Unmarshal(args, &w.PIDs); err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, errors.New("an order that can't be met")
	}
	debug.SetGCPercent(-1) // it has nothing to collect, and would want threads for it
	runtime.GOMAXPROCS(1)
	helper.EndWith(files[0])
	haveThreads()
	began := make(chan error)
	go w.hold(began)
	return w, <-began
}

// haveThreads makes threads for the Go runtime, and gives them back to it.
func haveThreads() {
	ready, done, back := make(chan bool), make(chan bool), make(chan bool)
	for range spareThreads {
		go func() {
			runtime.LockOSThread() // so that it takes one, and leaves it when it is unlocked
			ready <- true
			<-done
			runtime.UnlockOSThread()
			back <- true
		}()
	}
	for range spareThreads {
		<-ready
	}
	close(done)
	for range spareThreads {
		<-back
	}
}

// hold fills the cgroup, and again where something in it has ended.
func (w *idlers) hold(began chan<- error) {
	runtime.LockOSThread()
	blockSignals()
	err := w.fill()
	w.events = w.hits()
	began <- err
	for !w.over.Load() {
		time.Sleep(again)
		_ = w.fill()
	}
}

// blockSignals keeps signals from this thread, and from those that it makes.
func blockSignals() {
	const setMask = 2 // SIG_SETMASK
	all := ^uint64(0)
	_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&all)), 0, 8, 0, 0)
}

// fill takes as many pids as are left, and no more: to run into the limit is
// the target's affair.
func (w *idlers) fill() error {
	current, limit := w.number("pids.current"), w.number("pids.max")
	if limit <= 0 {
		return fmt.Errorf("%s has no limit of pids any more", w.Dir)
	}
	for range limit - int64(w.Leave) - current {
		if tid := cloneIdle(idleFlags); tid < 0 {
			w.fail.Store(int64(-tid))
			break
		}
		w.held.Add(1)
	}
	return nil
}

func (w *idlers) number(file string) int64 {
	data, _ := os.ReadFile(filepath.Join(w.Dir, file))
	n, _ := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// hits is how often the limit was hit; -1 where the kernel does not tell.
func (w *idlers) hits() int64 {
	data, err := os.ReadFile(filepath.Join(w.Dir, "pids.events"))
	if err != nil {
		return -1
	}
	value, _ := strings.CutPrefix(strings.Split(string(data), "\n")[0], "max ")
	n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	return n
}

// Report implements helper.Work.
func (w *idlers) Report() (any, error) {
	current, limit := w.number("pids.current"), w.number("pids.max")
	r := helper.Report{What: fmt.Sprintf("pids.current %d of pids.max %d, %d of them idle and Simian's", current, limit, w.held.Load())}
	switch hits := w.hits(); {
	case current < limit-int64(w.Leave):
		r.Felt, r.Hint = "no", fmt.Sprintf("%d are free", limit-current)
		if why := syscall.Errno(w.fail.Load()); why != 0 {
			r.Failed, r.Hint = true, "more threads can't be made: "+why.Error()
		}
	case hits > w.events:
		r.Felt = "yes"
		r.What += fmt.Sprintf("; the limit was hit %d times", hits-w.events)
	case hits >= 0:
		r.Felt, r.Hint = "no", "the target has started nothing meanwhile"
	}
	return r, nil
}

// End implements helper.Work.
func (w *idlers) End() { w.over.Store(true) }
