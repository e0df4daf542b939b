package queue

import (
	"fmt"
	"math"
	"os"
	"syscall"
	"time"
)

// flush is a time at which all is due.
const flush = math.MaxInt64

// When the plane sleeps. A processor that sleeps takes some tens of
// microseconds to wake, so with few packets it is awake for spin before one is
// due. With many it sleeps for nap between batches of them: the plane goes
// before all else on its processor, which must not be kept from what others
// and the kernel itself have to do there.
const (
	spin = 50 * time.Microsecond
	nap  = 50 * time.Microsecond

	tick = time.Millisecond // for so long it may be awake
	few  = 8                // packets in or out, in a tick
)

// plane is what packets go through. One goroutine runs it.
type plane struct {
	arena *arena
	lanes []*lane
	order uint64 // packets that came
	start time.Time
	base  int64  // start on CLOCK_MONOTONIC, in nanoseconds
	bin   []byte // what is dropped is read into it
	polls []pollfd
	wake  int         // an eventfd: somebody waits in asked
	asked chan func() // to be run between packets
	ended bool

	woke, ticked  int64 // when it last slept, and when a tick began
	moved, before int   // packets in and out, in this tick and the one before
}

func (p *plane) now() int64 { return int64(time.Since(p.start)) }

func newPlane(o Order, wake int) (*plane, error) {
	a, err := newArena(o.Limit + 2*blockSize*len(o.Lanes)) // each lane keeps room for the next packet
	if err != nil {
		return nil, err
	}
	p := &plane{
		arena: a, start: time.Now(), base: monotonic(), bin: make([]byte, small.bytes()+maxFrame),
		wake: wake, asked: make(chan func(), 1),
		polls: []pollfd{{fd: int32(wake), events: pollIn}},
	}
	out := newBatch()
	for _, l := range o.Lanes {
		if err := syscall.SetNonblock(l.TAP, true); err != nil {
			return nil, fmt.Errorf("set up the device of %s: %w", l.Link, err)
		}
		p.lanes = append(p.lanes, newLane(l, o.Impair, o.Seed, out))
		p.polls = append(p.polls, pollfd{fd: int32(l.TAP), events: pollIn})
	}
	return p, nil
}

// run is the plane's life.
func (p *plane) run() {
	for !p.ended {
		moved, more := 0, false
		for _, l := range p.lanes {
			in := p.read(l)
			moved += in + p.send(l, p.now())
			more = more || in == readBatch
		}
		select {
		case fn := <-p.asked:
			_, _ = syscall.Read(p.wake, make([]byte, 8))
			fn()
		default:
			p.rest(moved, more)
		}
	}
}

// rest sleeps until shortly before something is due, or comes. The longer a
// processor sleeps the later it wakes, and the kernel may add a thousandth of
// the time (select_estimate_accuracy in fs/select.c): so a long sleep is done
// in several, each of most of the time that is left.
func (p *plane) rest(moved int, more bool) {
	now := p.now()
	if now-p.ticked > int64(tick) {
		p.ticked, p.before, p.moved = now, p.moved, 0
	}
	p.moved += moved
	dense := p.moved > few || p.before > few
	if more && now-p.woke < int64(tick) {
		return
	}
	wait := int64(-1)
	if due := p.next(); due != flush {
		wait = max(due-now-int64(spin), 0)
		wait -= wait / 32
	}
	switch {
	case dense:
		ppoll(p.polls[:1], int64(nap))
	case wait != 0:
		ppoll(p.polls, wait)
		p.checkDevices()
	default:
		return
	}
	p.woke = p.now()
}

// checkDevices ends this process where somebody has removed a device: what the
// rules forward would be lost.
func (p *plane) checkDevices() {
	for i := range p.polls {
		if p.polls[i].revents&^pollIn != 0 {
			os.Exit(1)
		}
	}
}

// next tells when the next packet is due.
func (p *plane) next() int64 {
	due := int64(flush)
	for _, l := range p.lanes {
		if k := l.hold.next(); k != nil {
			due = min(due, k.due)
		}
	}
	return due
}

// finish sends all that waits, here or in a device's queue, at once. It takes
// no longer than most: the rules that bring packets are gone by now.
func (p *plane) finish(most time.Duration) {
	for end := p.now() + int64(most); p.now() < end; {
		left := false
		for _, l := range p.lanes {
			left = p.read(l)+p.send(l, flush) > 0 || left
		}
		if !left {
			break
		}
	}
	p.ended = true
}

// stats returns what the lanes have counted.
func (p *plane) stats() []Stats {
	var list []Stats
	for _, l := range p.lanes {
		l.stats.Held = int64(l.hold.size())
		list = append(list, l.stats)
	}
	return list
}
