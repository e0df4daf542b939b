// Package box is one container as the kernel knows it: a process in namespaces
// and a cgroup of its own, with a root of its own, that may do little. It
// knows nothing of images, Compose or experiments.
package box

// Limits is what a container may use. Zero leaves a thing unlimited; nil
// pointers do the same where zero has a meaning.
type Limits struct {
	CPUs            float64 // in CPUs
	CPUShares       uint64  // relative weight, as of cgroup v1: 1024 is normal
	CPUSet          string  // cpuset(7) list format: 0-2,4
	MemoryBytes     int64
	MemorySwapBytes int64 // memory and swap together, as Docker counts; -1 is without limit
	MemoryReserve   int64 // bytes
	Pids            int64
	BlkIOWeight     uint16 // 10 to 1000
	BlkIODevices    []BlkIODevice
}

// BlkIODevice limits one block device.
type BlkIODevice struct {
	Path                              string // such as /dev/vda
	Weight                            uint16 // 10 to 1000
	ReadBytesPerSec, WriteBytesPerSec uint64
	ReadIOPS, WriteIOPS               uint64
}

// Ulimit is one resource limit (getrlimit(2)).
type Ulimit struct {
	Name       string // nofile, nproc, core …
	Soft, Hard int64  // -1 is infinity
}
