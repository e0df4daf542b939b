package op

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// attach loads the program and links it to the cgroup.
func (d *DeviceFilter) attach(dir int) (*heldFilter, error) {
	program, count, err := loadDeviceFilter(d.Name, d.Denied)
	if err != nil {
		return nil, err
	}
	defer program.Close() // the link keeps it
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: dir, Program: program, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		count.Close()
		return nil, fmt.Errorf("attach a BPF program to cgroup %s: %w", d.Cgroup.Path, needsLink(err))
	}
	return &heldFilter{l, count}, nil
}

// needsLink says why the kernel refuses a program.
func needsLink(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("another program is there, and does not suffer one beside it: %w", experiment.ErrBusy)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("it needs Linux 5.7: %w: %w", err, experiment.ErrUnsupported)
	}
	return err
}

// CheckDeviceFilter gives an error where this kernel or user cannot load such
// a program.
func CheckDeviceFilter(denied []DeviceRule) error {
	program, count, err := loadDeviceFilter("simian_check", denied)
	if err != nil {
		return err
	}
	return errors.Join(program.Close(), count.Close())
}

// Of include/uapi/linux/bpf.h: struct bpf_cgroup_dev_ctx, whose access_type
// holds what is to be done in its upper half and the kind in its lower.
const (
	devAccess, devMajor, devMinor = 0, 4, 8
	devBlock, devChar             = 1, 2
	devMknod, devRead, devWrite   = 1, 2, 4
)

// loadDeviceFilter loads the program that denies devices, and counts how often
// it did.
func loadDeviceFilter(name string, denied []DeviceRule) (*ebpf.Program, *ebpf.Map, error) {
	count, err := ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, nil, fmt.Errorf("make a BPF map: %w", needsRoot(err))
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.CGroupDevice, AttachType: ebpf.AttachCGroupDevice, License: "GPL", Instructions: deviceCode(denied, count.FD()),
	})
	if err != nil {
		count.Close()
		return nil, nil, fmt.Errorf("load a BPF program: %w", needsRoot(err))
	}
	return program, count, nil
}

func needsRoot(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: it needs root", err)
	}
	return err
}

// deviceCode is the program: one comparison after the other, then yes.
func deviceCode(denied []DeviceRule, count int) asm.Instructions {
	code := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, devAccess, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, devMajor, asm.Word),
		asm.LoadMem(asm.R4, asm.R1, devMinor, asm.Word),
		asm.Mov.Reg(asm.R5, asm.R2),
		asm.And.Imm(asm.R5, 0xffff), // the kind
		asm.RSh.Imm(asm.R2, 16),     // what is to be done
	}
	for i, r := range denied {
		next := fmt.Sprintf("rule %d", i+1)
		rule := asm.Instructions{
			asm.JNE.Imm(asm.R5, map[string]int32{"b": devBlock, "c": devChar}[r.Kind], next),
			asm.JNE.Imm32(asm.R3, int32(r.Major), next),
			asm.JNE.Imm32(asm.R4, int32(r.Minor), next),
			asm.Mov.Reg(asm.R6, asm.R2),
			asm.And.Imm(asm.R6, accessBits(r.Access)),
			asm.JNE.Imm(asm.R6, 0, "deny"),
		}
		if i > 0 {
			rule[0] = rule[0].WithSymbol(fmt.Sprintf("rule %d", i))
		}
		code = append(code, rule...)
	}
	return append(code,
		asm.Mov.Imm(asm.R0, 1).WithSymbol(fmt.Sprintf("rule %d", len(denied))),
		asm.Return(),
		asm.LoadMapValue(asm.R1, count, 0).WithSymbol("deny"),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	)
}

func accessBits(access string) (bits int32) {
	for letter, bit := range map[string]int32{"r": devRead, "w": devWrite, "m": devMknod} {
		if strings.Contains(access, letter) {
			bits |= bit
		}
	}
	return bits
}
