package vdso

import "encoding/binary"

// place is where a thread executes, or will go on once the handler of a
// signal returns.
type place struct{ ip, sp uint64 }

// Of a stack, so much is searched: for what a signal has interrupted, which is
// kept on the stack of its handler; and for where a function of the vDSO
// returns to, whose frames are small.
const (
	handlerDepth = 64 << 10
	vdsoDepth    = 256
)

// stands tells whether a thread is in this part of the vDSO, or will be: by
// itself, or because the kernel's code that it is in returns to it.
func (s *Still) stands(image Image, from, to int) bool {
	low, high := s.Base+uint64(from), s.Base+uint64(to)
	buffer := make([]byte, handlerDepth)
	for _, t := range s.threads {
		for _, c := range s.places(t, buffer) {
			if !s.inside(c.ip, image) {
				continue
			}
			if c.ip >= low && c.ip < high || s.returns(c.sp, low, high) {
				return true
			}
		}
	}
	return false
}

func (s *Still) inside(ip uint64, image Image) bool {
	return ip >= s.Base && ip < s.Base+uint64(image.Size)
}

// returns tells whether one of the next words of a stack leads into a range.
func (s *Still) returns(sp, low, high uint64) bool {
	var words [vdsoDepth]byte
	n := s.read(words[:], sp&^7)
	for b := words[:n]; len(b) >= 8; b = b[8:] {
		if word := binary.LittleEndian.Uint64(b); word >= low && word < high {
			return true
		}
	}
	return false
}

// What the kernel keeps of an interrupted thread, from its instruction pointer
// on, in bytes (struct ucontext and sigcontext of asm/sigcontext.h, 64 bits).
const (
	frameBegin      = -168
	frameStack      = -152 // of the thread's signal handlers: address, flags, size
	frameStackSize  = -136
	frameSP         = -8
	frameFlags      = 8
	frameSegment    = 16
	userCode64      = 0x33 // the code segment of 64-bit programs
	flagsAlwaysSet  = 2
	flagsNeverAbove = 1 << 22
)

// places returns where a thread executes, and what handlers of signals that
// it is in will return to.
func (s *Still) places(t *thread, buffer []byte) []place {
	list := []place{{t.ip, t.sp}}
	sp := t.sp &^ 7
	n := s.read(buffer, sp) // to where its stack ends, or others begin
	stack := buffer[:n]
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(stack[at:]) }
	for at := -frameBegin; at+frameSegment+8 <= len(stack); at += 8 {
		ip := word(at)
		if ip-s.Base >= 1<<16 { // not in the vDSO; what is below is far above, without a sign
			continue
		}
		flags := word(at + frameFlags)
		if flags&flagsAlwaysSet == 0 || flags >= flagsNeverAbove || uint16(word(at+frameSegment)) != userCode64 {
			continue
		}
		// On a stack for handlers it is this thread's only where that still
		// stands on the same: behind its own stack may be another thread's.
		low := word(at + frameStack)
		size := word(at + frameStackSize)
		frame := sp + uint64(at)
		if own := frame >= low && frame < low+size; own && (t.sp < low || t.sp >= low+size) {
			continue
		}
		list = append(list, place{ip, word(at + frameSP)})
	}
	return list
}
