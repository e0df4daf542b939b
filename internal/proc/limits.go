package proc

import (
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// CPUQuota returns how many processors' time a cgroup may use, the least that
// it and those above it are given: cpu.max of version 2, cpu.cfs_quota_us of
// version 1. Without a quota, ok is false.
func (f FS) CPUQuota(dir experiment.CgroupDir) (cpus float64, ok bool) {
	cpus = math.Inf(1)
	for path := range above(dir.Path) {
		quota, period := numberIn(path, "cpu.cfs_quota_us"), numberIn(path, "cpu.cfs_period_us")
		if words := strings.Fields(textIn(path, "cpu.max")); len(words) == 2 {
			quota, period = parseNumber(words[0]), parseNumber(words[1])
		}
		if quota > 0 && period > 0 {
			cpus = min(cpus, float64(quota)/float64(period))
		}
	}
	return cpus, !math.IsInf(cpus, 1)
}

// CPUs returns how many processors a process may run on (Cpus_allowed of
// proc_pid_status(5)).
func (f FS) CPUs(pid int) (int, error) {
	status, err := f.status(pid)
	if err != nil {
		return 0, err
	}
	n := 0
	for word := range strings.SplitSeq(status["Cpus_allowed"], ",") {
		mask, err := strconv.ParseUint(word, 16, 32)
		if err != nil {
			return 0, err
		}
		n += bits.OnesCount64(mask)
	}
	return n, nil
}

// MemoryLimit returns how many bytes a cgroup may use, the least that it and
// those above it are given: memory.max of version 2, memory.limit_in_bytes of
// version 1. Without a limit, ok is false.
func (f FS) MemoryLimit(dir experiment.CgroupDir) (bytes int64, ok bool) {
	bytes = unlimited
	for path := range above(dir.Path) {
		for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
			if n := numberIn(path, file); n > 0 {
				bytes = min(bytes, n)
			}
		}
	}
	return bytes, bytes < unlimited
}

// unlimited is above what any memory can be: version 1 shows such a limit for
// none.
const unlimited = 1 << 62

// MemoryUse returns how many bytes a cgroup uses now, but for files that the
// kernel can drop at once (inactive_file).
func (f FS) MemoryUse(dir experiment.CgroupDir) int64 {
	used := max(numberIn(dir.Path, "memory.current"), numberIn(dir.Path, "memory.usage_in_bytes"))
	var dropped int64
	for line := range strings.Lines(textIn(dir.Path, "memory.stat")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "total_inactive_file" || name == "inactive_file" {
			dropped = max(dropped, parseNumber(value))
		}
	}
	return max(0, used-dropped)
}

// above gives a cgroup's directory and those above it, to the root of its
// hierarchy.
func above(path string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for ; yield(path); path = filepath.Dir(path) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "cgroup.procs")); err != nil {
				return
			}
		}
	}
}

func textIn(dir, file string) string {
	data, _ := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(data))
}

// numberIn is 0 where a file holds no number, or is not there.
func numberIn(dir, file string) int64 { return parseNumber(textIn(dir, file)) }

func parseNumber(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
