package native

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/simianhq/simian/internal/box"
)

// capabilityNames are the kernel's, without CAP_ (capabilities(7), Linux 6.18).
func capabilityNames() []string {
	return []string{
		"AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
		"DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
		"LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
		"NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
		"SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
		"SYS_TTY_CONFIG", "WAKE_ALARM",
	}
}

func (s *service) capabilities() error {
	var err error
	if s.out.CapAdd, err = capabilities("cap_add", s.in.CapAdd); err != nil {
		return err
	}
	s.out.CapDrop, err = capabilities("cap_drop", s.in.CapDrop)
	return err
}

func capabilities(key string, list []string) ([]string, error) {
	known := append(capabilityNames(), "ALL")
	var names []string
	for i, word := range list {
		name := strings.TrimPrefix(strings.ToUpper(word), "CAP_")
		if !slices.Contains(known, name) {
			return nil, at(key, i).near(word).errorf("unknown capability %s%s", shown(word), didYouMean(name, known))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s *service) security() error {
	s.out.NoNewPrivs = true
	for i, option := range s.in.SecurityOpt {
		here := at("security_opt", i).near(option)
		name, value, said := strings.Cut(option, "=")
		if !said {
			name, value, said = strings.Cut(option, ":")
		}
		switch name {
		case "no-new-privileges":
			if said && value != "true" && value != "false" {
				return here.errorf("want no-new-privileges:true or :false, not %s", shown(option))
			}
			s.out.NoNewPrivs = value != "false"
		case "seccomp":
			if err := s.seccomp(value, here); err != nil {
				return err
			}
		case "apparmor", "label", "systempaths", "credentialspec", "writable-cgroups":
			return here.errorf("not supported: %s: Simian confines with capabilities, seccomp and namespaces (docs/compose.md)", name)
		default:
			return here.errorf("unknown option %s%s", shown(option), didYouMean(name, []string{"no-new-privileges", "seccomp"}))
		}
	}
	return nil
}

// seccomp takes the name of a profile's file, which is read at launch.
func (s *service) seccomp(profile string, here place) error {
	switch profile {
	case "unconfined":
		s.out.Seccomp = profile
		return nil
	case "":
		return here.errorf("want seccomp=FILE or seccomp=unconfined")
	case "builtin":
		s.out.Seccomp = ""
		return nil
	}
	if !filepath.IsAbs(profile) {
		profile = filepath.Join(s.compose.dir, profile)
	}
	if _, err := readFile(profile); err != nil {
		return here.errorf("%s: %w", profile, err)
	}
	s.out.Seccomp = profile
	return nil
}

// namespaced tells whether a namespace has a sysctl of its own (namespaces(7),
// ipc_namespaces(7), network_namespaces(7)); it is the list that Docker takes.
func namespaced(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "fs.mqueue.")
}

func (s *service) sysctls() error {
	for _, name := range sortedKeys(s.in.Sysctls) {
		if !namespaced(name) || strings.Contains(name, "/") || strings.Contains(name, "..") {
			return at("sysctls", name).errorf("is the whole machine's: a container has net.*, fs.mqueue.*, kernel.msg*, kernel.shm* and kernel.sem of its own")
		}
		if s.in.Sysctls[name] == "" {
			return at("sysctls", name).errorf("has no value")
		}
	}
	if len(s.in.Sysctls) > 0 {
		s.out.Sysctls = s.in.Sysctls
	}
	return nil
}

// ulimitNames are the limits of getrlimit(2), as Docker writes them.
func ulimitNames() []string {
	return []string{
		"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
		"rttime", "sigpending", "stack",
	}
}

func (s *service) ulimits() error {
	for _, name := range sortedKeys(s.in.Ulimits) {
		if !slices.Contains(ulimitNames(), name) {
			return at("ulimits", name).errorf("unknown limit%s", didYouMean(name, ulimitNames()))
		}
		u := s.in.Ulimits[name]
		l := box.Ulimit{Name: name, Soft: int64(u.Soft), Hard: int64(u.Hard)}
		if u.Single != 0 {
			l.Soft, l.Hard = int64(u.Single), int64(u.Single)
		}
		if l.Soft < -1 || l.Hard < -1 {
			return at("ulimits", name).errorf("want numbers, or -1 for no limit")
		}
		if l.Hard != -1 && (l.Soft > l.Hard || l.Soft == -1) {
			return at("ulimits", name).errorf("soft, %d, is more than hard, %d", l.Soft, l.Hard)
		}
		s.out.Ulimits = append(s.out.Ulimits, l)
	}
	return nil
}
