package vdso

import (
	"encoding/binary"
	"slices"
	"time"
)

// The head of the room: what our code reads.
//
//	0  ID of the shift: written first, taken away last
//	8  "simian" and zeros, for who meets it in a debugger
//	16 seconds to add, as a signed number
//	24 nanoseconds to add, 0 to 999,999,999
//	32 the same as microseconds
const headSize = 40

// head returns the head of a shift.
func head(s Shift) []byte {
	seconds, rest := s.Offset/time.Second, s.Offset%time.Second
	if rest < 0 {
		seconds, rest = seconds-1, rest+time.Second
	}
	b := binary.LittleEndian.AppendUint64(nil, s.ID)
	b = append(b, "simian\x00\x00"...)
	b = binary.LittleEndian.AppendUint64(b, uint64(seconds))
	b = binary.LittleEndian.AppendUint64(b, uint64(rest))
	return binary.LittleEndian.AppendUint64(b, uint64(rest/time.Microsecond))
}

func offsetOf(head []byte) time.Duration {
	seconds := int64(binary.LittleEndian.Uint64(head[16:]))
	return time.Duration(seconds)*time.Second + time.Duration(binary.LittleEndian.Uint64(head[24:]))
}

// code is what is written into a process.
type code struct {
	room    []byte   // at Image.Room
	entries [][]byte // at each site: the jump, and what is left of what it covers
}

// assembler puts instructions one after the other. Places are counted from the
// vDSO's start.
type assembler struct {
	b  []byte
	at int // of b[0]
}

func (a *assembler) here() int { return a.at + len(a.b) }

func (a *assembler) put(b ...byte) { a.b = append(a.b, b...) }

// far puts an instruction that ends in a distance of four bytes to a place.
func (a *assembler) far(to int, opcode ...byte) {
	a.put(opcode...)
	a.b = binary.LittleEndian.AppendUint32(a.b, uint32(int32(to-a.here()-4)))
}

// assemble makes the code of a shift.
func assemble(image Image, s Shift) code {
	a := &assembler{b: head(s), at: image.Room}
	ours := map[string]int{}
	for _, site := range image.Sites { // clock_gettime is the first: time calls it
		ours[site.Name] = a.here()
		switch site.Name {
		case "clock_gettime":
			a.clockGettime(site)
		case "gettimeofday":
			a.gettimeofday(site)
		case "time":
			a.time(ours["clock_gettime"])
		}
	}
	c := code{room: a.b}
	for _, site := range image.Sites {
		e := assembler{at: site.At}
		e.far(ours[site.Name], 0xe9) // jmp
		c.entries = append(c.entries, append(e.b, site.Was[jump:]...))
	}
	return c
}

// clockGettime puts clock_gettime(edi: clock, rsi: where to). Clocks other than
// those of the time of day go on in the kernel's code at once.
func (a *assembler) clockGettime(site Site) {
	skip := len(a.moved(site))
	a.put(0x85, 0xff, 0x74, byte(3+2+3+2+skip)) // test edi, edi; je ours    CLOCK_REALTIME
	a.put(0x83, 0xff, 5, 0x74, byte(3+2+skip))  // cmp edi, 5; je ours       CLOCK_REALTIME_COARSE
	a.put(0x83, 0xff, 11, 0x74, byte(skip))     // cmp edi, 11; je ours      CLOCK_TAI
	theirs := a.here()
	a.put(a.moved(site)...)
	a.put(0x56)         // ours: push rsi, which aligns the stack too
	a.far(theirs, 0xe8) // call theirs
	a.put(0x5e)         // pop rsi
	a.add(rsi, 24, 1_000_000_000)
}

// gettimeofday puts gettimeofday(rdi: where to, or nowhere, rsi: time zone).
func (a *assembler) gettimeofday(site Site) {
	a.put(0x48, 0x85, 0xff, 0x75, byte(len(a.moved(site)))) // test rdi, rdi; jne ours
	theirs := a.here()
	a.put(a.moved(site)...)
	a.put(0x57)         // ours: push rdi
	a.far(theirs, 0xe8) // call theirs
	a.put(0x5f)         // pop rdi
	a.add(rdi, 32, 1_000_000)
}

// The registers that say where the time goes, by number.
const (
	rsi = 6
	rdi = 7
)

// add puts what adds the offset to the seconds at [reg] and the fractions of a
// second at [reg+8], of which there are so many in a second, and returns. What
// has failed stays as it is.
func (a *assembler) add(reg byte, fraction int, second uint32) {
	imm := binary.LittleEndian.AppendUint32(nil, second)
	a.put(0x85, 0xc0, 0x75, 44)                            // test eax, eax; jne to ret
	a.far(a.at+16, 0x48, 0x8b, 0x15)                       // mov rdx, seconds
	a.far(a.at+fraction, 0x48, 0x8b, 0x0d)                 // mov rcx, fraction
	a.put(0x48, 0x03, 0x48|reg, 8)                         // add rcx, [reg+8]
	a.put(slices.Concat([]byte{0x48, 0x81, 0xf9}, imm)...) // cmp rcx, second
	a.put(0x72, 10)                                        // jb over the next two
	a.put(slices.Concat([]byte{0x48, 0x81, 0xe9}, imm)...) // sub rcx, second
	a.put(0x48, 0xff, 0xc2)                                // inc rdx
	a.put(0x48, 0x01, 0x10|reg)                            // add [reg], rdx
	a.put(0x48, 0x89, 0x48|reg, 8)                         // mov [reg+8], rcx
	a.put(0xc3)                                            // ret
}

// time puts time(rdi: where to, or nowhere), which is the seconds of the coarse
// clock.
func (a *assembler) time(clockGettime int) {
	a.put(0x57)                      // push rdi
	a.put(0x48, 0x83, 0xec, 16)      // sub rsp, 16
	a.put(0xbf, 5, 0, 0, 0)          // mov edi, CLOCK_REALTIME_COARSE
	a.put(0x48, 0x89, 0xe6)          // mov rsi, rsp
	a.far(clockGettime, 0xe8)        // call clock_gettime
	a.put(0x48, 0x8b, 0x04, 0x24)    // mov rax, [rsp]
	a.put(0x48, 0x83, 0xc4, 16)      // add rsp, 16
	a.put(0x5f)                      // pop rdi
	a.put(0x48, 0x85, 0xff, 0x74, 3) // test rdi, rdi; je over the next
	a.put(0x48, 0x89, 0x07)          // mov [rdi], rax
	a.put(0xc3)                      // ret
}

// moved returns the first instructions of a site, as they do the same at this
// place, and a jump to the one after them.
func (a *assembler) moved(site Site) []byte {
	m := assembler{at: a.here()}
	for b := site.Was; len(b) > 0; {
		i := decode(b)
		if i.distance == 0 {
			m.put(b[:i.length]...)
		} else { // told from the instruction's end
			end := site.At + len(site.Was) - len(b) + i.length
			m.far(end+int(int32(binary.LittleEndian.Uint32(b[i.distance:]))), b[:i.distance]...)
		}
		b = b[i.length:]
	}
	m.far(site.At+len(site.Was), 0xe9) // jmp
	return m.b
}
