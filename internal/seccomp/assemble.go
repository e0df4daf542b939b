package seccomp

import (
	"fmt"
	"math"
	"slices"

	elastic "github.com/elastic/go-seccomp-bpf"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	maxInstructions = 4096 // BPF_MAXINSNS
	maxSkip         = math.MaxUint8

	// struct seccomp_data: int nr; __u32 arch; …
	offNumber = 0
	offArch   = 4
	wordBytes = 4
)

// killed is what a program of an architecture gets that the profile leaves
// out. Docker kills the thread only, which leaves the others waiting for it.
const killed = unix.SECCOMP_RET_KILL_PROCESS

// span is a run of numbers that share a verdict; it ends where the next begins.
type span struct {
	first uint32
	verdict
}

// compile makes the filter for a machine on which Go calls the native
// architecture goarch.
func compile(p *specs.LinuxSeccomp, goarch string) ([]unix.SockFilter, error) {
	if err := checkArchitectures(p); err != nil {
		return nil, err
	}
	machines, err := machinesOf(goarch)
	if err != nil {
		return nil, err
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offArch, Size: wordBytes}}
	for _, m := range machines {
		section, err := m.section(p)
		if err != nil {
			return nil, err
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: m.audit, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(section))})
		program = append(program, section...)
	}
	return raw(append(program, bpf.RetConstant{Val: killed}))
}

func raw(program []bpf.Instruction) ([]unix.SockFilter, error) {
	if len(program) > maxInstructions {
		return nil, fmt.Errorf("%d instructions: the kernel takes %d", len(program), maxInstructions)
	}
	code, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	out := make([]unix.SockFilter, len(code))
	for i, c := range code {
		out[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	return out, nil
}

// section is the part of the program for one audit architecture. It always
// returns.
func (m machine) section(p *specs.LinuxSeccomp) ([]bpf.Instruction, error) {
	def, err := returnValue(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	calls, err := entries(p, m)
	if err != nil {
		return nil, err
	}
	var spans []span
	for _, a := range m.abis {
		if !a.wants(p) {
			spans = append(spans, span{a.first, verdict{ret: killed}})
			continue
		}
		spans = append(spans, a.spans(calls, def)...)
	}
	code, err := tree(nil, merge(spans))
	code = append(code, bpf.LoadAbsolute{Off: offNumber, Size: wordBytes})
	slices.Reverse(code)
	return code, err
}

// spans covers the numbers of one ABI from its first to its last.
func (a abi) spans(calls []entry, def uint32) []span {
	next, out := a.first, make([]span, 0, len(calls))
	for _, e := range calls {
		if e.number < a.first || e.number > a.last {
			continue
		}
		if e.number > next {
			out = append(out, span{next, verdict{ret: def}})
		}
		if e.number >= next {
			out = append(out, span{e.number, verdict{ret: def}})
			next = e.number + 1
		}
		if e.ret != def { // runc leaves out what says nothing new
			last := &out[len(out)-1]
			last.verdict = last.add(e.rule)
		}
	}
	return append(out, span{next, verdict{ret: newer(def)}})
}

// newer is the verdict on calls beyond the last that the profile names.
func newer(def uint32) uint32 {
	if permissive(def) {
		return def
	}
	return enosys
}

// merge joins neighbours of which nothing but the number differs.
func merge(spans []span) []span {
	return slices.CompactFunc(spans, func(a, b span) bool {
		return a.constant() && b.constant() && a.ret == b.ret
	})
}

// tree finds the span of the number in the accumulator. It is written from its
// end to its beginning, because a jump must know how much it skips.
func tree(out []bpf.Instruction, spans []span) ([]bpf.Instruction, error) {
	if len(spans) == 1 {
		code, err := spans[0].code()
		slices.Reverse(code)
		return append(out, code...), err
	}
	middle := len(spans) / 2
	out, err := tree(out, spans[middle:])
	if err != nil {
		return nil, err
	}
	high := len(out)
	if out, err = tree(out, spans[:middle]); err != nil {
		return nil, err
	}
	return branch(out, spans[middle].first, len(out)-high), nil
}

// branch skips n instructions where the number is at least pivot. A
// conditional jump reaches 255 instructions, a plain one any.
func branch(out []bpf.Instruction, pivot uint32, n int) []bpf.Instruction {
	if n <= maxSkip {
		return append(out, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: pivot, SkipTrue: uint8(n)})
	}
	return append(out, bpf.Jump{Skip: uint32(n)}, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: pivot, SkipFalse: 1})
}

// code decides by the arguments.
func (v verdict) code() ([]bpf.Instruction, error) {
	var out []bpf.Instruction
	for _, r := range v.rules {
		block, err := r.code()
		if err != nil {
			return nil, err
		}
		out = append(out, block...)
	}
	return append(out, bpf.RetConstant{Val: v.ret}), nil
}

// code returns r.ret where all conditions hold, and goes on behind itself
// where one does not.
//
// The library's own way to put calls into one program is of no use here: it
// goes on with an argument in the accumulator where it held the number, so
// that what follows compares the wrong thing, its jumps over more than 255
// instructions miss, and it takes errno 0 for EPERM. So each rule is a program
// of its own, a short one, whose return value is put in here.
func (r rule) code() ([]bpf.Instruction, error) {
	p := elastic.NewProgram()
	matched, end := p.NewLabel(), p.NewLabel()
	call := elastic.SyscallWithConditions{Conditions: []elastic.ArgumentConditions{r.when}}
	call.Assemble(&p, false, matched, end)
	p.SetLabel(matched)
	p.Ret(elastic.Action(r.ret))
	p.SetLabel(end)
	code, err := p.Assemble()
	if err != nil {
		return nil, err
	}
	if len(code) > maxSkip {
		return nil, fmt.Errorf("the comparisons of one rule take %d instructions, and %d at most", len(code), maxSkip)
	}
	code[len(code)-1] = bpf.RetConstant{Val: r.ret}
	return code[1:], nil // the tree has compared the number already
}
