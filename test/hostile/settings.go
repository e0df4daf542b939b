package main

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// settings are the kernel's, which all containers share.
func settings() []attempt {
	return slices.Concat(
		writes(
			"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hostname", "/proc/sys/kernel/sysrq",
			"/proc/sys/kernel/panic", "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/ns_last_pid",
			"/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches", "/proc/sys/fs/file-max", "/proc/sys/fs/protected_hardlinks",
			"/proc/sys/net/ipv4/ip_forward", "/proc/sys/user/max_user_namespaces",
			"/proc/sysrq-trigger", "/proc/irq/default_smp_affinity", "/proc/mtrr",
			"/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run",
			"/sys/module/printk/parameters/time", "/sys/class/net/lo/ifalias", "/sys/power/state",
		),
		[]attempt{
			shows("/proc/kcore"), shows("/proc/keys"), shows("/proc/timer_list"), shows("/proc/sched_debug"), shows("/proc/acpi"),
			shows("/proc/scsi"), shows("/proc/interrupts").because("counts, by which one may guess at what others do"), shows("/proc/latency_stats"), shows("/proc/asound"),
			shows("/sys/firmware"), shows("/sys/devices/virtual/powercap"), shows("/sys/kernel/debug"), shows("/sys/kernel/tracing"),
			shows("/sys/kernel/security"), shows("/sys/fs/bpf"), shows("/sys/fs/pstore"),
			opens("/proc/kallsyms", unix.O_RDONLY).because("without CAP_SYSLOG all addresses are 0"),
			opens("/proc/self/oom_score_adj", unix.O_WRONLY).because("it may make itself the first to be killed"),
			{name: "be killed after all others when memory is short", try: func() error { return write("/proc/self/oom_score_adj", "-1000") }},
		},
	)
}

// because says why it may be done.
func (a attempt) because(why string) attempt {
	a.harmless = why
	return a
}

func write(path, s string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(s))
	return err
}

// controlGroups are its own, whose limits it would lift, and others'. Each
// name stands for the file of version 1 and that of version 2.
func controlGroups() []attempt {
	return []attempt{
		{name: "lift its own memory limit", try: openAny("memory/memory.limit_in_bytes", "memory.max")},
		{name: "lift its own limit of processes", try: openAny("pids/pids.max", "pids.max")},
		{name: "allow itself all devices", try: openAny("devices/devices.allow")},
		{name: "move to another cgroup", try: openAny("memory/cgroup.procs", "cgroup.procs", "unified/cgroup.procs")},
		{name: "freeze its cgroup", try: openAny("freezer/freezer.state", "cgroup.freeze")},
		{name: "have the host run a program by release_agent", try: openAny("*/release_agent")},
		{name: "make a cgroup", try: func() error {
			dir := "/sys/fs/cgroup/memory"
			if unix.Access("/sys/fs/cgroup/cgroup.procs", unix.F_OK) == nil { // version 2
				dir = "/sys/fs/cgroup"
			}
			return unix.Mkdir(filepath.Join(dir, "hostile"), 0o755)
		}},
		mounting("mount cgroup version 1", "none", "cgroup", "memory"),
		mounting("mount cgroup version 2", "none", "cgroup2", ""),
	}
}

// openAny opens the first file for writing that is there.
func openAny(patterns ...string) func() error {
	return func() error {
		for _, p := range patterns {
			if found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", p)); len(found) > 0 {
				return open(found[0], unix.O_WRONLY)
			}
		}
		return unix.ENOENT
	}
}
