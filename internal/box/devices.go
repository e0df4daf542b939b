package box

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// devices are those that a container may open, as Docker has it: any node may
// be made, but these alone work.
func devices() []specs.LinuxDeviceCgroup {
	const any = -1
	var list []specs.LinuxDeviceCgroup
	add := func(allow bool, kind string, major, minor int64, access string) {
		list = append(list, specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: access})
	}
	add(false, "a", any, any, "rwm")
	add(true, "c", any, any, "m")
	add(true, "b", any, any, "m")
	for _, n := range nodes() {
		add(true, "c", int64(n.major), int64(n.minor), "rwm")
	}
	add(true, "c", 5, 2, "rwm")     // ptmx
	add(true, "c", 136, any, "rwm") // pts
	return list
}

// allowDevices has a program decide in a version 2 cgroup which devices can be
// opened (bpf-helpers(7), BPF_PROG_TYPE_CGROUP_DEVICE): version 1's controller
// is not there. The program goes with the cgroup.
func allowDevices(dir string) error {
	code, license, err := cgroup2.DeviceFilter(devices())
	if err != nil {
		return fmt.Errorf("make device filter: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, Instructions: code, License: license})
	if err != nil {
		return fmt.Errorf("load device filter: %w", err)
	}
	defer program.Close()
	cgroup, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("attach device filter: %w", err)
	}
	defer cgroup.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(cgroup.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	})
	if err != nil {
		return fmt.Errorf("attach device filter: %w", err)
	}
	return nil
}
