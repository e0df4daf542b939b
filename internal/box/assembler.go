package box

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/stage"
)

// register holds what an earlier call returned, such as a file descriptor.
type register uint8

// address is a place in a program's data.
type address uint32

// assembler makes a stage.Program: what a container does before it executes
// its command. Each op has words for it, which an error begins with.
type assembler struct {
	stage.Program
	words   []string // of each op
	strings map[string]address
	next    register
	err     error // the first thing that cannot be put into a program
}

// lastRegister is the highest there is.
const lastRegister = 255

func newAssembler(files int) *assembler {
	return &assembler{strings: map[string]address{}, next: stage.Status + register(files)}
}

// op is one op that was just added.
type op struct {
	a *assembler
	i int
}

func (o op) it() *stage.Op { return &o.a.Ops[o.i] }

// do adds a system call. Its arguments are numbers, registers, addresses, and
// strings, which are given as addresses of them.
func (a *assembler) do(words string, call int, args ...any) op {
	it := stage.Op{Call: uint32(call)}
	for i, arg := range args {
		it.Kinds[i], it.Args[i] = a.argument(words, arg)
	}
	a.Ops = append(a.Ops, it)
	a.words = append(a.words, words)
	return op{a, len(a.Ops) - 1}
}

func (a *assembler) argument(words string, arg any) (stage.Kind, uint64) {
	switch v := arg.(type) {
	case register:
		return stage.Register, uint64(v)
	case address:
		return stage.Address, uint64(v)
	case string:
		return stage.Address, uint64(a.string(words, v))
	case int:
		return stage.Value, uint64(v)
	case uint64:
		return stage.Value, v
	}
	a.fail(fmt.Errorf("%s: argument %v is of no known type", words, arg))
	return stage.Value, 0
}

func (a *assembler) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// out keeps the result in a register of its own.
func (o op) out() register {
	if o.a.next == lastRegister {
		o.a.fail(fmt.Errorf("%s: more files than a first stage can hold: too many mounts", o.a.words[o.i]))
		return o.a.next
	}
	o.a.next++
	return o.into(o.a.next - 1)
}

// into keeps the result in a register that is there already.
func (o op) into(r register) register {
	o.it().Out = uint8(r)
	return r
}

// allow takes one or two errors for none.
func (o op) allow(errs ...unix.Errno) op {
	for i, err := range errs {
		o.it().Allow[i] = uint16(err)
	}
	return o
}

// skip sets how many ops to leave out when it succeeded, and at an error that
// is allowed.
func (o op) skip(ok, err int) op {
	o.it().OnOK, o.it().OnErr = uint16(ok), uint16(err)
	return o
}

func (o op) flag(f uint8) op {
	o.it().Flags |= f
	return o
}

// string returns where s stands in the data, with a zero byte after it.
func (a *assembler) string(words, s string) address {
	if at, ok := a.strings[s]; ok {
		return at
	}
	if strings.IndexByte(s, 0) >= 0 {
		a.fail(fmt.Errorf("%s: %q has a zero byte in it", words, s))
	}
	at := address(len(a.Data))
	a.Data = append(append(a.Data, s...), 0)
	a.strings[s] = at
	return at
}

// bytes puts b into the data, at a multiple of 8.
func (a *assembler) bytes(b []byte) address {
	for len(a.Data)%8 != 0 {
		a.Data = append(a.Data, 0)
	}
	at := address(len(a.Data))
	a.Data = append(a.Data, b...)
	return at
}

// words64 puts numbers of 64 bits into the data.
func (a *assembler) words64(v ...uint64) address {
	var b []byte
	for _, n := range v {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return a.bytes(b)
}

// pointers puts an array of addresses into the data, with a zero after it, as
// execve(2) wants it. The address 0 stands for one that is left to be zero.
func (a *assembler) pointers(list []address) address {
	v := make([]uint64, len(list)+1)
	for i, at := range list {
		v[i] = uint64(at)
	}
	array := a.words64(v...)
	for i := range list {
		a.Relocations = append(a.Relocations, uint32(array)+uint32(8*i))
	}
	return array
}

// list puts strings and an array of their addresses into the data.
func (a *assembler) list(words string, values []string) address {
	at := make([]address, len(values))
	for i, v := range values {
		at[i] = a.string(words, v)
	}
	return a.pointers(at)
}
