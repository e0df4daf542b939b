package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/simianhq/simian/internal/box"
)

// limits are what every container may use, where its tool knows limits.
func limits() box.Limits { return box.Limits{CPUs: 1, MemoryBytes: 128 << 20, Pids: 200} }

// bundle is where the bundle of the i-th container at once is.
func (b *bench) bundle(name string, i int, mode string) string {
	return filepath.Join(b.dir, "bundles", name, mode, fmt.Sprint(i))
}

// writeBundles writes a bundle for each container that is launched at once:
// what Docker gives a runtime, but for the network, which stays empty.
func (b *bench) writeBundles(name, cgroups string, filtered bool) error {
	for _, mode := range []string{leave, hold} {
		for i := range most {
			spec, err := b.spec(fmt.Sprintf("/%s/%d", cgroups, i), mode, filtered)
			if err != nil {
				return err
			}
			if err := writeBundle(b.bundle(name, i, mode), spec); err != nil {
				return err
			}
			if mode == leave {
				break // alone
			}
		}
	}
	return nil
}

func writeBundle(dir string, spec *specs.Spec) error {
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644)
}

func (b *bench) spec(cgroup, mode string, filtered bool) (*specs.Spec, error) {
	caps := box.DefaultCaps()
	s := &specs.Spec{
		Version:  "1.0.2",
		Hostname: "c",
		Root:     &specs.Root{Path: b.rootfs},
		Process: &specs.Process{
			Args: []string{program, mode}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=c"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: b.mounts(),
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Resources:   resources(),
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
				"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	for _, kind := range []specs.LinuxNamespaceType{"pid", "network", "ipc", "uts", "mount", "cgroup"} {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	if !filtered {
		return s, nil
	}
	var err error
	s.Linux.Seccomp, err = moby.GetDefaultProfile(s)
	return s, err
}

// mounts are those of Docker.
func (b *bench) mounts() []specs.Mount {
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
	}
	for _, file := range []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} {
		list = append(list, specs.Mount{Destination: file, Type: "bind", Source: filepath.Join(b.rootfs, file), Options: []string{"rbind", "rprivate"}})
	}
	return list
}

// resources are limits, and Docker's devices.
func resources() *specs.LinuxResources {
	l := limits()
	quota, period := int64(100_000*l.CPUs), uint64(100_000)
	number := func(n int64) *int64 { return &n }
	r := &specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Quota: &quota, Period: &period},
		Memory:  &specs.LinuxMemory{Limit: &l.MemoryBytes},
		Pids:    &specs.LinuxPids{Limit: &l.Pids},
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"}},
	}
	for _, minor := range []int64{3, 5, 7, 8, 9} { // null, zero, full, random, urandom
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: number(1), Minor: number(minor), Access: "rwm"})
	}
	for _, minor := range []int64{0, 1, 2} { // tty, console, ptmx
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: number(5), Minor: number(minor), Access: "rwm"})
	}
	return r
}
