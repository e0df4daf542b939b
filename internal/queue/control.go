package queue

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/simianhq/simian/internal/helper"
)

// flushTime is how long a helper that ends may take to send what it holds.
const flushTime = 20 * time.Millisecond

const schedRR = 2 // SCHED_RR of sched(7)

// hasten makes timers exact (timerslack_ns of proc_pid_timerslack_ns(5)), and
// this process go before others where it may. Both belong to a thread, and are
// inherited by those that it makes later. Sessions share the processors where
// the kernel groups them (autogroup, sched(7)).
func hasten() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		tid, _ := strconv.Atoi(t.Name())
		_ = os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", []byte("1"), 0)
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, tid, -20)
		priority := int32(1)
		_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(tid), schedRR, uintptr(unsafe.Pointer(&priority)))
	}
	_ = os.WriteFile("/proc/self/autogroup", []byte("-20"), 0)
}

// work is what the requests are about.
type work struct {
	nft   int
	wake  int
	plane *plane
	done  chan struct{} // closed once the plane has come to its end
}

// Begin implements helper.Begin: it starts the plane. Args are an Order.
func Begin(args json.RawMessage, files []int) (helper.Work, error) {
	debug.SetGCPercent(-1) // what is allocated per packet is nothing; reports and batches may bring it on
	hasten()
	var o Order
	if err := json.Unmarshal(args, &o); err != nil {
		return nil, err
	}
	if err := o.resolve(files); err != nil {
		return nil, err
	}
	wake, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return nil, fmt.Errorf("make an eventfd: %w", errno)
	}
	p, err := newPlane(o, int(wake))
	if err != nil {
		return nil, err
	}
	w := &work{nft: o.NFT, wake: int(wake), plane: p, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		p.run()
	}()
	if o.Network != 0 {
		go watch(o.Network)
	}
	return w, nil
}

// Report implements helper.Work: it is []Stats.
func (w *work) Report() (any, error) {
	var list []Stats
	err := w.ask(func() { list = w.plane.stats() })
	return list, err
}

// Call implements helper.Caller: body is netlink messages for the socket that
// owns the table, the answer is the kernel's.
func (w *work) Call(body []byte) ([]byte, error) { return helper.Exchange(w.nft, body) }

// End implements helper.Work. It takes the rules away first: from then on
// packets go their own way, and those that are here are sent after them.
func (w *work) End() {
	_ = syscall.Close(w.nft)
	_ = w.ask(func() { w.plane.finish(flushTime) })
}

// ask runs fn in the plane's goroutine, between two packets.
func (w *work) ask(fn func()) error {
	ran := make(chan struct{})
	w.plane.asked <- func() { fn(); close(ran) }
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = syscall.Write(w.wake, one[:])
	select {
	case <-ran:
		return nil
	case <-w.done:
		return errors.New("it has ended")
	case <-time.After(time.Second):
		return errors.New("packets are stuck for a second")
	}
}

// resolve puts numbers of file descriptors where o names files.
func (o *Order) resolve(files []int) error {
	names := []*int{&o.NFT}
	for i := range o.Lanes {
		names = append(names, &o.Lanes[i].TAP)
		for _, file := range []*int{&o.Lanes[i].Out, &o.Lanes[i].Stamp} {
			if *file >= 0 {
				names = append(names, file)
			}
		}
	}
	for _, n := range names {
		if *n < 0 || *n >= len(files) {
			return fmt.Errorf("the order names file %d of %d", *n, len(files))
		}
		*n = files[*n]
	}
	return nil
}
