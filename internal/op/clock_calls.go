package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/vdso"
)

// A program that asks the kernel itself for the time does not go through its
// vDSO. What the kernel has written for it is changed by a BPF program at the
// end of the system call (the raw tracepoint sys_exit), before the process goes
// on. Only processes in the program's map are, and not calls that the vDSO
// makes: our code there adds the offset. This process holds the link to the
// program, so the kernel takes it away when this process ends.

// heldCalls is the program in force, whose clock it shifts, and how often it
// did.
type heldCalls struct {
	link    link.Link
	program *ebpf.Program
	shifts  *ebpf.Map // by thread group
	count   *ebpf.Map
}

// callShift is the value of the map, as the program reads it. Sec and Nsec are
// the offset, Nsec from 0 to 999,999,999.
type callShift struct {
	Sec, Nsec       int64
	VDSO, BehindEnd uint64 // where the process's vDSO begins, and what is behind it
}

func newCallShift(offset time.Duration, base uint64, image vdso.Image) callShift {
	sec, nsec := offset/time.Second, offset%time.Second
	if nsec < 0 {
		sec, nsec = sec-1, nsec+time.Second
	}
	return callShift{int64(sec), int64(nsec), base, base + uint64(image.Size)}
}

// Close takes the program away.
func (h *heldCalls) Close() error {
	return errors.Join(h.link.Close(), h.program.Close(), h.shifts.Close(), h.count.Close())
}

// CanCatchClockCalls gives an error where system calls that read the time of
// day can't be caught here: ErrUnsupported, or os.ErrPermission.
func CanCatchClockCalls(host *Host) error {
	initial, err := host.FS.InitialPIDNamespace()
	if err != nil {
		return err
	}
	if !initial { // the kernel tells a BPF program pids of the initial one
		return fmt.Errorf("this is a PID namespace of its own, and a BPF program is told the pids of the first one: %w", experiment.ErrUnsupported)
	}
	held, err := loadClockCalls("simian_check")
	if err != nil {
		return err
	}
	return held.Close()
}

// attachClockCalls loads the program and attaches it. It changes nothing of
// anybody's yet.
func attachClockCalls(name string) (*heldCalls, error) {
	held, err := loadClockCalls(name)
	if err != nil {
		return nil, err
	}
	held.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "sys_exit", Program: held.program})
	if err != nil {
		held.link = noLink{}
		return nil, errors.Join(fmt.Errorf("attach a BPF program to sys_exit: %w", err), held.Close())
	}
	return held, nil
}

// noLink stands for the link of a program that is not attached.
type noLink struct{ link.Link }

// Close implements link.Link.
func (noLink) Close() error { return nil }

// mostCallers is of how many processes calls can be caught.
const mostCallers = 1 << 14

func loadClockCalls(name string) (*heldCalls, error) {
	h := &heldCalls{link: noLink{}}
	var err error
	h.shifts, err = ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Hash, KeySize: 4, ValueSize: 32, MaxEntries: mostCallers, Flags: unix.BPF_F_NO_PREALLOC})
	if err != nil {
		return nil, fmt.Errorf("make a BPF map: %w", noCalls(err))
	}
	h.count, err = ebpf.NewMap(&ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a BPF map: %w", noCalls(err)), h.shifts.Close())
	}
	h.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.RawTracepoint, License: "GPL", Instructions: clockCallsCode(h.shifts.FD(), h.count.FD())})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load a BPF program: %w", noCalls(err)), h.shifts.Close(), h.count.Close())
	}
	return h, nil
}

// noCalls says why the kernel refuses such a program: under lockdown no program
// may write into a process (kernel_lockdown(7)).
func noCalls(err error) error {
	var refused *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: it needs CAP_SYS_ADMIN", err)
	case errors.As(err, &refused):
		return fmt.Errorf("this kernel lets no BPF program write into a process (it is locked down, or has no bpf_probe_write_user): %w", experiment.ErrUnsupported)
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: %w", err, experiment.ErrUnsupported)
	}
	return err
}

// catchCalls has the program shift for those whose vDSO is shifted, and for
// nobody else. Without a program it does nothing.
func (c *Clock) catchCalls() error {
	if c.Program == "" {
		return nil
	}
	held, ok := c.host.holds(c.callsKey()).(*heldCalls)
	if !ok {
		var err error
		if held, err = attachClockCalls(c.Program); err != nil {
			return err
		}
		c.host.hold(c.callsKey(), held)
	}
	found, err := c.members()
	if err != nil {
		return err
	}
	return held.sync(c, found)
}

func (c *Clock) callsKey() string { return "clock calls " + c.Program }

// sync writes down who is shifted. Who has ended is taken out within
// clockFollowEvery, and a pid is not given anew so soon: the kernel goes through
// all others first.
func (h *heldCalls) sync(c *Clock, found []clockMember) error {
	want := map[uint32]callShift{}
	for _, p := range found {
		if p.state.In(c.ID, c.Image) {
			want[uint32(p.id.PID)] = newCallShift(p.state.Offset, p.base, c.Image)
		}
	}
	var tgid uint32
	var old []uint32
	var value callShift
	for all := h.shifts.Iterate(); all.Next(&tgid, &value); {
		if _, ok := want[tgid]; !ok {
			old = append(old, tgid)
		}
	}
	for _, tgid := range old {
		if err := h.shifts.Delete(tgid); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take pid %d out of a BPF map: %w", tgid, err)
		}
	}
	for tgid, value := range want {
		if err := h.shifts.Put(tgid, value); err != nil {
			return fmt.Errorf("put pid %d into a BPF map: %w", tgid, err)
		}
	}
	return nil
}

// letCalls takes the program away. Where another process had it, the kernel has
// taken it away when that one ended.
func (c *Clock) letCalls() error {
	if held := c.host.drop(c.callsKey()); c.Program != "" && held != nil {
		return held.Close()
	}
	return nil
}

// callsThere tells whether the kernel has the program.
func (c *Clock) callsThere() (bool, error) {
	if c.Program == "" {
		return false, nil
	}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list BPF programs: %w", err)
		}
		if name, err := programName(next); err == nil && name == c.Program {
			return true, nil
		}
		id = next
	}
}

// callsGone waits for the kernel to let go of the program, which it does a
// moment after its last descriptor is closed.
func (c *Clock) callsGone(ctx context.Context) (bool, error) {
	for {
		there, err := c.callsThere()
		if !there || err != nil || ctx.Err() != nil {
			return !there, err
		}
		pause()
	}
}

// caught says how many calls were shifted. Only who made the program can tell.
func (c *Clock) caught() (words string, n uint64) {
	held, ok := c.host.holds(c.callsKey()).(*heldCalls)
	if !ok || held.count.Lookup(uint32(0), &n) != nil {
		return "", 0
	}
	return fmt.Sprintf("; %s caught", counted(int64(n), "system call")), n
}
