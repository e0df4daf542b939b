package native

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/simianhq/simian/internal/box"
)

// limits and reservations of deploy.resources, empty where nothing is said.
func (s *service) resources() (limits, reservations types.Resource) {
	if s.in.Deploy == nil {
		return limits, reservations
	}
	if l := s.in.Deploy.Resources.Limits; l != nil {
		limits = *l
	}
	if r := s.in.Deploy.Resources.Reservations; r != nil {
		reservations = *r
	}
	return limits, reservations
}

// either returns what one of two keys says. Both may say the same.
func either[T int64 | float64](here T, path place, deployed T, key string) (T, error) {
	switch {
	case here != 0 && deployed != 0 && here != deployed:
		return 0, path.errorf("says %v, and deploy.resources.%s %v", here, key, deployed)
	case deployed != 0:
		return deployed, nil
	}
	return here, nil
}

// exactly undoes what a float32 does to a number: 0.1 is meant.
func exactly(f float32) float64 {
	exact, _ := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	return exact
}

// leastCPU is the smallest share of a CPU: 1 ms of 100 ms, as the kernel has it.
const leastCPU = 0.01

func (s *service) cpu() error {
	l := &s.out.Limits
	limits, reserved := s.resources()
	var err error
	if l.CPUs, err = either(exactly(s.in.CPUS), at("cpus"), exactly(float32(limits.NanoCPUs)), "limits.cpus"); err != nil {
		return err
	}
	if l.CPUs != 0 && !(l.CPUs >= leastCPU && l.CPUs < 1e6) {
		path := at("cpus")
		if s.in.CPUS == 0 {
			path = at("deploy", "resources", "limits", "cpus")
		}
		return path.errorf("want at least %v, not %v", leastCPU, l.CPUs)
	}
	path := at("cpu_shares")
	if s.in.CPUShares == 0 {
		path = at("deploy", "resources", "reservations", "cpus")
	}
	shares, err := either(s.in.CPUShares, path, int64(math.Round(1024*exactly(float32(reserved.NanoCPUs)))), "reservations.cpus, in shares,")
	if err != nil {
		return err
	}
	if shares != 0 && (shares < 2 || shares > 1<<18) { // sched(7), cpu.shares
		return path.errorf("want 2 to %d shares, 1024 a CPU, not %d", 1<<18, shares)
	}
	l.CPUShares = uint64(shares)
	if l.CPUSet = s.in.CPUSet; !cpuList.MatchString(l.CPUSet) {
		return at("cpuset").errorf("want a list such as 0-2,4, not %s", shown(l.CPUSet))
	}
	return nil
}

var cpuList = regexp.MustCompile(`^(\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*)?$`)

func (s *service) memory() error {
	l := &s.out.Limits
	limits, reserved := s.resources()
	var err error
	if l.MemoryBytes, err = either(int64(s.in.MemLimit), at("mem_limit"), int64(limits.MemoryBytes), "limits.memory"); err != nil {
		return err
	}
	if l.MemoryReserve, err = either(int64(s.in.MemReservation), at("mem_reservation"), int64(reserved.MemoryBytes), "reservations.memory"); err != nil {
		return err
	}
	l.MemorySwapBytes = int64(s.in.MemSwapLimit)
	s.out.ShmBytes = int64(s.in.ShmSize)
	switch {
	case l.MemoryBytes < 0:
		return s.key("mem_limit", int64(s.in.MemLimit), "limits", "memory").errorf("must not be negative")
	case l.MemoryReserve < 0:
		return s.key("mem_reservation", int64(s.in.MemReservation), "reservations", "memory").errorf("must not be negative")
	case l.MemoryBytes > 0 && l.MemoryReserve > l.MemoryBytes:
		return s.key("mem_reservation", int64(s.in.MemReservation), "reservations", "memory").
			errorf("is more than the limit, %d bytes", l.MemoryBytes)
	case l.MemorySwapBytes < -1:
		return at("memswap_limit").errorf("want a size, or -1 for no limit")
	case l.MemorySwapBytes > 0 && l.MemoryBytes == 0:
		return at("memswap_limit").errorf("is of memory and swap together: it needs mem_limit")
	case l.MemorySwapBytes > 0 && l.MemorySwapBytes < l.MemoryBytes:
		return at("memswap_limit").errorf("is of memory and swap together: %d bytes are less than mem_limit, %d", l.MemorySwapBytes, l.MemoryBytes)
	case s.out.ShmBytes < 0:
		return at("shm_size").errorf("must not be negative")
	}
	return nil
}

// key is the place of a limit: the service's own where it says something, or
// else below deploy.resources.
func (s *service) key(own string, said int64, below ...any) place {
	if said != 0 {
		return at(own)
	}
	return at(append([]any{"deploy", "resources"}, below...)...)
}

func (s *service) pids() error {
	limits, _ := s.resources()
	n, err := either(s.in.PidsLimit, at("pids_limit"), limits.Pids, "limits.pids")
	if err != nil {
		return err
	}
	if n < -1 {
		return s.key("pids_limit", s.in.PidsLimit, "limits", "pids").errorf("want a number, or -1 for no limit")
	}
	s.out.Limits.Pids = max(n, 0)
	return nil
}

// What a block device's weight may be.
const leastWeight, mostWeight = 10, 1000

func (s *service) blkio() error {
	in := s.in.BlkioConfig
	if in == nil {
		return nil
	}
	s.out.Limits.BlkIOWeight = in.Weight
	if in.Weight != 0 && (in.Weight < leastWeight || in.Weight > mostWeight) {
		return at("blkio_config", "weight").errorf("want %d to %d, not %d", leastWeight, mostWeight, in.Weight)
	}
	for i, w := range in.WeightDevice {
		path := at("blkio_config", "weight_device", i)
		d, err := s.device(w.Path, path)
		if err != nil {
			return err
		}
		if d.Weight = w.Weight; d.Weight < leastWeight || d.Weight > mostWeight {
			return path.errorf("weight: want %d to %d, not %d", leastWeight, mostWeight, d.Weight)
		}
	}
	for _, t := range []struct {
		key  string
		list []types.ThrottleDevice
		into func(*box.BlkIODevice) *uint64
	}{
		{"device_read_bps", in.DeviceReadBps, func(d *box.BlkIODevice) *uint64 { return &d.ReadBytesPerSec }},
		{"device_read_iops", in.DeviceReadIOps, func(d *box.BlkIODevice) *uint64 { return &d.ReadIOPS }},
		{"device_write_bps", in.DeviceWriteBps, func(d *box.BlkIODevice) *uint64 { return &d.WriteBytesPerSec }},
		{"device_write_iops", in.DeviceWriteIOps, func(d *box.BlkIODevice) *uint64 { return &d.WriteIOPS }},
	} {
		if err := s.throttle(t.key, t.list, t.into); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) throttle(key string, list []types.ThrottleDevice, into func(*box.BlkIODevice) *uint64) error {
	for i, t := range list {
		path := at("blkio_config", key, i)
		if t.Rate <= 0 {
			return path.errorf("rate: want more than 0")
		}
		d, err := s.device(t.Path, path)
		if err != nil {
			return err
		}
		*into(d) = uint64(t.Rate)
	}
	return nil
}

// device returns what is said of a block device so far.
func (s *service) device(name string, here place) (*box.BlkIODevice, error) {
	if !path.IsAbs(name) || strings.ContainsAny(name, "\n") {
		return nil, here.errorf("path: want a device such as /dev/vda, not %s", shown(name))
	}
	list := &s.out.Limits.BlkIODevices
	i := slices.IndexFunc(*list, func(d box.BlkIODevice) bool { return d.Path == name })
	if i < 0 {
		i = len(*list)
		*list = append(*list, box.BlkIODevice{Path: name})
	}
	return &(*list)[i], nil
}
