package op

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Of include/uapi/linux/bpf.h: the mark in struct __sk_buff, and
// BPF_F_INGRESS.
const (
	markOffset = 8
	bpfIngress = 1
)

// attach adds BPF programs to the TAP, which go with it: one that notes when
// packets come, and for ingress one by which they go on.
func (d *device) attach(mark uint32) error {
	at := netlink.QdiscAttrs{LinkIndex: d.index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: at}); err != nil {
		return d.needed(fmt.Errorf("add clsact to %s: %w", d.device, err))
	}
	if err := d.note(); err != nil && d.stamp != nil { // without it packets are somewhat later
		d.stamp.Close()
		d.stamp = nil
	}
	if !d.ingress {
		return nil
	}
	return d.redirect(mark)
}

// needed leaves out an error where the TAP is of use without BPF.
func (d *device) needed(err error) error {
	if d.ingress {
		return err
	}
	return nil
}

// note makes the time at which a packet came into the TAP known to the helper:
// it would else take its own waking for the packet's coming. Of those that
// come before the helper has set it to 0 again, that of the first stays.
func (d *device) note() (err error) {
	d.stamp, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "simian_queue", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return err
	}
	return d.filter(netlink.HANDLE_MIN_EGRESS, asm.Instructions{
		asm.LoadMapValue(asm.R6, d.stamp.FD(), 0),
		asm.LoadMem(asm.R1, asm.R6, 0, asm.DWord),
		asm.JNE.Imm(asm.R1, 0, "go on"),
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(asm.R6, 0, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("go on"), // TC_ACT_OK
		asm.Return(),
	})
}

// redirect makes what the helper writes into the TAP come in by the link, with
// a mark.
func (d *device) redirect(mark uint32) error {
	return d.filter(netlink.HANDLE_MIN_INGRESS, asm.Instructions{
		asm.Mov.Imm32(asm.R2, int32(mark)),
		asm.StoreMem(asm.R1, markOffset, asm.R2, asm.Word), // a constant can be stored there since Linux 6.8 only
		asm.Mov.Imm(asm.R1, int32(d.link.Index)),
		asm.Mov.Imm(asm.R2, bpfIngress),
		asm.FnRedirect.Call(),
		asm.Return(),
	})
}

// filter adds a program to one side of the TAP (tc-bpf(8)).
func (d *device) filter(parent uint32, code asm.Instructions) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "simian_queue", Type: ebpf.SchedCLS, License: "GPL", Instructions: code})
	if err != nil {
		return fmt.Errorf("load a BPF program for %s: %w", d.device, err)
	}
	defer program.Close() // the filter keeps it
	err = netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: d.index, Parent: parent, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:          program.FD(), Name: "simian_queue", DirectAction: true,
	})
	if err != nil {
		return fmt.Errorf("add a BPF filter to %s: %w", d.device, err)
	}
	return nil
}
