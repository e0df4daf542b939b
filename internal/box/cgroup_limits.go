package box

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// cpuPeriod is over how long CPUs are counted, in microseconds.
const cpuPeriod = 100_000

// setV1 sets limits in version 1 hierarchies.
func (l Limits) setV1(list []proc.CgroupHierarchy, name string) error {
	r, err := l.resources(slices.ContainsFunc(list, func(h proc.CgroupHierarchy) bool { return countsSwap(h.Dir) }))
	if err != nil {
		return err
	}
	var controllers []cgroup1.Subsystem
	for _, h := range list {
		for _, controller := range h.Controllers {
			if s := controllerV1(filepath.Dir(h.Dir), controller); s != nil {
				controllers = append(controllers, s)
			}
		}
	}
	if err := l.missing(func(c string) bool {
		return slices.ContainsFunc(list, func(h proc.CgroupHierarchy) bool { return slices.Contains(h.Controllers, c) })
	}); err != nil {
		return err
	}
	_, err = cgroup1.New(cgroup1.StaticPath("/"+name), r, cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) { return controllers, nil }))
	return l.refused(err)
}

// controllerV1 is a controller that has limits, mounted below dir.
func controllerV1(dir, name string) cgroup1.Subsystem {
	switch name {
	case "cpu":
		return cgroup1.NewCpu(dir)
	case "cpuset":
		return cgroup1.NewCpuset(dir)
	case "memory":
		return cgroup1.NewMemory(dir)
	case "pids":
		return cgroup1.NewPids(dir)
	case "blkio":
		return cgroup1.NewBlkio(dir)
	case "devices":
		return cgroup1.NewDevices(dir)
	}
	return nil
}

// countsSwap tells whether a version 1 memory hierarchy counts swap.
func countsSwap(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "memory.memsw.limit_in_bytes"))
	return err == nil
}

// setV2 sets limits where version 2 is all there is. All controllers are
// switched on, for what they count.
func (l Limits) setV2(root, name string) error {
	r, err := l.resources(true)
	if err != nil {
		return err
	}
	on, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	there := strings.Fields(string(on))
	if err := l.missing(func(c string) bool {
		return c == "devices" || slices.Contains(there, strings.Replace(c, "blkio", "io", 1))
	}); err != nil {
		return err
	}
	v2 := cgroup2.ToResources(r)
	if v2.CPU == nil && slices.Contains(there, "cpu") {
		v2.CPU = &cgroup2.CPU{}
	}
	if v2.Memory == nil && slices.Contains(there, "memory") {
		v2.Memory = &cgroup2.Memory{}
	}
	if v2.IO == nil && slices.Contains(there, "io") {
		v2.IO = &cgroup2.IO{}
	}
	if v2.Pids == nil && slices.Contains(there, "pids") {
		v2.Pids = &cgroup2.Pids{}
	}
	if _, err = cgroup2.NewManager(root, "/"+name, v2); err != nil {
		return l.refused(err)
	}
	return allowDevices(filepath.Join(root, name))
}

// missing gives an error for a limit whose controller is not mounted.
func (l Limits) missing(mounted func(controller string) bool) error {
	for _, n := range l.needs() {
		if n.asked && !mounted(n.controller) {
			return fmt.Errorf("limit %s=%s: the kernel's %s controller is not mounted", n.limit, n.value, n.controller)
		}
	}
	return nil
}

// need is one limit: how a Compose file calls it, and where it is written.
type need struct {
	limit, value string
	asked        bool
	controller   string
	files        []string
}

func (l Limits) needs() []need {
	number := func(v any) string { return fmt.Sprint(v) }
	return []need{
		{"cpus", number(l.CPUs), l.CPUs != 0, "cpu", []string{"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max"}},
		{"cpu_shares", number(l.CPUShares), l.CPUShares != 0, "cpu", []string{"cpu.shares", "cpu.weight"}},
		{"cpuset", l.CPUSet, l.CPUSet != "", "cpuset", []string{"cpuset.cpus"}},
		{"mem_limit", number(l.MemoryBytes), l.MemoryBytes != 0, "memory", []string{"memory.limit_in_bytes", "memory.max"}},
		{"memswap_limit", number(l.MemorySwapBytes), l.MemorySwapBytes != 0, "memory", []string{"memory.memsw.limit_in_bytes", "memory.swap.max"}},
		{"mem_reservation", number(l.MemoryReserve), l.MemoryReserve != 0, "memory", []string{"memory.soft_limit_in_bytes", "memory.low"}},
		{"pids_limit", number(l.Pids), l.Pids != 0, "pids", []string{"pids.max"}},
		{"blkio_config", "…", l.BlkIOWeight != 0 || len(l.BlkIODevices) > 0, "blkio", []string{"blkio.", "io."}},
	}
}

// refused names the limit that the kernel did not take.
func (l Limits) refused(err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err
	}
	for _, n := range l.needs() {
		for _, file := range n.files {
			if n.asked && strings.HasPrefix(filepath.Base(at.Path), file) {
				return fmt.Errorf("limit %s=%s: the kernel refuses it: %s: %w", n.limit, n.value, at.Path, at.Err)
			}
		}
	}
	return err
}

// resources are the limits as the OCI runtime specification has them, and
// Docker's devices.
func (l Limits) resources(swapCounted bool) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{Devices: devices()}
	if l.CPUs != 0 || l.CPUShares != 0 || l.CPUSet != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CPUSet}
		if l.CPUs != 0 {
			quota, period := int64(math.Round(l.CPUs*cpuPeriod)), uint64(cpuPeriod)
			r.CPU.Quota, r.CPU.Period = &quota, &period
		}
		if l.CPUShares != 0 {
			r.CPU.Shares = &l.CPUShares
		}
	}
	if l.Pids != 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	var err error
	if r.Memory, err = l.memory(swapCounted); err != nil {
		return nil, err
	}
	r.BlockIO, err = l.blockIO()
	return r, err
}

// memory limits memory. Memory and swap together are twice the memory unless
// something is said, as Docker has it.
func (l Limits) memory(swapCounted bool) (*specs.LinuxMemory, error) {
	if l.MemoryBytes == 0 && l.MemorySwapBytes == 0 && l.MemoryReserve == 0 {
		return nil, nil
	}
	if l.MemorySwapBytes != 0 && !swapCounted {
		return nil, fmt.Errorf("limit memswap_limit=%d: this kernel does not count swap (it can with swapaccount=1 on its command line)", l.MemorySwapBytes)
	}
	if l.MemorySwapBytes > 0 && l.MemorySwapBytes < l.MemoryBytes {
		return nil, fmt.Errorf("limit memswap_limit=%d: it counts memory and swap together, and mem_limit=%d is more", l.MemorySwapBytes, l.MemoryBytes)
	}
	m := &specs.LinuxMemory{}
	set := func(to **int64, v int64) {
		if v != 0 {
			*to = &v
		}
	}
	set(&m.Limit, l.MemoryBytes)
	set(&m.Reservation, l.MemoryReserve)
	switch {
	case l.MemorySwapBytes > 0:
		set(&m.Swap, l.MemorySwapBytes)
	case l.MemorySwapBytes == 0 && swapCounted:
		set(&m.Swap, 2*l.MemoryBytes)
	}
	return m, nil
}

func (l Limits) blockIO() (*specs.LinuxBlockIO, error) {
	if l.BlkIOWeight == 0 && len(l.BlkIODevices) == 0 {
		return nil, nil
	}
	b := &specs.LinuxBlockIO{}
	if l.BlkIOWeight != 0 {
		b.Weight = &l.BlkIOWeight
	}
	for _, d := range l.BlkIODevices {
		var st unix.Stat_t
		if err := unix.Stat(d.Path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return nil, fmt.Errorf("limit blkio_config: %s is no block device: %w", d.Path, errors.Join(err))
		}
		d.add(b, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)))
	}
	return b, nil
}

func (d BlkIODevice) add(b *specs.LinuxBlockIO, major, minor int64) {
	if d.Weight != 0 {
		w := specs.LinuxWeightDevice{Weight: &d.Weight}
		w.Major, w.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, w)
	}
	for _, t := range []struct {
		rate uint64
		list *[]specs.LinuxThrottleDevice
	}{
		{d.ReadBytesPerSec, &b.ThrottleReadBpsDevice},
		{d.WriteBytesPerSec, &b.ThrottleWriteBpsDevice},
		{d.ReadIOPS, &b.ThrottleReadIOPSDevice},
		{d.WriteIOPS, &b.ThrottleWriteIOPSDevice},
	} {
		if t.rate == 0 {
			continue
		}
		throttle := specs.LinuxThrottleDevice{Rate: t.rate}
		throttle.Major, throttle.Minor = major, minor
		*t.list = append(*t.list, throttle)
	}
}
