package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fact is one thing that this host can do, or lacks.
type Fact struct {
	Name   string `json:"name"`
	Able   string `json:"able"` // yes, no, or partly
	Detail string `json:"detail"`
}

// Who says which kernel this is, and with which rights this process runs:
// "root, without CAP_SYS_RESOURCE".
func (f FS) Who() (kernel, rights string) {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail with a valid buffer (uname(2))
	kernel = unix.ByteSliceToString(u.Release[:])
	missing, err := f.missingCapabilities()
	switch {
	case os.Geteuid() != 0:
		rights = fmt.Sprintf("user %d: own processes only", os.Geteuid())
	case err != nil || len(missing) == 0:
		rights = "root"
	default:
		rights = "root, without " + strings.Join(missing, " ")
	}
	return kernel, rights
}

// wanted are the capabilities that Simian uses (capabilities(7)).
var wanted = map[string]int{
	"CAP_KILL": unix.CAP_KILL, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
	"CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE,
}

func (f FS) missingCapabilities() ([]string, error) {
	fields, err := f.status(os.Getpid())
	if err != nil {
		return nil, err
	}
	effective, err := strconv.ParseUint(strings.TrimSpace(fields["CapEff"]), 16, 64)
	if err != nil {
		return nil, err
	}
	var missing []string
	for name, bit := range wanted {
		if effective&(1<<bit) == 0 {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// Survey lists what this host can do, and what it lacks.
func (f FS) Survey() []Fact {
	return []Fact{f.launchFact(), f.cgroupFact(), f.freezeFact(), f.killFact(), f.pidFact()}
}

// launchFact tells whether containers can be launched.
func (f FS) launchFact() Fact {
	const name = "launch containers"
	if os.Geteuid() != 0 {
		return Fact{name, "no", "needs root"}
	}
	missing, err := f.missingCapabilities()
	if err != nil || slices.Contains(missing, "CAP_SYS_ADMIN") || slices.Contains(missing, "CAP_NET_ADMIN") {
		return Fact{name, "no", "needs CAP_SYS_ADMIN and CAP_NET_ADMIN"}
	}
	kinds, lacking := f.namespaceKinds()
	if len(lacking) > 0 {
		return Fact{name, "no", "this kernel lacks namespaces: " + strings.Join(lacking, " ")}
	}
	if !f.knowsFilesystem("overlay") {
		return Fact{name, "no", "this kernel has no overlayfs, or its module is not loaded (modprobe overlay)"}
	}
	if _, err := os.Stat(filepath.Join(f.Proc, "sys/kernel/seccomp/actions_avail")); err != nil {
		return Fact{name, "partly", "this kernel has no seccomp filters: services need security_opt: [seccomp=unconfined]"}
	}
	return Fact{name, "yes", "namespaces " + strings.Join(kinds, " ") + ", overlayfs, seccomp"}
}

// namespaceKinds returns the kinds of namespaces that containers have, and
// those of them that this kernel lacks (namespaces(7)).
func (f FS) namespaceKinds() (there, lacking []string) {
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup", "user"} {
		if _, err := os.Stat(f.path(os.Getpid(), "ns", kind)); err != nil {
			lacking = append(lacking, kind)
			continue
		}
		there = append(there, kind)
	}
	return there, lacking
}

// knowsFilesystem tells whether the kernel can mount a file system now
// (filesystems(5)).
func (f FS) knowsFilesystem(name string) bool {
	data, err := os.ReadFile(filepath.Join(f.Proc, "filesystems"))
	return err == nil && slices.Contains(strings.Fields(string(data)), name)
}

func (f FS) cgroupFact() Fact {
	mounts, err := f.hierarchies()
	if err != nil || len(mounts) == 0 {
		return Fact{"cgroups", "no", "no hierarchy is mounted"}
	}
	var v1 []string
	v2 := false
	for _, m := range mounts {
		if m.controllers == nil {
			v2 = true
		}
		v1 = append(v1, m.controllers...)
	}
	slices.Sort(v1)
	switch {
	case v2 && len(v1) > 0:
		return Fact{"cgroups", "yes", "v1, hybrid: " + strings.Join(slices.Compact(v1), " ")}
	case v2:
		return Fact{"cgroups", "yes", "v2"}
	}
	return Fact{"cgroups", "yes", "v1: " + strings.Join(slices.Compact(v1), " ")}
}

func (f FS) freezeFact() Fact {
	mounts, _ := f.hierarchies()
	var how []string
	for _, m := range mounts {
		file := "cgroup.procs"
		if m.controllers != nil && !slices.Contains(m.controllers, "freezer") {
			continue
		}
		name := "cgroup v1 freezer"
		if m.controllers == nil {
			name = "cgroup v2 freezer"
		}
		if unix.Access(filepath.Join(m.dir, file), unix.W_OK) == nil {
			how = append(how, name)
		}
	}
	return Fact{"freeze", "yes", strings.Join(append(how, "SIGSTOP"), ", ")}
}

func (f FS) killFact() Fact {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return Fact{"kill", "no", "this kernel has no pidfd_open (it came with Linux 5.3): " + err.Error()}
	}
	unix.Close(fd)
	return Fact{"kill", "yes", "by pidfd"}
}

func (f FS) pidFact() Fact {
	if err := f.OwnPIDNamespace(); err != nil {
		return Fact{"guardian", "no", err.Error()}
	}
	if initial, err := f.InitialPIDNamespace(); err != nil || !initial {
		return Fact{"guardian", "partly", "it cannot outlive PID 1 of this PID namespace"}
	}
	return Fact{"guardian", "yes", "outlives this process, its session and its cgroup"}
}
