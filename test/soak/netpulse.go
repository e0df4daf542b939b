package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// How often the near end of a wire asks by UDP, and how many of its questions
// are remembered: two minutes.
const (
	beat  = time.Millisecond // or more seldom, where that is too much for the machine
	beats = 1 << 17
)

// pulse is what the near end of a wire writes down, in memory that the soak
// reads meanwhile: that wakes nobody up, and costs no system call.
type pulse struct {
	*diary
	file *os.File
	mem  []byte
}

// diary is the memory itself.
type diary struct {
	asked atomic.Int64 // so many questions so far
	words atomic.Int64 // that were answered by TCP
	all   [beats]trip
}

// trip is one question by UDP, number n at n % beats.
type trip struct {
	sent, back atomic.Int64 // CLOCK_BOOTTIME, nanoseconds; 0 is never, as yet
}

// newPulse makes the memory: a file that has no name (memfd_create(2)).
func newPulse() (*pulse, error) {
	fd, err := unix.MemfdCreate("soak-pulse", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memory for a wire: %w", err)
	}
	p := &pulse{file: os.NewFile(uintptr(fd), "soak-pulse")}
	if err := p.file.Truncate(int64(unsafe.Sizeof(diary{}))); err != nil {
		return nil, err
	}
	p.diary, p.mem, err = mapDiary(fd)
	return p, err
}

func mapDiary(fd int) (*diary, []byte, error) {
	mem, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(diary{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map a wire's memory: %w", err)
	}
	return (*diary)(unsafe.Pointer(&mem[0])), mem, nil
}

func (p *pulse) close() {
	_ = unix.Munmap(p.mem)
	_ = p.file.Close()
}

// ask writes down that a question is sent now, and returns its number.
func (d *diary) ask(now experiment.BootTime) int64 {
	n := d.asked.Load() + 1
	t := &d.all[n%beats]
	t.back.Store(0)
	t.sent.Store(int64(now))
	d.asked.Store(n)
	return n
}

// answered writes down that the answer to question n has come.
func (d *diary) answered(n int64, now experiment.BootTime) {
	if asked := d.asked.Load(); n > 0 && n <= asked && n > asked-beats {
		d.all[n%beats].back.CompareAndSwap(0, int64(now)) // the first of two is it
	}
}

// known is a question: when it was sent, and how long its answer took, -1
// where there is none.
type known struct {
	sent experiment.BootTime
	took time.Duration
}

// longest is how long ago questions may have been sent that tell something of
// how it is now.
const longest = time.Second

// between returns the questions sent from one moment to another, in order.
func (d *diary) between(from, to experiment.BootTime) []known {
	var out []known
	asked := d.asked.Load()
	for n := max(1, asked-beats+1); n <= asked; n++ {
		t := &d.all[n%beats]
		k := known{sent: experiment.BootTime(t.sent.Load()), took: -1}
		if k.sent < from || k.sent > to {
			continue
		}
		if back := t.back.Load(); back != 0 {
			k.took = time.Duration(back - int64(k.sent))
		}
		out = append(out, k)
	}
	return out
}

// last returns the last n questions that were sent before a moment, or fewer.
func (d *diary) last(n int, before experiment.BootTime) []known {
	list := d.between(before.Add(-longest), before)
	return list[max(0, len(list)-n):]
}

// good tells whether an answer came, and in time.
func (k known) good(late time.Duration) bool { return k.took >= 0 && k.took < late }

// share is how much of 1 of the questions was answered in time.
func share(list []known, late time.Duration) float64 {
	if len(list) == 0 {
		return 0
	}
	n := 0
	for _, k := range list {
		if k.good(late) {
			n++
		}
	}
	return float64(n) / float64(len(list))
}

// inARow is how many questions must be answered in time before packets flow.
const inARow = 10

// flowsAfter is how long after from packets flow as they did: to the first of
// so many questions in a row that are answered in time. It is negative where
// there are none.
func flowsAfter(list []known, from experiment.BootTime, late time.Duration) time.Duration {
	good := 0
	for i, k := range list {
		switch {
		case k.sent < from:
			continue
		case !k.good(late):
			good = 0
			continue
		}
		if good++; good == inARow {
			return list[i-inARow+1].sent.Sub(from)
		}
	}
	return -1
}
