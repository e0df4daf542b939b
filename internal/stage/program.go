package stage

import (
	"encoding/binary"
	"errors"
	"unsafe"
)

// Program is what a new process does before it becomes what it is for: a list
// of system calls as plain data. It is made by the launcher, sent to the fork
// server and run by its child, between fork and execve, where no code that
// allocates, locks or grows a stack may run.
type Program struct {
	Flags       uint64   // of clone(2): CLONE_NEWNS, CLONE_NEWPID …
	IntoCgroup  uint8    // register of a version 2 cgroup to start in (CLONE_INTO_CGROUP); 0 is none
	JoinPIDs    uint8    // register of a pidfd whose PID namespace to start in; 0 is none
	Ops         []Op     // what to do, in order
	Data        []byte   // what Ops point to
	Relocations []uint32 // words of Data, by offset, that are offsets into Data and become addresses
}

// Op is one system call, and what follows from its result.
type Op struct {
	Call  uint32    // the system call's number, or one of the Calls below
	Kinds [6]Kind   // what each of Args is
	Args  [6]uint64 // its arguments
	Out   uint8     // the register that keeps the result; 0 is none
	Flags uint8     // NonZero, Remember
	OnOK  uint16    // how many ops to skip when it succeeded
	Allow [2]uint16 // errors that are none
	OnErr uint16    // how many ops to skip at one of those
	_     [6]byte
}

// Kind tells what an argument is.
type Kind uint8

// Kinds of arguments.
const (
	Value    Kind = iota // the number itself
	Address              // an offset into Data, given as an address
	Register             // what a register holds
)

// Flags of an Op.
const (
	NonZero  = 1 << iota // a result of 0 is an error: the other end of a socket is gone
	Remember             // of the errors allowed, the first that is not "no such file" is what CallStop reports
)

// Calls that are no system calls.
const (
	CallFork  = 1<<20 + iota // fork; the child goes on, the parent skips OnOK ops and keeps the child's pid in Out. Args[0]: a version 2 cgroup to start the child in, or -1
	CallReap                 // be PID 1 for the child Args[0]: reap, pass on signals, write its wait status to Args[1], exit
	CallLoad                 // the result is the 32-bit number at Args[0]
	CallByte                 // ENOENT unless the byte at Args[0] is Args[1]
	CallStore                // put Args[1] at the address Args[0], as a 64-bit number
	CallStop                 // report the error that was remembered, or else ENOENT
)

// Registers that are set when a program starts.
const (
	Status    = 1 // its end of the socket to the launcher
	FirstFile = 2 // the other files sent along, in their order
)

// What a program says on its socket. Ask waits for an answer.
const (
	Ask     = 'Q' // who the user is: the root is in place
	Map     = 'M' // a user namespace is made, and has no map yet
	Execute = 'X' // execve comes next: the socket closes when it succeeds
	Failed  = 'E' // followed by the op's index and an errno, 32 bits each
)

// header goes before an encoded Program.
type header struct {
	Flags                  uint64
	Ops, Data, Relocations uint32
	IntoCgroup, JoinPIDs   uint8
	_                      [2]byte
}

// Reply is what the fork server answers: the new process, or an errno.
type Reply struct{ PID, Errno int32 }

const (
	headerSize = int(unsafe.Sizeof(header{}))
	opSize     = int(unsafe.Sizeof(Op{}))

	maxProgram = 64 << 20 // bytes; arguments and environment are bounded by the kernel far below
)

// Encode returns p as it goes to a fork server, which is the same binary.
func (p *Program) Encode() []byte {
	h := header{p.Flags, uint32(len(p.Ops)), uint32(len(p.Data)), uint32(len(p.Relocations)), p.IntoCgroup, p.JoinPIDs, [2]byte{}}
	b := make([]byte, 0, headerSize+h.rest())
	b = append(b, bytesOf(&h)...)
	for i := range p.Ops {
		b = append(b, bytesOf(&p.Ops[i])...)
	}
	for _, at := range p.Relocations {
		b = binary.NativeEndian.AppendUint32(b, at)
	}
	return append(b, p.Data...)
}

// rest is the length of what follows h.
func (h *header) rest() int {
	return int(h.Ops)*opSize + int(h.Relocations)*4 + int(h.Data)
}

var errProgram = errors.New("no program")

// decode is the opposite of Encode; rest is what follows h.
func decode(h header, rest []byte) (*Program, error) {
	if len(rest) != h.rest() {
		return nil, errProgram
	}
	p := &Program{Flags: h.Flags, IntoCgroup: h.IntoCgroup, JoinPIDs: h.JoinPIDs}
	p.Ops = make([]Op, h.Ops)
	for i := range p.Ops {
		copy(bytesOf(&p.Ops[i]), rest)
		rest = rest[opSize:]
	}
	for range h.Relocations {
		p.Relocations = append(p.Relocations, binary.NativeEndian.Uint32(rest))
		rest = rest[4:]
	}
	p.Data = rest
	return p, nil
}

// relocate turns offsets into addresses. Data must not move or be freed from
// here on until the fork.
func (p *Program) relocate() error {
	if len(p.Data) == 0 {
		p.Data = make([]byte, 1)
	}
	base := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p.Data))))
	for _, at := range p.Relocations {
		if int(at)+8 > len(p.Data) {
			return errProgram
		}
		word := p.Data[at:]
		binary.NativeEndian.PutUint64(word, base+binary.NativeEndian.Uint64(word))
	}
	return nil
}

// bytesOf returns the memory of v, which must hold no pointers.
func bytesOf[T header | Reply | Op](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// Bytes returns the memory of r, to read it into.
func (r *Reply) Bytes() []byte { return bytesOf(r) }
