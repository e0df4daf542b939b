package op

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// What is counted of a limit, as the kernel does it in its cgroup.
const (
	countHit    = "hit"    // what ran into the limit
	countWaited = "waited" // for how long it was held up, in nanoseconds
	countUsed   = "used"   // CPU time, in microseconds
	countKilled = "killed" // processes
	countMoved  = "moved"  // bytes, or operations, from or to a device
)

// counters are counts at a moment.
type counters struct {
	at time.Time
	of map[string]int64
}

// cgroupTally is where the kernel counts something: a file, and the words before the
// number.
type cgroupTally struct {
	what, file, key string
	unit            int64 // what it is multiplied with
}

// tallies are those of a knob.
func (k Knob) tallies() []cgroupTally {
	switch k.File {
	case "cpu.max":
		return []cgroupTally{
			{countHit, "cpu.stat", "nr_throttled", 1},
			{countWaited, "cpu.stat", "throttled_usec", 1000},
			{countUsed, "cpu.stat", "usage_usec", 1},
		}
	case "cpu.cfs_quota_us":
		return []cgroupTally{{countHit, "cpu.stat", "nr_throttled", 1}, {countWaited, "cpu.stat", "throttled_time", 1}}
	case "memory.max":
		return []cgroupTally{{countHit, "memory.events", "max", 1}, {countKilled, "memory.events", "oom_kill", 1}}
	case "memory.limit_in_bytes":
		return []cgroupTally{{countHit, "memory.failcnt", "", 1}, {countKilled, "memory.oom_control", "oom_kill", 1}}
	case "memory.high":
		return []cgroupTally{{countHit, "memory.events", "high", 1}}
	case "pids.max":
		return []cgroupTally{{countHit, "pids.events", "max", 1}}
	}
	if page, ok := strings.CutSuffix(k.File, ".limit_in_bytes"); ok {
		return []cgroupTally{{countHit, page + ".failcnt", "", 1}}
	}
	if page, ok := strings.CutSuffix(k.File, ".max"); ok && k.Device == "" {
		return []cgroupTally{{countHit, page + ".events", "max", 1}}
	}
	return k.ioTallies()
}

// ioTallies are those of limits by device.
func (k Knob) ioTallies() []cgroupTally {
	at := map[string][2]string{
		"rbps": {"io.stat", "rbytes"}, "wbps": {"io.stat", "wbytes"},
		"riops": {"io.stat", "rios"}, "wiops": {"io.stat", "wios"},
		"blkio.throttle.read_bps_device":   {"blkio.throttle.io_service_bytes_recursive", "Read"},
		"blkio.throttle.write_bps_device":  {"blkio.throttle.io_service_bytes_recursive", "Write"},
		"blkio.throttle.read_iops_device":  {"blkio.throttle.io_serviced_recursive", "Read"},
		"blkio.throttle.write_iops_device": {"blkio.throttle.io_serviced_recursive", "Write"},
	}
	for _, name := range []string{k.Field, k.File} {
		if found, ok := at[name]; ok {
			return []cgroupTally{{countMoved, found[0], k.Device + " " + found[1], 1}}
		}
	}
	return nil
}

// count reads them now. What is not counted here is left out.
func (k Knob) count(dir int) *counters {
	c := &counters{at: time.Now(), of: map[string]int64{}}
	for _, t := range k.tallies() {
		text, err := readAt(dir, t.file)
		if err != nil {
			continue
		}
		c.of[t.what] = numberAfter(text, t.key) * t.unit
	}
	return c
}

// numberAfter finds the number that stands after the words of key: "max" in
// "max 3", "254:0 Read" in "254:0 Read 4096" and "8:0 rbytes" in "8:0
// wbytes=0 rbytes=4096". A device that nothing came from yet has no line: 0.
func numberAfter(text, key string) int64 {
	keys := strings.Fields(key)
	for line := range strings.Lines(text) {
		words := strings.Fields(strings.ReplaceAll(line, "=", " "))
		if len(keys) > 0 && (len(words) == 0 || words[0] != keys[0]) {
			continue
		}
		if n, ok := numberPast(words, keys); ok {
			return n
		}
	}
	return 0
}

// numberPast finds the number that stands after all of keys, in this order.
func numberPast(words, keys []string) (int64, bool) {
	for len(keys) > 0 && len(words) > 0 {
		if words[0] == keys[0] {
			keys = keys[1:]
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(words[0], 10, 64)
	return n, err == nil
}

// felt tells what ran into the limit since it was set, in words with numbers.
func (c *CgroupSet) felt(dir int) (felt experiment.Felt, seen, hint string) {
	if strings.HasPrefix(c.File, "cpuset.") {
		return "", effectiveCPUs(dir), ""
	}
	if c.before == nil || len(c.before.of) == 0 {
		return "", "", ""
	}
	now := c.count(dir)
	since := now.at.Sub(c.before.at)
	for what := range now.of {
		now.of[what] -= c.before.of[what]
	}
	if _, ok := now.of[countMoved]; ok {
		return c.feltIO(now.of[countMoved], since)
	}
	if now.of[countHit] == 0 {
		return experiment.FeltNo, "nothing ran into it in " + elapsed(since), "the target needed no more than that"
	}
	return experiment.FeltYes, c.words(now.of, since), ""
}

// words says what was counted.
func (c *CgroupSet) words(n map[string]int64, since time.Duration) string {
	switch {
	case strings.HasPrefix(c.File, "cpu."):
		text := fmt.Sprintf("throttled %s, for %s in %s", counted(n[countHit], "time"), elapsed(time.Duration(n[countWaited])), elapsed(since))
		if n[countUsed] > 0 {
			text += fmt.Sprintf(", and used %.3g CPUs", float64(n[countUsed])/float64(since.Microseconds()))
		}
		return text
	case c.File == "pids.max":
		return counted(n[countHit], "fork") + " refused in " + elapsed(since)
	case strings.HasPrefix(c.File, "hugetlb."):
		return counted(n[countHit], "page") + " refused in " + elapsed(since)
	}
	text := counted(n[countHit], "allocation") + " ran into it in " + elapsed(since)
	if n[countKilled] > 0 {
		text += ", " + counted(n[countKilled], "OOM kill")
	}
	return text
}

// counted is a number of things.
func counted(n int64, one string) string {
	if n != 1 {
		one += "s"
	}
	return fmt.Sprintf("%d %s", n, one)
}

// feltIO compares what was moved with what may be. The kernel counts nothing
// that waited, so it takes half of the limit, on average, for running into it.
func (c *CgroupSet) feltIO(moved int64, since time.Duration) (felt experiment.Felt, seen, hint string) {
	limit, err := strconv.ParseFloat(c.Wrote, 64)
	if err != nil || since <= 0 {
		return "", "", ""
	}
	rate := float64(moved) / since.Seconds()
	bytes := strings.Contains(c.File+c.Field, "bps")
	seen = fmt.Sprintf("%d operations in %s, %.3g/s", moved, elapsed(since), rate)
	if bytes {
		seen = fmt.Sprintf("%s in %s, %s/s", inBytes(float64(moved)), elapsed(since), inBytes(rate))
	}
	if rate < limit/2 {
		return experiment.FeltNo, seen, "on average that is less than half of the limit"
	}
	return experiment.FeltYes, seen, ""
}

// inBytes is a number of bytes for people, to three digits.
func inBytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB"}
	for len(units) > 1 && n >= 1024 {
		n, units = n/1024, units[1:]
	}
	return fmt.Sprintf("%.3g %s", n, units[0])
}

// elapsed is a duration for people, to a hundredth of a second, or a
// millisecond where it is short.
func elapsed(d time.Duration) string {
	if d < 100*time.Millisecond {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// effectiveCPUs tells on which CPUs a cpuset lets its processes run.
func effectiveCPUs(dir int) string {
	for _, file := range []string{"cpuset.cpus.effective", "cpuset.effective_cpus"} {
		if text, err := readAt(dir, file); err == nil {
			return "its processes may run on " + strings.TrimSpace(text)
		}
	}
	return ""
}
