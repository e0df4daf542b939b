package queue

import (
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/simianhq/simian/internal/impair"
)

const (
	vnetHeader = 10       // struct virtio_net_hdr, before each frame that is read or written
	maxFrame   = 64 << 10 // bytes that may follow the first small slot

	readBatch = 32 // packets read before those are looked at that are due
	sendBatch = 64 // packets sent by one system call
)

// lane is one link and one direction at work.
type lane struct {
	Lane
	model *impair.Model
	hold  hold
	stats Stats
	last  uint64 // the latest arrival among those sent

	stamp *atomic.Uint64 // CLOCK_MONOTONIC in nanoseconds, set by the kernel where it is 0; nil where it can't
	empty int64          // when the TAP was found empty, and stamp set to 0; 0 once packets came

	head, tail slot // where the next packet is read into; none where the arena is full
	in         [2]syscall.Iovec
	out        *batch
}

func newLane(l Lane, cfg impair.Config, seed uint64, out *batch) *lane {
	made := &lane{
		Lane: l, out: out, hold: newHold(),
		model: impair.New(cfg, rand.NewPCG(seed, uint64(l.TAP))),
		stats: Stats{Link: l.Link, Ingress: l.Ingress},
	}
	if l.Stamp >= 0 {
		page, err := syscall.Mmap(l.Stamp, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err == nil {
			made.stamp = (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(page)))
		}
	}
	return made
}

// read takes in packets until there are none, or a batch of them.
func (p *plane) read(l *lane) int {
	for i := range readBatch {
		p.provide(l)
		n, errno := readv(l.TAP, &l.in)
		if errno != 0 || n <= vnetHeader {
			p.emptied(l)
			return i
		}
		p.accept(l, n, p.came(l))
	}
	return readBatch
}

// emptied notes that there was nothing to read.
func (p *plane) emptied(l *lane) {
	if l.stamp != nil {
		l.stamp.Store(0)
		l.empty = p.now()
	}
}

// came tells when a packet that was just read came into the TAP. The first one
// after a time without any may have had to wake this process, which can take
// 100 µs: the kernel has noted its time.
func (p *plane) came(l *lane) int64 {
	now := p.now()
	if l.empty == 0 {
		return now
	}
	noted := int64(l.stamp.Load()) - p.base
	if noted < l.empty || noted > now { // there is none
		noted = now
	}
	l.empty = 0
	return noted
}

// provide makes room for the next packet: a small slot, and behind it a whole
// block, which only large ones need. Where the arena is full, what comes is
// read nevertheless, and dropped: so a packet that waits was never in the
// kernel's queue for longer than it should.
func (p *plane) provide(l *lane) {
	if l.head == none {
		if l.head = p.arena.take(small); l.head != none {
			l.in[0] = iovec(p.arena.bytes(l.head))
		} else {
			l.in[0] = iovec(p.bin[:small.bytes()])
		}
	}
	if l.tail == none {
		if l.tail = p.arena.take(whole); l.tail != none {
			l.in[1] = iovec(p.arena.bytes(l.tail))
		} else {
			l.in[1] = iovec(p.bin[small.bytes():])
		}
	}
}

func iovec(b []byte) syscall.Iovec {
	return syscall.Iovec{Base: unsafe.SliceData(b), Len: uint64(len(b))}
}

// accept decides what becomes of a packet of n bytes that came at now.
func (p *plane) accept(l *lane, n int, now int64) {
	size := n - vnetHeader
	l.stats.Packets++
	l.stats.Bytes += int64(size)
	f := l.model.Packet(now, size)
	if f.Lost {
		l.stats.Lost++
		return
	}
	kept, ok := p.keep(l, n)
	if !ok {
		l.stats.Overflow++
		return
	}
	p.order++
	kept.due, kept.order = f.Due, p.order
	if f.Copies > 0 {
		p.double(l, kept, f)
	}
	if f.Corrupt {
		p.flip(l, &kept)
	}
	l.hold.add(kept)
}

// keep takes the packet out of the room that it was read into.
func (p *plane) keep(l *lane, n int) (packet, bool) {
	if l.head == none || n > small.bytes() && l.tail == none {
		return packet{}, false
	}
	kept := packet{head: l.head, size: int32(n)}
	if rest := n - small.bytes(); rest > 0 {
		kept.tail = p.fit(l, rest)
	}
	l.head = none
	return kept, true
}

// fit returns the rest of a packet in a slot of its size.
func (p *plane) fit(l *lane, rest int) slot {
	if rest <= middle.bytes() {
		if s := p.arena.take(middle); s != none {
			copy(p.arena.bytes(s), p.arena.bytes(l.tail)[:rest])
			return s
		}
	}
	s := l.tail
	l.tail = none
	return s
}

// double adds a copy of a packet.
func (p *plane) double(l *lane, of packet, f impair.Fate) {
	twin := of
	twin.head, twin.tail, twin.due = p.arena.take(small), none, f.CopyDue
	if twin.head != none && of.tail != none {
		twin.tail = p.arena.take(p.arena.class(of.tail))
	}
	if twin.head == none || (of.tail != none) != (twin.tail != none) {
		p.arena.give(twin.head)
		l.stats.Overflow++
		return
	}
	copy(p.arena.bytes(twin.head), p.arena.bytes(of.head))
	if of.tail != none {
		copy(p.arena.bytes(twin.tail), p.arena.bytes(of.tail))
	}
	if f.CopyBad {
		p.flip(l, &twin)
	}
	l.stats.Duplicated++
	l.hold.add(twin)
}

// flip turns one bit of a packet over, behind the link's header.
func (p *plane) flip(l *lane, k *packet) {
	start := vnetHeader + l.Header
	at, mask := l.model.Bit(int(k.size) - start)
	at += start
	b := p.arena.bytes(k.head)
	if at >= len(b) {
		at -= len(b)
		b = p.arena.bytes(k.tail)
	}
	b[at] ^= mask
	l.stats.Corrupted++
}
