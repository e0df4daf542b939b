package chaos

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// checkSome refuses a section that lowers nothing.
func (f *Throttle) checkSome() error {
	given := f.CPUs != nil || f.CPUPercent != nil || f.CPUSet != "" || f.CPUSetCount != nil ||
		f.Memory != nil || f.MemoryPercent != nil || f.MemoryHigh != nil ||
		len(f.IO) > 0 || f.PIDs != nil || len(f.Hugetlb) > 0 || len(f.DenyDevices) > 0
	if !given {
		return errors.New("says nothing of which limit: give cpus, cpuPercent, cpuset, cpusetCount, memory, memoryPercent, memoryHigh, io, pids, hugetlb or denyDevices")
	}
	return nil
}

func (f *Throttle) checkCPU() error {
	switch {
	case f.CPUs != nil && f.CPUPercent != nil:
		return experiment.Fieldf("cpuPercent", "goes not together with cpus: both are the quota")
	case f.CPUs != nil && !(*f.CPUs > 0 && !math.IsInf(*f.CPUs, 0)):
		return experiment.Fieldf("cpus", "%v is no number of CPUs: want more than 0, such as 0.25", *f.CPUs)
	case f.CPUSet != "" && f.CPUSetCount != nil:
		return experiment.Fieldf("cpusetCount", "goes not together with cpuset: both are the set")
	case f.CPUSetCount != nil && *f.CPUSetCount < 1:
		return experiment.Fieldf("cpusetCount", "%d is no number of CPUs: want 1 or more", *f.CPUSetCount)
	}
	if f.CPUSet != "" {
		if _, err := parseCPUs(f.CPUSet); err != nil {
			return experiment.Fieldf("cpuset", "%v", err)
		}
	}
	return checkLowering("cpuPercent", f.CPUPercent)
}

// checkLowering refuses a percent that lowers nothing, or leaves nothing.
func checkLowering(field string, p *experiment.Percent) error {
	if p != nil && !(*p > 0 && *p < 100) {
		return experiment.Fieldf(field, "%v %% does not lower it: want more than 0 and less than 100", float64(*p))
	}
	return nil
}

func (f *Throttle) checkMemory() error {
	switch {
	case f.Memory != nil && f.MemoryPercent != nil:
		return experiment.Fieldf("memoryPercent", "goes not together with memory: both are the limit")
	case f.Memory != nil && *f.Memory == 0:
		return experiment.Fieldf("memory", "0 bytes is room for no process: want more")
	}
	return checkLowering("memoryPercent", f.MemoryPercent)
}

func (f *Throttle) checkIO() error {
	for i, d := range f.IO {
		at := func(name string) string { return fmt.Sprintf("io/%d/%s", i, name) }
		switch {
		case (d.Device == "") == (d.Path == ""):
			return experiment.Fieldf(at("device"), "want one of device (8:0, /dev/vda) and path (of the target)")
		case d.Device != "" && d.Device[0] != '/' && !numbersOf(d.Device, ":"):
			return experiment.Fieldf(at("device"), "%q is no device: want 8:0, or a path such as /dev/vda", d.Device)
		case d.Path != "" && d.Path[0] != '/':
			return experiment.Fieldf(at("path"), "%q is not absolute", d.Path)
		case len(d.limits()) == 0:
			return experiment.Fieldf(fmt.Sprintf("io/%d", i), "limits nothing: give readBytes, writeBytes, readOps or writeOps")
		}
		for _, l := range d.limits() {
			if l.value < 1 || l.value > math.MaxUint32 && !l.bytes {
				return experiment.Fieldf(at(l.name), "%d a second is no limit that the kernel takes: want 1 or more", l.value)
			}
		}
	}
	return nil
}

// numbersOf tells whether text is two numbers with a sign between them.
func numbersOf(text, between string) bool {
	a, b, ok := strings.Cut(text, between)
	_, major := strconv.ParseUint(a, 10, 12)
	_, minor := strconv.ParseUint(b, 10, 20)
	return ok && major == nil && minor == nil
}

var pageSize = regexp.MustCompile(`^[0-9]+(KB|MB|GB)$`)

func (f *Throttle) checkRest() error {
	if f.PIDs != nil && *f.PIDs < 0 {
		return experiment.Fieldf("pids", "%d is no number of processes", *f.PIDs)
	}
	for size := range f.Hugetlb {
		if !pageSize.MatchString(size) {
			return experiment.Fieldf("hugetlb", "%q is no size of pages: want it as the kernel has it, such as 2MB or 1GB", size)
		}
	}
	for i, d := range f.DenyDevices {
		if err := d.check(fmt.Sprintf("denyDevices/%d/", i)); err != nil {
			return err
		}
	}
	return nil
}

func (d DeniedDevice) check(prefix string) error {
	kind, number, _ := strings.Cut(d.Device, " ")
	if !strings.HasPrefix(d.Device, "/") && !(slices.Contains([]string{"b", "c"}, kind) && numbersOf(number, ":")) {
		return experiment.Fieldf(prefix+"device", "%q is no device: want a path such as /dev/null, or c 1:3, or b 8:0", d.Device)
	}
	for i, r := range d.Access {
		if !strings.ContainsRune("rwm", r) || strings.ContainsRune(d.Access[:i], r) {
			return experiment.Fieldf(prefix+"access", "%q is no access: want some of r (read), w (write) and m (mknod), each once", d.Access)
		}
	}
	return nil
}

// mostCPUs is more than any kernel knows (CONFIG_NR_CPUS is 8192 at most).
const mostCPUs = 8192

// parseCPUs reads a list such as 0-1,3 (cpuset(7)), sorted.
func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, notA := strconv.ParseUint(first, 10, 16)
		b, notB := strconv.ParseUint(last, 10, 16)
		if notA != nil || notB != nil || a > b || b >= mostCPUs {
			return nil, fmt.Errorf("%q is no list of CPUs: want it as 0 or 0-1,3", list)
		}
		for n := int(a); n <= int(b); n++ {
			cpus = append(cpus, n)
		}
	}
	slices.Sort(cpus)
	return slices.Compact(cpus), nil
}

// listCPUs writes it as the kernel does: 0-1,3.
func listCPUs(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		end := i
		for end+1 < len(cpus) && cpus[end+1] == cpus[end]+1 {
			end++
		}
		part := strconv.Itoa(cpus[i])
		if end > i {
			part += "-" + strconv.Itoa(cpus[end])
		}
		parts = append(parts, part)
		i = end + 1
	}
	return strings.Join(parts, ",")
}
