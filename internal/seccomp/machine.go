package seccomp

import (
	"fmt"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// abi is one way to make system calls: a table of numbers, in a range of its
// own among those of its audit architecture.
type abi struct {
	name        specs.Arch
	table       *arch.Info
	first, last uint32
	own         map[string]int // these, whatever the table says
}

// machine is one audit architecture, as the kernel gives it to a filter. Two
// ABIs can share one: x32's numbers have bit 30 set, ARM's private ones begin
// at 0xf0000.
type machine struct {
	audit uint32
	abis  []abi
}

const (
	x32Bit     = 0x40000000 // __X32_SYSCALL_BIT
	armPrivate = 0x000f0000 // __ARM_NR_BASE
	endOfCalls = 0xffffffff

	x32First, x32Last = 512, 547 // x32's own calls (arch/x86/entry/syscalls/syscall_64.tbl)
)

// machinesOf lists the native architecture of goarch first, then those whose
// programs it also runs.
func machinesOf(goarch string) ([]machine, error) {
	switch goarch {
	case "amd64":
		return []machine{
			{unix.AUDIT_ARCH_X86_64, []abi{
				{specs.ArchX86_64, arch.X86_64, 0, x32Bit - 1, nil},
				{specs.ArchX32, arch.X32, x32Bit, endOfCalls, x32Own()},
			}},
			{unix.AUDIT_ARCH_I386, []abi{{specs.ArchX86, arch.I386, 0, endOfCalls, nil}}},
		}, nil
	case "arm64":
		return []machine{
			{unix.AUDIT_ARCH_AARCH64, []abi{{specs.ArchAARCH64, arch.AARCH64, 0, endOfCalls, nil}}},
			{unix.AUDIT_ARCH_ARM, []abi{
				{specs.ArchARM, arch.ARM, 0, armPrivate - 1, nil},
				{specs.ArchARM, arch.ARM, armPrivate, endOfCalls, nil},
			}},
		}, nil
	}
	return nil, fmt.Errorf("architecture %s: no table of system calls", goarch)
}

// x32Own are the calls that x32 has at numbers of its own. The library lists
// them there and at x86_64's numbers too, which x32 has not, and finds one or
// the other by name, as the order of a map will have it.
func x32Own() map[string]int {
	own := make(map[string]int, x32Last-x32First+1)
	for n := x32First; n <= x32Last; n++ {
		own[arch.X32.SyscallNumbers[n]] = n
	}
	return own
}

// wants tells whether the profile covers a: the native ABI always is.
func (a abi) wants(p *specs.LinuxSeccomp) bool {
	return a.name == specs.ArchX86_64 || a.name == specs.ArchAARCH64 || slices.Contains(p.Architectures, a.name)
}

// number finds a system call by name. Most calls are in few architectures.
func (a abi) number(name string) (uint32, bool) {
	n, ok := a.own[name]
	if !ok {
		n, ok = a.table.SyscallNames[name]
	}
	number := uint32(n | a.table.SeccompMask)
	return number, ok && number >= a.first && number <= a.last
}

// numbers are those of names under all ABIs of m that the profile covers.
func (m machine) numbers(p *specs.LinuxSeccomp, names []string) []uint32 {
	var out []uint32
	for _, a := range m.abis {
		if !a.wants(p) {
			continue
		}
		for _, name := range names {
			if n, ok := a.number(name); ok {
				out = append(out, n)
			}
		}
	}
	return out
}

// checkArchitectures reports names that are no architecture. Those of other
// machines are fine: a profile may serve several.
func checkArchitectures(p *specs.LinuxSeccomp) error {
	known := []specs.Arch{
		specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
		specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
		specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X,
		specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64, specs.ArchLOONGARCH64,
	}
	for _, a := range p.Architectures {
		if !slices.Contains(known, a) {
			return fmt.Errorf("architecture %q is not known", a)
		}
	}
	return nil
}
