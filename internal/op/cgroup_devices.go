package op

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// DeviceRule is a device, and what may not be done with it.
type DeviceRule struct {
	Kind   string `json:"kind"` // c or b
	Major  uint32 `json:"major"`
	Minor  uint32 `json:"minor"`
	Access string `json:"access"` // of r, w and m: read, write, mknod
}

// Device names it as the kernel does in devices.list: "c 1:3".
func (r DeviceRule) Device() string { return fmt.Sprintf("%s %d:%d", r.Kind, r.Major, r.Minor) }

// DeviceFilter denies devices to a cgroup and those below it, by a BPF program
// that is asked at each open(2) and mknod(2). This process holds the link to
// it, so the kernel takes it away when this process ends.
type DeviceFilter struct {
	Cgroup  experiment.CgroupDir `json:"cgroup"` // of version 2
	Name    string               `json:"name"`   // of the program: at most 15 bytes, with the run's name
	Denied  []DeviceRule         `json:"denied"`
	Allowed bool                 `json:"allowed,omitzero"` // it is taken back

	host *Host
}

// DenyDevices returns the step that denies devices to a version 2 cgroup.
func DenyDevices(host *Host, run experiment.RunID, dir experiment.CgroupDir, denied []DeviceRule) experiment.Step {
	sum := fnv.New32a()
	fmt.Fprintf(sum, "%s %v", dir.Handle(), denied)
	name := fmt.Sprintf("sm%s_%06x", run, sum.Sum32()>>8)
	return experiment.Step{
		Do:   &DeviceFilter{Cgroup: dir, Name: name, Denied: denied, host: host},
		Undo: &DeviceFilter{Cgroup: dir, Name: name, Denied: denied, Allowed: true, host: host},
	}
}

// String implements experiment.Op.
func (d *DeviceFilter) String() string {
	var list []string
	for _, r := range d.Denied {
		list = append(list, r.Device()+" "+r.Access)
	}
	word := "deny"
	if d.Allowed {
		word = "no longer deny"
	}
	return fmt.Sprintf("%s %s in %s (BPF program %s)", word, strings.Join(list, ", "), d.Cgroup.Path, d.Name)
}

// Handles implements experiment.Handled: one for each device, so that others
// can be denied beside them.
func (d *DeviceFilter) Handles() []string {
	var list []string
	for _, r := range d.Denied {
		list = append(list, Knob{Cgroup: d.Cgroup, File: fileDevices, Device: r.Device()}.Handle())
	}
	return list
}

// held is a program in force: its link, and what it counts.
type heldFilter struct {
	link  link.Link
	count *ebpf.Map
}

// Close takes the program away.
func (h *heldFilter) Close() error { return errors.Join(h.link.Close(), h.count.Close()) }

// Apply implements experiment.Op. Where another process has made it, the
// kernel has taken it back when that one ended.
func (d *DeviceFilter) Apply(context.Context) error {
	dir, err := openCgroup(d.Cgroup)
	if d.Allowed { // before the error: a cgroup that is gone has taken the program with it
		if held := d.host.drop(d.key()); held != nil {
			return errors.Join(err, held.Close(), closed(dir))
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if d.Allowed || d.host.holds(d.key()) != nil {
		return nil
	}
	p, err := d.host.FS.Protected()
	if err != nil {
		return err
	}
	if err := p.CheckCgroup(d.Cgroup.Path); err != nil {
		return err
	}
	held, err := d.attach(dir)
	if err != nil {
		return err
	}
	d.host.hold(d.key(), held)
	return nil
}

// closed closes a descriptor that may not be one.
func closed(fd int) error {
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

func (d *DeviceFilter) key() string { return d.Cgroup.Handle() + "#" + d.Name }

// Verify implements experiment.Verifier: the kernel is asked which programs
// are attached to the cgroup. One whose process has ended goes a moment later.
func (d *DeviceFilter) Verify(ctx context.Context) (experiment.Evidence, error) {
	for {
		names, err := d.attached()
		if err != nil {
			return experiment.Evidence{}, err
		}
		there := slices.Contains(names, d.Name)
		switch {
		case there && !d.Allowed:
			return d.denials(), nil
		case !there && d.Allowed:
			return experiment.Evidence{InForce: true, What: "BPF program " + d.Name + " is gone"}, nil
		case !there:
			return experiment.Evidence{What: "BPF program " + d.Name + " is not there", Hint: "who made it has ended"}, nil
		case ctx.Err() != nil:
			return experiment.Evidence{What: "BPF program " + d.Name + " is there still"}, nil
		}
		pause()
	}
}

// denials counts what was denied. Only who made the program can tell.
func (d *DeviceFilter) denials() experiment.Evidence {
	ev := experiment.Evidence{InForce: true, What: "BPF program " + d.Name + " is in force"}
	held, ok := d.host.holds(d.key()).(*heldFilter)
	var n uint64
	if !ok || held.count.Lookup(uint32(0), &n) != nil {
		return ev
	}
	ev.Felt, ev.What = experiment.FeltYes, fmt.Sprintf("%s, and has denied %s", ev.What, counted(int64(n), "call"))
	if n == 0 {
		ev.Felt, ev.Hint = experiment.FeltNo, "the target has not opened it since; what is open already stays so"
	}
	return ev
}

// attached names the device programs that are attached to the cgroup itself.
func (d *DeviceFilter) attached() ([]string, error) {
	dir, err := openCgroup(d.Cgroup)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	found, err := link.QueryPrograms(link.QueryOptions{Target: dir, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return nil, fmt.Errorf("ask for the BPF programs of cgroup %s: %w", d.Cgroup.Path, err)
	}
	var names []string
	for _, p := range found.Programs {
		if name, err := programName(p.ID); err == nil { // one that is gone by now has none
			names = append(names, name)
		}
	}
	return names, nil
}

func programName(id ebpf.ProgramID) (string, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}
