package chaos

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
)

// leastQuota is the least that the kernel takes, in microseconds a period.
const leastQuota = 1000

// cpuQuota is how long a cgroup may run in each period.
type cpuQuota struct {
	knob          op.Knob
	value         string // of the knob
	micros        int64  // 0 where there is no limit
	period, burst int64  // microseconds
}

// cpus is the quota as a number of CPUs; infinite where there is none.
func (q cpuQuota) cpus() float64 {
	if q.micros == 0 {
		return math.Inf(1)
	}
	return float64(q.micros) / float64(q.period)
}

// readQuota reads that of a cgroup. cgroup v1 has a file for each number.
func readQuota(at ownedCgroup) (cpuQuota, error) {
	q := cpuQuota{knob: at.file("cpu.cfs_quota_us", "cpu.max")}
	var err error
	if q.value, err = q.knob.Value(); err != nil {
		return q, err
	}
	micros, period := q.value, ""
	if at.v2 {
		micros, period, _ = strings.Cut(q.value, " ")
	} else if period, err = at.file("cpu.cfs_period_us", "").Value(); err != nil {
		return q, err
	}
	if q.period, err = strconv.ParseInt(period, 10, 64); err != nil {
		return q, fmt.Errorf("read the CPU quota of %s: %w", at.dir.Path, err)
	}
	if n, err := strconv.ParseInt(micros, 10, 64); err == nil && n > 0 { // else it is max, or -1
		q.micros = n
	}
	if burst, err := at.file("cpu.cfs_burst_us", "cpu.max.burst").Value(); err == nil { // since Linux 5.14
		q.burst, _ = strconv.ParseInt(burst, 10, 64)
	}
	return q, nil
}

// of is the value of the knob for this many CPUs.
func (q cpuQuota) of(cpus float64) (micros int64, value string) {
	micros = int64(math.Round(cpus * float64(q.period)))
	value = strconv.FormatInt(micros, 10)
	if q.knob.File == "cpu.max" {
		value += " " + strconv.FormatInt(q.period, 10)
	}
	return micros, value
}

// cpu lowers the quota.
func (p *throttling) cpu(at ownedCgroup) error {
	q, err := readQuota(at)
	if err != nil {
		return err
	}
	field, cpus := "cpus", 0.0
	if p.CPUPercent != nil {
		if q.micros == 0 {
			return noLimit("cpuPercent", "cpus, such as 0.25", q.knob)
		}
		field, cpus = "cpuPercent", float64(*p.CPUPercent)/100*q.cpus()
	} else {
		cpus = *p.CPUs
	}
	now, err := p.cpusNow(at, q)
	if err != nil {
		return err
	}
	if cpus >= now {
		return errNoChange(field, fmt.Sprintf("%.3g CPUs", cpus), fmt.Sprintf("%.3g", now))
	}
	if micros, _ := q.of(cpus); micros < leastQuota {
		return experiment.Fieldf(field, "the kernel takes no quota below 1 ms in each period, which is %d ms here: ask for %.3g CPUs or more", q.period/1000, float64(leastQuota)/float64(q.period))
	}
	if !at.v2 {
		if err := p.quotasBelow(at, cpus); err != nil {
			return err
		}
	}
	p.setQuota(at, q, cpus)
	return nil
}

// cpusNow is how many CPUs it may use now: by its quota, by those of the
// cgroups above, and by how many there are.
func (p *throttling) cpusNow(at ownedCgroup, own cpuQuota) (float64, error) {
	online, err := os.ReadFile(filepath.Join(p.host.FS.Sys, "devices/system/cpu/online"))
	if err != nil {
		return 0, fmt.Errorf("count CPUs: %w", err)
	}
	all, err := parseCPUs(strings.TrimSpace(string(online)))
	if err != nil {
		return 0, fmt.Errorf("count CPUs: %w", err)
	}
	now := min(own.cpus(), float64(len(all)))
	for up := range above(at) {
		if q, err := readQuota(up); err == nil {
			now = min(now, q.cpus())
		}
	}
	return now, nil
}

// setQuota adds the step that lowers a quota, and before it one that lowers
// the burst, which must not be more.
func (p *throttling) setQuota(at ownedCgroup, q cpuQuota, cpus float64) {
	micros, value := q.of(cpus)
	if q.burst > micros {
		p.set(at.file("cpu.cfs_burst_us", "cpu.max.burst"), strconv.FormatInt(q.burst, 10), strconv.FormatInt(micros, 10))
	}
	p.set(q.knob, q.value, value)
}

// quotasBelow lowers those of the cgroups below: version 1 takes no quota that
// is less than a child's. They go first, and come back last.
func (p *throttling) quotasBelow(at ownedCgroup, cpus float64) error {
	children, err := below(at)
	if err != nil {
		return err
	}
	for _, child := range children {
		q, err := readQuota(child)
		if err != nil {
			return err
		}
		if q.cpus() <= cpus || q.micros == 0 {
			continue
		}
		if micros, _ := q.of(cpus); micros < leastQuota {
			return fmt.Errorf("cgroup %s below it has a quota of its own, which cannot be lowered to %.3g CPUs: %w", child.dir.Path, cpus, experiment.ErrUnsupported)
		}
		p.setQuota(child, q, cpus)
	}
	return nil
}
