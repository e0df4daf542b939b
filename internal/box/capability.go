package box

import (
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/internal/proc"
)

// Capabilities returns the names of all capabilities, each at its number.
func Capabilities() []string { return proc.CapabilityNames() }

// DefaultCaps returns the 14 capabilities that Docker gives a container.
func DefaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// capSet returns names, with or without CAP_, as bits.
func capSet(names []string) (set uint64, err error) {
	all := Capabilities()
	for _, name := range names {
		n := slices.Index(all, "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		if n < 0 {
			return 0, fmt.Errorf("there is no capability %q", name)
		}
		set |= 1 << n
	}
	return set, nil
}

// capName returns the name of a capability, or its number where it is newer
// than this program.
func capName(n int) string {
	if all := Capabilities(); n < len(all) {
		return all[n]
	}
	return fmt.Sprintf("capability %d", n)
}
