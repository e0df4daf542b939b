package chaos

import (
	"context"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// Throttle lowers limits of a target's own cgroup for a while.
type Throttle struct {
	CPUs          *float64                   `json:"cpus,omitempty" jsonschema:"how many CPUs it may use, such as 0.25"`
	CPUPercent    *experiment.Percent        `json:"cpuPercent,omitempty" jsonschema:"the same as percent of its present quota"`
	CPUSet        string                     `json:"cpuset,omitzero" jsonschema:"the CPUs it may run on, in quotes: \"0\" or \"0-1,3\""`
	CPUSetCount   *int                       `json:"cpusetCount,omitempty" jsonschema:"on how many of its present CPUs it may run: the first of them"`
	Memory        *experiment.Size           `json:"memory,omitempty" jsonschema:"how much memory it may use; what cannot be given back must fit in"`
	MemoryPercent *experiment.Percent        `json:"memoryPercent,omitempty" jsonschema:"the same as percent of its present limit"`
	MemoryHigh    *experiment.Size           `json:"memoryHigh,omitempty" jsonschema:"above this it is slowed down and memory taken back, and nothing killed (cgroup v2 only)"`
	IO            []ThrottleIO               `json:"io,omitempty" jsonschema:"limits of a block device: device or path, and readBytes, writeBytes (a second, such as 1MiB), readOps, writeOps"`
	PIDs          *int                       `json:"pids,omitempty" jsonschema:"how many processes and threads it may have; those that are there stay"`
	Hugetlb       map[string]experiment.Size `json:"hugetlb,omitempty" jsonschema:"how much of huge pages, by their size: {2MB: 0B}"`
	DenyDevices   []DeniedDevice             `json:"denyDevices,omitempty" jsonschema:"devices it may no longer open: device (/dev/null, or c 1:3) and access (of r, w and m; all of them)"`

	host *op.Host
}

// ThrottleIO limits what goes to and from a block device, each a second.
type ThrottleIO struct {
	Device     string           `json:"device,omitzero" jsonschema:"8:0, or a path on this host such as /dev/vda"`
	Path       string           `json:"path,omitzero" jsonschema:"a path of the target: the device that it lies on"`
	ReadBytes  *experiment.Size `json:"readBytes,omitempty"`
	WriteBytes *experiment.Size `json:"writeBytes,omitempty"`
	ReadOps    *int             `json:"readOps,omitempty"`
	WriteOps   *int             `json:"writeOps,omitempty"`
}

// DeniedDevice is a device, and what may not be done with it.
type DeniedDevice struct {
	Device string `json:"device" jsonschema:"a path of the target such as /dev/null, or c 1:3, or b 8:0"`
	Access string `json:"access,omitzero" jsonschema:"of r (read), w (write) and m (mknod); all of them where it is left out"`
}

// throttles makes throttles that share a host.
func throttles(host *op.Host) func() experiment.Fault {
	return func() experiment.Fault { return &Throttle{host: host} }
}

// throttling plans one limit after the other of one target.
type throttling struct {
	*Throttle
	run    experiment.RunID
	target experiment.Target
	steps  []experiment.Step
}

// Plan implements experiment.Fault.
func (f *Throttle) Plan(_ context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	if len(t.PIDs) == 0 {
		return nil, fmt.Errorf("it has no process here: %w", experiment.ErrUnsupported)
	}
	p := &throttling{Throttle: f, run: run, target: t}
	for _, part := range []struct {
		name  string
		asked bool
		plan  func(ownedCgroup) error
	}{
		{"cpu", f.CPUs != nil || f.CPUPercent != nil, p.cpu},
		{"cpuset", f.CPUSet != "" || f.CPUSetCount != nil, p.cpuset},
		{"memory", f.Memory != nil || f.MemoryPercent != nil, p.memory},
		{"memory", f.MemoryHigh != nil, p.memoryHigh},
		{"io", len(f.IO) > 0, p.io},
		{"pids", f.PIDs != nil, p.pids},
		{"hugetlb", len(f.Hugetlb) > 0, p.hugetlb},
	} {
		if !part.asked {
			continue
		}
		at, err := p.place(part.name)
		if err == nil {
			err = part.plan(at)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(f.DenyDevices) > 0 {
		if err := p.devices(); err != nil {
			return nil, err
		}
	}
	return p.steps, p.checkTwice()
}

// checkTwice refuses a section that says two things of one setting.
func (p *throttling) checkTwice() error {
	seen := map[string]bool{}
	for _, s := range p.steps {
		for _, h := range s.Do.(experiment.Handled).Handles() {
			if seen[h] {
				_, what, _ := strings.Cut(h, "#")
				return fmt.Errorf("%s is asked for twice: say it once", what)
			}
			seen[h] = true
		}
	}
	return nil
}

// ownedCgroup is the cgroup of a target in which a controller's limits are its own.
type ownedCgroup struct {
	dir experiment.CgroupDir
	v2  bool
}

// place finds it, and refuses one with a process that must not be touched.
func (p *throttling) place(controller string) (ownedCgroup, error) {
	dir, v2, err := p.host.FS.OwnController(p.target, controller)
	if err != nil {
		return ownedCgroup{}, err
	}
	return ownedCgroup{dir, v2}, p.guard(dir)
}

// file is a setting of the cgroup, by its name in either version.
func (a ownedCgroup) file(v1, v2 string) op.Knob {
	name := v1
	if a.v2 {
		name = v2
	}
	return op.Knob{Cgroup: a.dir, File: name}
}

// set adds a step.
func (p *throttling) set(k op.Knob, now, wanted string, notes ...string) {
	p.steps = append(p.steps, op.SetKnob(p.host.FS, k, now, wanted, notes...))
}

// errNoChange words a limit that would not lower anything.
func errNoChange(field, asked, now string) error {
	return experiment.Fieldf(field, "%s would change nothing: its limit is %s already; ask for less", asked, now)
}

// noLimit words a percent of nothing.
func noLimit(field, instead string, k op.Knob) error {
	return experiment.Fieldf(field, "a percent of no limit: %s of %s sets none; say %s", k.File, k.Cgroup.Path, instead)
}

// Validate implements experiment.Validator.
func (f *Throttle) Validate() error {
	for _, check := range []func() error{f.checkSome, f.checkCPU, f.checkMemory, f.checkIO, f.checkRest} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
