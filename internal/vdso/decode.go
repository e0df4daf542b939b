package vdso

import (
	"bytes"
	"fmt"
)

// instruction is one that can be moved: how long it is, and where in it the
// four bytes stand that count from its end, 0 where it has none.
type instruction struct{ length, distance int }

// decode reads the few instructions with which compilers begin a function; of
// any other the length is 0. (Intel's manual, volume 2, chapter 2.)
func decode(b []byte) instruction {
	if bytes.HasPrefix(b, []byte{0xf3, 0x0f, 0x1e, 0xfa}) { // endbr64
		return instruction{length: 4}
	}
	rex, wide := 0, false
	if len(b) > 0 && b[0]&0xf0 == 0x40 {
		rex, wide = 1, b[0]&8 != 0
	}
	if len(b) < rex+1 {
		return instruction{}
	}
	switch op := b[rex]; {
	case op&0xf8 == 0x50: // push
		return instruction{length: rex + 1}
	case op&0xf8 == 0xb8 && !wide: // mov register, imm32
		return instruction{length: rex + 5}
	}
	return withOperands(b, rex)
}

// withOperands decodes what has a byte of operands (ModRM) behind its opcode.
func withOperands(b []byte, rex int) instruction {
	if len(b) < rex+2 {
		return instruction{}
	}
	registers := b[rex+1]&0xc0 == 0xc0
	relative := b[rex+1]&0xc7 == 0x05 // [rip+disp32]
	switch b[rex] {
	case 0x31, 0x33, 0x39, 0x3b, 0x63, 0x85, 0x89, 0x8b: // xor cmp movslq test mov
		if registers {
			return instruction{length: rex + 2}
		}
		if relative {
			return instruction{rex + 6, rex + 2}
		}
	case 0x8d: // lea
		if relative {
			return instruction{rex + 6, rex + 2}
		}
	case 0x83: // add or and sub xor cmp with imm8
		if registers {
			return instruction{length: rex + 3}
		}
	case 0x81: // the same with imm32
		if registers {
			return instruction{length: rex + 6}
		}
	}
	return instruction{}
}

// Begin returns the first instructions of code that have to be moved to make
// room for a jump.
func Begin(code []byte) ([]byte, error) {
	n := 0
	for n < jump {
		i := decode(code[n:])
		if i.length == 0 || n+i.length > len(code) {
			return nil, fmt.Errorf("its code begins with % x, which this Simian cannot move", code[:min(len(code), 16)])
		}
		n += i.length
	}
	return bytes.Clone(code[:n]), nil
}

// Returns tells whether code, which is a function's, may jump back to where the
// jump is to stand: to its first five bytes. It looks for anything that could
// be a jump there, so it may see one where there is none.
func Returns(code []byte) bool {
	for p := range code {
		if to, ok := jumpsTo(code, p); ok && to >= 0 && to < jump {
			return true
		}
	}
	return false
}

// jumpsTo gives where the bytes at p jump to, where they are a jump.
func jumpsTo(code []byte, p int) (int, bool) {
	b := code[p:]
	switch {
	case len(b) >= 2 && (b[0] == 0xeb || b[0]&0xf0 == 0x70 || b[0]&0xfc == 0xe0):
		return p + 2 + int(int8(b[1])), true
	case len(b) >= 5 && (b[0] == 0xe9 || b[0] == 0xe8):
		return p + 5 + distance(b[1:]), true
	case len(b) >= 6 && b[0] == 0x0f && b[1]&0xf0 == 0x80:
		return p + 6 + distance(b[2:]), true
	}
	return 0, false
}

func distance(b []byte) int {
	return int(int32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24))
}
