package chaos

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// ioLimit is one limit of a device, a second.
type ioLimit struct {
	name, v1, v2 string // the field, version 1's file, and version 2's word
	value        int64
	bytes        bool
}

// limits are those that are given.
func (d ThrottleIO) limits() []ioLimit {
	var list []ioLimit
	size := func(v *experiment.Size, name, v1, v2 string) {
		if v != nil {
			list = append(list, ioLimit{name, v1, v2, int64(*v), true})
		}
	}
	count := func(v *int, name, v1, v2 string) {
		if v != nil {
			list = append(list, ioLimit{name, v1, v2, int64(*v), false})
		}
	}
	size(d.ReadBytes, "readBytes", "blkio.throttle.read_bps_device", "rbps")
	size(d.WriteBytes, "writeBytes", "blkio.throttle.write_bps_device", "wbps")
	count(d.ReadOps, "readOps", "blkio.throttle.read_iops_device", "riops")
	count(d.WriteOps, "writeOps", "blkio.throttle.write_iops_device", "wiops")
	return list
}

// knob is where the limit of a device is set.
func (l ioLimit) knob(at ownedCgroup, disk proc.Device) op.Knob {
	k := at.file(l.v1, "io.max")
	k.Device = disk.String()
	if at.v2 {
		k.Field = l.v2
	}
	return k
}

// io limits what goes to and from devices.
func (p *throttling) io(at ownedCgroup) error {
	for i, d := range p.IO {
		disk, notes, err := p.disk(d)
		if err != nil {
			return experiment.Fieldf(fmt.Sprintf("io/%d", i), "%w", err)
		}
		if !at.v2 {
			notes = append(notes, "cgroup v1 limits direct and synchronous I/O, and not what is written through the page cache")
		}
		for _, l := range d.limits() {
			if err := p.ioLimit(at, l, l.knob(at, disk), fmt.Sprintf("io/%d/%s", i, l.name), notes); err != nil {
				return err
			}
			notes = nil // once is enough
		}
	}
	return nil
}

func (p *throttling) ioLimit(at ownedCgroup, l ioLimit, k op.Knob, field string, notes []string) error {
	now, value, err := number(k)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup %s has no %s: this kernel limits no I/O (CONFIG_BLK_DEV_THROTTLING): %w", at.dir.Path, k.File, experiment.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	if l.value >= now {
		return errNoChange(field, l.perSecond(l.value), l.perSecond(now))
	}
	p.set(k, value, strconv.FormatInt(l.value, 10), notes...)
	return nil
}

func (l ioLimit) perSecond(n int64) string {
	if l.bytes {
		return bytesOf(n) + "/s"
	}
	return strconv.FormatInt(n, 10) + "/s"
}

// disk finds the whole disk that is meant: the kernel limits no partitions.
func (p *throttling) disk(d ThrottleIO) (proc.Device, []string, error) {
	found, err := p.device(d)
	if err != nil {
		return found, nil, err
	}
	if !found.Block {
		return found, nil, fmt.Errorf("%s is a device of characters, which has no limits", d.Device)
	}
	disk, err := p.host.FS.Disk(found)
	var notes []string
	if d.Path != "" {
		notes = []string{fmt.Sprintf("%s is on device %s", d.Path, found)}
	}
	if disk != found {
		notes = []string{fmt.Sprintf("%s is a partition: all of its disk %s is limited", found, disk)}
	}
	return disk, notes, err
}

func (p *throttling) device(d ThrottleIO) (proc.Device, error) {
	switch {
	case d.Path != "":
		return p.host.FS.DeviceUnder(p.target, d.Path)
	case strings.HasPrefix(d.Device, "/"):
		return proc.DeviceAt(d.Device)
	}
	found := proc.Device{Block: true}
	_, err := fmt.Sscanf(d.Device, "%d:%d", &found.Major, &found.Minor)
	return found, err
}

// devices denies devices: by a BPF program where the target has a version 2
// cgroup of its own, since the kernel takes that back by itself; else in
// version 1's list.
func (p *throttling) devices() error {
	rules, err := p.deviceRules()
	if err != nil {
		return err
	}
	dir, err := p.host.FS.OwnV2(p.target)
	if err == nil {
		err = p.guard(dir)
	}
	if err == nil {
		err = op.CheckDeviceFilter(rules)
	}
	if err == nil {
		p.steps = append(p.steps, op.DenyDevices(p.host, p.run, dir, rules))
		return nil
	}
	if !errors.Is(err, experiment.ErrUnsupported) {
		return err
	}
	at, err1 := p.place("devices")
	if errors.Is(err1, experiment.ErrUnsupported) {
		return fmt.Errorf("it has no cgroup of its own in which a device could be denied (give it one, as a container or a systemd unit has): %w", experiment.ErrUnsupported)
	}
	if err1 != nil {
		return err1
	}
	for i, r := range rules {
		if err := p.denyV1(at, r, fmt.Sprintf("denyDevices/%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// deviceRules finds the devices that are meant.
func (p *throttling) deviceRules() ([]op.DeviceRule, error) {
	rules := make([]op.DeviceRule, 0, len(p.DenyDevices))
	for i, d := range p.DenyDevices {
		found, err := p.deniedDevice(d.Device)
		if err != nil {
			return nil, experiment.Fieldf(fmt.Sprintf("denyDevices/%d/device", i), "%w", err)
		}
		r := op.DeviceRule{Kind: "c", Major: found.Major, Minor: found.Minor, Access: d.Access}
		if found.Block {
			r.Kind = "b"
		}
		if r.Access == "" {
			r.Access = "rwm"
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (p *throttling) deniedDevice(name string) (proc.Device, error) {
	if strings.HasPrefix(name, "/") {
		return proc.DeviceIn(p.target.Root, name)
	}
	kind, numbers, _ := strings.Cut(name, " ")
	d := proc.Device{Block: kind == "b"}
	if _, err := fmt.Sscanf(numbers, "%d:%d", &d.Major, &d.Minor); err != nil {
		return d, err
	}
	known, err := p.host.FS.HasDriver(d)
	if err == nil && !known {
		err = fmt.Errorf("there is no device %s: no driver has the number %d", name, d.Major)
	}
	return d, err
}

// denyV1 takes a device from the list of what is allowed, in the cgroups below
// first: the kernel takes it from them with their parent, and does not give it
// back.
func (p *throttling) denyV1(at ownedCgroup, r op.DeviceRule, field string) error {
	places, err := below(at)
	if err != nil {
		return err
	}
	for _, here := range append(places, at) {
		k := op.Knob{Cgroup: here.dir, File: "devices.list", Device: r.Device()}
		list, err := op.Knob{Cgroup: here.dir, File: k.File}.Value()
		if err != nil {
			return err
		}
		if slices.Contains(strings.Split(list, "\n"), "a *:* rwm") {
			return fmt.Errorf("cgroup %s allows all devices but those that it denies, and does not tell which: what was denied before could not be put back (give it a list, or mount cgroup v2): %w",
				here.dir.Path, experiment.ErrBusy)
		}
		now, err := k.Value()
		if err != nil {
			return err
		}
		left := strings.Map(func(c rune) rune {
			if strings.ContainsRune(r.Access, c) {
				return -1
			}
			return c
		}, now)
		switch {
		case left != now:
			p.set(k, now, left)
		case here.dir == at.dir:
			return p.notListed(k, list, r, field)
		}
	}
	return nil
}

// notListed says why a device cannot be taken from a list.
func (p *throttling) notListed(k op.Knob, list string, r op.DeviceRule, field string) error {
	for _, wide := range []string{fmt.Sprintf("%s %d:*", r.Kind, r.Major), r.Kind + " *:*", "a *:*"} {
		for line := range strings.SplitSeq(list, "\n") {
			if access, ok := strings.CutPrefix(line, wide+" "); ok && strings.ContainsAny(access, r.Access) {
				return experiment.Fieldf(field, "it is allowed by %q, with others: version 1 cannot take one of them out: %w", line, experiment.ErrUnsupported)
			}
		}
	}
	return experiment.Fieldf(field, "%s is not allowed %s as it is: %s of %s does not have it", k.Device, r.Access, k.File, k.Cgroup.Path)
}

// guard refuses a cgroup with a process that must not be touched.
func (p *throttling) guard(dir experiment.CgroupDir) error {
	g, err := p.host.FS.Protected()
	if err != nil {
		return err
	}
	return g.CheckCgroup(dir.Path)
}
