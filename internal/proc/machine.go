package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// machineIDs are where a machine keeps its identity: machine-id(5), and the
// older place of D-Bus.
func machineIDs() []string { return []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} }

var machineIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// MachineID returns the machine-id(5) of this host: 32 hexadecimal digits.
func (f FS) MachineID() (string, error) { return machineID(machineIDs()...) }

func machineID(paths ...string) (string, error) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if id := strings.TrimSpace(string(data)); err == nil && machineIDForm.MatchString(id) {
			return id, nil
		}
	}
	return "", errors.New("read the machine's id: no valid one in " + strings.Join(paths, " or ") +
		": make one with systemd-machine-id-setup or dbus-uuidgen --ensure=" + paths[0])
}

// BootID returns the id that the kernel draws at each boot (random(4)).
func (f FS) BootID() (string, error) {
	data, err := os.ReadFile(filepath.Join(f.Proc, "sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// BootTime returns the present moment on CLOCK_BOOTTIME (clock_gettime(2)).
func BootTime() experiment.BootTime {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // fails for unknown clocks only
	return experiment.BootTime(now.Nano())
}
