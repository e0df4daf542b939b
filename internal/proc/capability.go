package proc

import (
	"fmt"
	"strconv"
)

// CapabilityNames returns the names of all capabilities, each at its number
// (capabilities(7), include/uapi/linux/capability.h).
func CapabilityNames() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
		"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
		"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
		"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
		"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
}

// CapSet is a set of capabilities: bit N stands for the one at N of
// CapabilityNames.
type CapSet uint64

// Has tells whether the capability at n is in s.
func (s CapSet) Has(n int) bool { return s&(1<<n) != 0 }

// Names returns the names of those in s, without CAP_; a number for one that
// is newer than this program.
func (s CapSet) Names() []string {
	names := []string{}
	all := CapabilityNames()
	for n := range 64 {
		switch {
		case !s.Has(n):
		case n < len(all):
			names = append(names, all[n][len("CAP_"):])
		default:
			names = append(names, strconv.Itoa(n))
		}
	}
	return names
}

// Caps are the capabilities of a process.
type Caps struct {
	Bounding  CapSet // what it can ever have
	Permitted CapSet // what it has
}

// Caps returns the capabilities of a process's main thread
// (proc_pid_status(5)).
func (f FS) Caps(pid int) (Caps, error) {
	status, err := f.status(pid)
	if err != nil {
		return Caps{}, err
	}
	set := func(key string) CapSet {
		v, bad := strconv.ParseUint(status[key], 16, 64)
		if bad != nil && err == nil {
			err = fmt.Errorf("read %s of pid %d: %w", key, pid, bad)
		}
		return CapSet(v)
	}
	return Caps{Bounding: set("CapBnd"), Permitted: set("CapPrm")}, err
}
