package queue

import (
	"fmt"
	"math/bits"
	"syscall"
)

// blockSize is what the arena is cut into, in bytes. A frame of 64 KiB, the
// most that the kernel puts into one, takes one block and a small slot.
const blockSize = 64 << 10

// class is a size of slots. A block is cut into slots of one class, and is
// whole again once all of them are free: so memory that small packets took can
// be had by large ones later.
type class uint8

const (
	small class = iota // a frame of an ordinary MTU
	middle
	whole
	classes
)

// bytes is the size of a slot.
func (c class) bytes() int { return 2 << 10 << (3*c - c/2) } // 2, 16, 64 KiB

// slot is a piece of the arena: its block and its number in that, from 1 on;
// none is 0.
type slot uint32

const none slot = 0

// block is what is known of one piece of blockSize bytes.
type block struct {
	class      class
	used       uint8
	free       uint32 // a bit for each free slot
	prev, next int32  // in the list of those of its class with free slots; -1 is the end
}

// arena holds packets. It takes no more memory than it was made with, and
// gives out first what was given back last, so that few pages are in use, and
// the processor's caches know them.
type arena struct {
	mem    []byte
	blocks []block
	empty  []int32        // blocks of no class; the last is taken first
	open   [classes]int32 // first block of the class with free slots; -1 is none
}

// newArena returns one of about size bytes, at least four blocks: as much as
// the reader needs to take in what it must drop.
func newArena(size int) (*arena, error) {
	n := max(size/blockSize, 4)
	mem, err := syscall.Mmap(-1, 0, n*blockSize, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANONYMOUS|syscall.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n*blockSize, err)
	}
	a := &arena{mem: mem, blocks: make([]block, n), empty: make([]int32, 0, n), open: [classes]int32{-1, -1, -1}}
	for i := n - 1; i >= 0; i-- {
		a.empty = append(a.empty, int32(i))
	}
	return a, nil
}

// take returns a free slot of a class, none where the arena is full.
func (a *arena) take(c class) slot {
	at := a.open[c]
	if at < 0 {
		if at = a.cut(c); at < 0 {
			return none
		}
	}
	b := &a.blocks[at]
	n := bits.TrailingZeros32(b.free)
	b.free &^= 1 << n
	b.used++
	if b.free == 0 {
		a.unlink(at)
	}
	return (slot(at)<<5 | slot(n)) + 1
}

// cut makes slots of a class out of an empty block.
func (a *arena) cut(c class) int32 {
	if len(a.empty) == 0 {
		return -1
	}
	at := a.empty[len(a.empty)-1]
	a.empty = a.empty[:len(a.empty)-1]
	slots := blockSize / c.bytes()
	a.blocks[at] = block{class: c, free: uint32(1<<slots - 1)}
	a.link(at)
	return at
}

// give takes a slot back.
func (a *arena) give(s slot) {
	if s == none {
		return
	}
	at, n := int32((s-1)>>5), (s-1)&31
	b := &a.blocks[at]
	if b.free == 0 {
		a.link(at)
	}
	b.free |= 1 << n
	if b.used--; b.used == 0 {
		a.unlink(at)
		a.empty = append(a.empty, at)
	}
}

func (a *arena) link(at int32) {
	b := &a.blocks[at]
	b.prev, b.next = -1, a.open[b.class]
	if b.next >= 0 {
		a.blocks[b.next].prev = at
	}
	a.open[b.class] = at
}

func (a *arena) unlink(at int32) {
	b := &a.blocks[at]
	if b.prev >= 0 {
		a.blocks[b.prev].next = b.next
	} else {
		a.open[b.class] = b.next
	}
	if b.next >= 0 {
		a.blocks[b.next].prev = b.prev
	}
}

// bytes returns the memory of a slot.
func (a *arena) bytes(s slot) []byte {
	at, n := int((s-1)>>5), int((s-1)&31)
	size := a.blocks[at].class.bytes()
	start := at*blockSize + n*size
	return a.mem[start : start+size : start+size]
}

// class tells how large a slot is.
func (a *arena) class(s slot) class { return a.blocks[(s-1)>>5].class }
