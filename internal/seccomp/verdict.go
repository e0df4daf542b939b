package seccomp

import (
	"cmp"
	"fmt"
	"slices"

	bpf "github.com/elastic/go-seccomp-bpf"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// enosys is what a program gets for a call that the profile's authors did not
// know, so that it falls back to an older one, as on an older kernel.
const enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// verdict is what happens to one system call: the first rule whose conditions
// hold decides, and ret where none does.
type verdict struct {
	rules   []rule
	ret     uint32
	settled bool // by a rule without conditions
}

type rule struct {
	when []bpf.Condition // all of them
	ret  uint32
}

// constant tells whether v is the same whatever the arguments are.
func (v verdict) constant() bool { return len(v.rules) == 0 }

// add takes in one more rule as libseccomp does: one without conditions
// stands for itself alone, and the first of several holds.
func (v verdict) add(r rule) verdict {
	switch {
	case v.settled:
		return v
	case len(r.when) == 0:
		return verdict{ret: r.ret, settled: true}
	}
	v.rules = append(v.rules, r)
	return v
}

// entry is a rule on one number.
type entry struct {
	number uint32
	rule
}

// entries are the rules on the calls of one audit architecture, by number and
// in the profile's order.
func entries(p *specs.LinuxSeccomp, m machine) ([]entry, error) {
	out := make([]entry, 0, 1024)
	for _, s := range p.Syscalls {
		rules, err := rulesOf(s)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", s.Names, err)
		}
		numbers := m.numbers(p, s.Names)
		for _, r := range rules {
			for _, n := range numbers {
				out = append(out, entry{n, r})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int { return cmp.Compare(a.number, b.number) })
	return out, nil
}

// rulesOf is the rule of one group of calls. Where it compares one argument
// more than once, it is as many rules: runc reads it so, since the first
// profiles of Docker meant it so.
func rulesOf(s specs.LinuxSyscall) ([]rule, error) {
	ret, err := returnValue(s.Action, s.ErrnoRet)
	if err != nil {
		return nil, err
	}
	if !comparesTwice(s.Args) {
		when, err := conditions(s.Args)
		return []rule{{when, ret}}, err
	}
	var rules []rule
	for _, a := range s.Args {
		when, err := conditions([]specs.LinuxSeccompArg{a})
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule{when, ret})
	}
	return rules, nil
}

func comparesTwice(args []specs.LinuxSeccompArg) bool {
	seen := map[uint]bool{}
	for _, a := range args {
		if seen[a.Index] {
			return true
		}
		seen[a.Index] = true
	}
	return false
}

// conditions translates comparisons of arguments.
func conditions(args []specs.LinuxSeccompArg) ([]bpf.Condition, error) {
	var out []bpf.Condition
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("argument %d: a system call has 0 to 5", a.Index)
		}
		c, err := condition(a)
		if err != nil {
			return nil, err
		}
		out = append(out, c...)
	}
	return out, nil
}

func condition(a specs.LinuxSeccompArg) ([]bpf.Condition, error) {
	if a.Op == specs.OpMaskedEqual {
		return masked(uint32(a.Index), a.Value, a.ValueTwo)
	}
	op := operation(a.Op)
	if op == "" {
		return nil, fmt.Errorf("argument %d: comparison %q is not known", a.Index, a.Op)
	}
	return []bpf.Condition{{Argument: uint32(a.Index), Operation: op, Value: a.Value}}, nil
}

func operation(o specs.LinuxSeccompOperator) bpf.Operation {
	switch o {
	case specs.OpNotEqual:
		return bpf.NotEqual
	case specs.OpLessThan:
		return bpf.LessThan
	case specs.OpLessEqual:
		return bpf.LessOrEqual
	case specs.OpEqualTo:
		return bpf.Equal
	case specs.OpGreaterEqual:
		return bpf.GreaterOrEqual
	case specs.OpGreaterThan:
		return bpf.GreaterThan
	}
	return ""
}

// masked is arg & mask == want, said bit by bit: BitsSet asks for any of its
// bits, BitsNotSet for none.
func masked(arg uint32, mask, want uint64) ([]bpf.Condition, error) {
	if want&^mask != 0 {
		return nil, fmt.Errorf("argument %d: valueTwo %#x has bits that the mask %#x has not, so it never matches", arg, want, mask)
	}
	out := []bpf.Condition{{Argument: arg, Operation: bpf.BitsNotSet, Value: mask &^ want}}
	for bits := want; bits != 0; bits &= bits - 1 {
		out = append(out, bpf.Condition{Argument: arg, Operation: bpf.BitsSet, Value: bits & -bits})
	}
	return out, nil
}
