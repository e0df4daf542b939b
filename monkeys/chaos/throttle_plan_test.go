package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// made is a made-up host: a target of one process, 41, in a cgroup web of its
// own, with some memory in use. What is planned for it needs no root.
func made(t *testing.T, v2 bool, files map[string]string) (proc.FS, experiment.Target) {
	t.Helper()
	fs := proc.FS{Proc: filepath.Join(t.TempDir(), "proc"), Sys: filepath.Join(t.TempDir(), "sys")}
	all := map[string]string{
		"proc/41/stat":                           "41 (web) S 1 41 41 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 900 0 0\n",
		"proc/42/stat":                           "42 (other) S 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 901 0 0\n",
		"proc/43/stat":                           "43 (dockerd) S 1 43 43 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 902 0 0\n",
		"proc/meminfo":                           "SwapFree: 0 kB\n",
		"proc/devices":                           "Character devices:\n  1 mem\n\nBlock devices:\n  8 sd\n",
		fmt.Sprintf("proc/%d/stat", os.Getpid()): fmt.Sprintf("%d (simian) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0\n", os.Getpid()),
		fmt.Sprintf("proc/%d/exe", os.Getpid()):  "",
		"sys/devices/system/cpu/online":          "0-3\n",
		"sys/dev/block/8:0/dev":                  "8:0\n",
		"sys/dev/block/8:1/partition":            "1\n",
		"sys/dev/block/dev":                      "8:0\n",
	}
	maps.Copy(all, map[bool]map[string]string{true: madeV2, false: madeV1}[v2])
	maps.Copy(all, files)
	for name, text := range all {
		dir, rest, _ := strings.Cut(name, "/")
		path := filepath.Join(map[string]string{"proc": fs.Proc, "sys": fs.Sys}[dir], rest)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	target := experiment.Target{Kind: "process", Name: "web", ID: "process:41:900", PIDs: []experiment.ProcessID{{PID: 41, Start: 900}}}
	var err error
	if v2 {
		target.Cgroup.V2, err = proc.StatCgroup(filepath.Join(fs.Sys, "fs/cgroup/web"))
		must(t, err)
		return fs, target
	}
	target.Cgroup.V1 = map[string]experiment.CgroupDir{}
	for _, controller := range []string{"cpu", "cpuset", "memory", "blkio", "pids", "devices"} {
		target.Cgroup.V1[controller], err = proc.StatCgroup(filepath.Join(fs.Sys, "fs/cgroup", controller, "web"))
		must(t, err)
	}
	return fs, target
}

const inV2 = "sys/fs/cgroup/web/"

var madeV2 = map[string]string{
	"proc/self/mountinfo":            "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
	"sys/fs/cgroup/cgroup.procs":     "",
	inV2 + "cgroup.procs":            "41\n",
	inV2 + "cgroup.controllers":      "cpuset cpu io memory hugetlb pids\n",
	inV2 + "cpu.max":                 "80000 100000\n",
	inV2 + "cpu.max.burst":           "50000\n",
	inV2 + "cpuset.cpus":             "0-3\n",
	inV2 + "cpuset.cpus.effective":   "0-3\n",
	inV2 + "cpuset.cpus.partition":   "member\n",
	inV2 + "memory.max":              "268435456\n",
	inV2 + "memory.high":             "max\n",
	inV2 + "memory.current":          "104857600\n",
	inV2 + "memory.stat":             "inactive_file 41943040\nactive_file 10485760\nslab_reclaimable 0\n",
	inV2 + "io.max":                  "8:0 rbps=max wbps=2097152 riops=max wiops=max\n",
	inV2 + "pids.max":                "max\n",
	inV2 + "pids.current":            "7\n",
	inV2 + "hugetlb.2MB.max":         "max\n",
	inV2 + "hugetlb.2MB.current":     "4194304\n",
	inV2 + "hugetlb.1GB.max":         "max\n",
	inV2 + "hugetlb.1GB.current":     "0\n",
	inV2 + "below/cgroup.procs":      "",
	inV2 + "below/cpu.max":           "max 100000\n",
	inV2 + "below/cpuset.cpus":       "2\n",
	"sys/fs/cgroup/cpu.stat":         "",
	"sys/fs/cgroup/cgroup.procs.max": "",
}

var madeV1 = map[string]string{
	"proc/self/mountinfo": `31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
32 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 23 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
34 23 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
35 23 0:31 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio
36 23 0:32 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
`,
	"sys/fs/cgroup/cpu/web/cgroup.procs":                       "41\n",
	"sys/fs/cgroup/cpu/web/cpu.cfs_quota_us":                   "-1\n",
	"sys/fs/cgroup/cpu/web/cpu.cfs_period_us":                  "100000\n",
	"sys/fs/cgroup/cpu/web/below/cpu.cfs_quota_us":             "150000\n",
	"sys/fs/cgroup/cpu/web/below/cpu.cfs_period_us":            "100000\n",
	"sys/fs/cgroup/cpu/web/below/cgroup.procs":                 "",
	"sys/fs/cgroup/cpuset/web/cgroup.procs":                    "41\n",
	"sys/fs/cgroup/cpuset/web/cpuset.cpus":                     "0-3\n",
	"sys/fs/cgroup/cpuset/web/cpuset.effective_cpus":           "0-3\n",
	"sys/fs/cgroup/cpuset/web/below/cgroup.procs":              "",
	"sys/fs/cgroup/cpuset/web/below/cpuset.cpus":               "1-3\n",
	"sys/fs/cgroup/memory/web/cgroup.procs":                    "41\n",
	"sys/fs/cgroup/memory/web/memory.limit_in_bytes":           "9223372036854771712\n",
	"sys/fs/cgroup/memory/web/memory.usage_in_bytes":           "104857600\n",
	"sys/fs/cgroup/memory/web/memory.stat":                     "total_inactive_file 41943040\ntotal_active_file 10485760\n",
	"sys/fs/cgroup/blkio/web/cgroup.procs":                     "41\n",
	"sys/fs/cgroup/blkio/web/blkio.throttle.read_bps_device":   "",
	"sys/fs/cgroup/blkio/web/blkio.throttle.write_bps_device":  "8:0 2097152\n",
	"sys/fs/cgroup/blkio/web/blkio.throttle.read_iops_device":  "",
	"sys/fs/cgroup/blkio/web/blkio.throttle.write_iops_device": "",
	"sys/fs/cgroup/pids/web/cgroup.procs":                      "41\n",
	"sys/fs/cgroup/pids/web/pids.max":                          "100\n",
	"sys/fs/cgroup/pids/web/pids.current":                      "7\n",
	"sys/fs/cgroup/devices/web/cgroup.procs":                   "41\n",
	"sys/fs/cgroup/devices/web/devices.list":                   "c 1:3 rwm\nc 1:5 rw\nc *:* m\nb 8:* r\n",
	"sys/fs/cgroup/devices/web/below/cgroup.procs":             "",
	"sys/fs/cgroup/devices/web/below/devices.list":             "c 1:3 rw\n",
	"sys/fs/cgroup/devices/web/below/deeper/cgroup.procs":      "",
	"sys/fs/cgroup/devices/web/below/deeper/devices.list":      "c 1:5 rw\n",
}

// planMade plans on the made-up host.
func planMade(t *testing.T, v2 bool, fields string, files map[string]string) ([]experiment.Step, proc.FS, error) {
	t.Helper()
	fs, target := made(t, v2, files)
	f, err := readThrottle(op.NewHost(fs), fields)
	must(t, err)
	steps, err := f.Plan(context.Background(), "abcd23", target)
	return steps, fs, err
}

// TestThrottleGolden writes down what is planned, for each version.
func TestThrottleGolden(t *testing.T) {
	t.Parallel()
	const all = `cpus: 0.25, cpuset: "0-1", memory: 64MiB, pids: 5, io: [{device: "8:1", readBytes: 1MiB, writeBytes: 1MiB, readOps: 100}]`
	for name, c := range map[string]struct {
		v2     bool
		fields string
	}{
		"throttle-v1":         {false, all},
		"throttle-v1-devices": {false, "denyDevices: [{device: 'c 1:3', access: rw}, {device: 'c 1:5'}]"},
		"throttle-v2":         {true, all + ", memoryHigh: 48MiB, hugetlb: {2MB: 5MiB, 1GB: 0B}"},
		"throttle-v2-percent": {true, "cpuPercent: 50, memoryPercent: 33.3, cpusetCount: 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps, fs, err := planMade(t, c.v2, c.fields, nil)
			must(t, err)
			text := describe(steps)
			for _, s := range steps {
				for _, n := range s.Do.(experiment.Noted).Notes() {
					text += "note    " + n + "\n"
				}
			}
			text = strings.ReplaceAll(text, fs.Sys, "/sys")
			golden(t, name, regexp.MustCompile(`cgroup:\d+`).ReplaceAllString(text, "cgroup:31"))
		})
	}
}

// TestThrottleRefused has the plan say no, and what to do.
func TestThrottleRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		v2     bool
		fields string
		files  map[string]string
		is     error
		want   string
	}{
		{name: "a percent of no quota", fields: "cpuPercent: 50", want: "a percent of no limit: cpu.cfs_quota_us of"},
		{name: "a quota that is lower already", v2: true, fields: "cpus: 0.8", want: "0.8 CPUs would change nothing: its limit is 0.8 already"},
		{name: "more CPUs than there are", fields: "cpus: 4", want: "4 CPUs would change nothing: its limit is 4 already"},
		{name: "less than the kernel takes", v2: true, fields: "cpus: 0.005", want: "ask for 0.01 CPUs or more"},
		{name: "a quota above that is lower", v2: true, fields: "cpus: 0.5", files: map[string]string{"sys/fs/cgroup/cpu.max": "40000 100000\n"}, want: "its limit is 0.4 already"},
		{name: "a CPU that it may not use", v2: true, fields: `cpuset: "4"`, want: "CPU 4 is none that it may use: they are 0-3"},
		{name: "all of its CPUs", v2: true, fields: `cpuset: "0-3"`, want: "0-3 would change nothing"},
		{name: "more CPUs than it has", v2: true, fields: "cpusetCount: 4", want: "4 of its CPUs would change nothing"},
		{name: "a cpuset that is empty", v2: true, fields: `cpuset: "0"`, files: map[string]string{inV2 + "cpuset.cpus": "\n"}, is: experiment.ErrBusy, want: "the kernel takes no empty one back while processes are in it"},
		{name: "a partition", v2: true, fields: `cpuset: "0"`, files: map[string]string{inV2 + "cpuset.cpus.partition": "root\n"}, is: experiment.ErrBusy, want: "is a partition"},
		{name: "a percent of no memory limit", fields: "memoryPercent: 50", want: "a percent of no limit: memory.limit_in_bytes of"},
		{name: "a memory limit that is lower already", v2: true, fields: "memory: 256MiB", want: "256MiB would change nothing: its limit is 256MiB already"},
		{name: "memory that cannot be given back", v2: true, fields: "memory: 40MiB", want: "50MiB of the 100MiB in use cannot be given back (40MiB asked for)"},
		{name: "the same in version 1", fields: "memory: 40MiB", want: "50MiB of the 100MiB in use cannot be given back"},
		{name: "memoryHigh in version 1", fields: "memoryHigh: 40MiB", is: experiment.ErrUnsupported, want: "its soft limit is another thing"},
		{name: "memoryHigh above the limit", v2: true, fields: "memoryHigh: 256MiB", want: "256MiB would change nothing"},
		{name: "pids.max that is lower already", fields: "pids: 100", want: "100 would change nothing: its limit is 100 already"},
		{name: "a rate that is lower already", v2: true, fields: `io: [{device: "8:0", writeBytes: 2MiB}]`, want: "2MiB/s would change nothing: its limit is 2MiB/s already"},
		{name: "a device that is not there", v2: true, fields: `io: [{device: "8:16", writeBytes: 1MiB}]`, is: os.ErrNotExist, want: "there is no block device 8:16"},
		{name: "a path that is not there", v2: true, fields: `io: [{device: /dev/nothing-such, writeBytes: 1MiB}]`, is: os.ErrNotExist, want: "/dev/nothing-such"},
		{name: "no block device", v2: true, fields: `io: [{device: /dev/null, writeBytes: 1MiB}]`, want: "a device of characters"},
		{name: "no device", v2: true, fields: `io: [{device: /etc/passwd, writeBytes: 1MiB}]`, want: "/etc/passwd is no device"},
		{name: "the same twice", v2: true, fields: `io: [{device: "8:0", readBytes: 1MiB}, {device: "8:1", readBytes: 2MiB}]`, want: "io.max 8:0 rbps is asked for twice"},
		{name: "no such pages", v2: true, fields: "hugetlb: {16MB: 0B}", want: "there are no pages of 16MB here, but 1GB and 2MB"},
		{name: "pages in use", v2: true, fields: "hugetlb: {2MB: 2MiB}", want: "4MiB of them are in use"},
		{name: "hugetlb not mounted", fields: "hugetlb: {2MB: 0B}", is: experiment.ErrUnsupported, want: "no cgroup hierarchy with the hugetlb controller is mounted here"},
		{name: "a device without a driver", fields: "denyDevices: [{device: 'c 77:1'}]", want: "there is no device c 77:1: no driver has the number 77"},
		{name: "a device that is not allowed", fields: "denyDevices: [{device: 'c 1:9', access: r}]", want: "c 1:9 is not allowed r as it is"},
		{name: "a device allowed with others", fields: "denyDevices: [{device: 'b 8:0', access: r}]", is: experiment.ErrUnsupported, want: `it is allowed by "b 8:* r", with others`},
		{name: "all devices allowed", fields: "denyDevices: [{device: 'c 1:3'}]", files: map[string]string{"sys/fs/cgroup/devices/web/devices.list": "a *:* rwm\n"}, is: experiment.ErrBusy, want: "could not be put back"},
		{name: "shared with another", v2: true, fields: "pids: 5", files: map[string]string{inV2 + "cgroup.procs": "41\n42\n"}, is: experiment.ErrUnsupported, want: "it has no cgroup of its own with the pids controller (give it one, as a container or a systemd unit has)"},
		{name: "shared with one below", v2: true, fields: "pids: 5", files: map[string]string{inV2 + "below/cgroup.procs": "42\n"}, is: experiment.ErrUnsupported, want: "no cgroup of its own"},
		{name: "with one that is protected", v2: true, fields: "pids: 5", files: map[string]string{"proc/41/stat": "41 (dockerd) S 1 41 41 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 900 0 0\n"}, is: experiment.ErrProtected, want: "part of a container runtime"},
		{name: "a controller that is off", v2: true, fields: "pids: 5", files: map[string]string{inV2 + "cgroup.controllers": "cpu memory\n"}, is: experiment.ErrUnsupported, want: "the pids controller is not switched on for its cgroup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			steps, _, err := planMade(t, c.v2, c.fields, c.files)
			if err == nil {
				t.Fatalf("it is planned: %s", describe(steps))
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("it gives %v, not %q (%v)", err, c.want, c.is)
			}
		})
	}
}

// TestThrottleRoot refuses the root cgroup, and one that is another by now.
func TestThrottleRoot(t *testing.T) {
	t.Parallel()
	f, err := readThrottle(op.NewHost(host), "pids: 5")
	must(t, err)
	for _, controller := range []string{"pids", ""} {
		fs, target := made(t, controller == "", nil)
		f.(*Throttle).host = op.NewHost(fs)
		root := filepath.Dir(target.Cgroup.V2.Path)
		if controller != "" {
			root = filepath.Dir(target.Cgroup.V1["pids"].Path)
		}
		dir, err := proc.StatCgroup(root)
		must(t, err)
		gone := experiment.CgroupDir{Path: filepath.Join(root, "web"), Inode: 1}
		target.Cgroup = experiment.Cgroup{V2: dir}
		if controller != "" {
			target.Cgroup = experiment.Cgroup{V1: map[string]experiment.CgroupDir{"pids": dir}}
		}
		if _, err := f.Plan(t.Context(), "abcd23", target); !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), "no cgroup of its own") {
			t.Errorf("%q: the root gives %v", controller, err)
		}
		target.Cgroup = experiment.Cgroup{V2: gone}
		if controller == "" {
			if _, err := f.Plan(t.Context(), "abcd23", target); !errors.Is(err, experiment.ErrGone) {
				t.Errorf("another one gives %v", err)
			}
		}
	}
}

// TestThrottleValidate gives what is refused before anything is looked at.
func TestThrottleValidate(t *testing.T) {
	t.Parallel()
	for fields, want := range map[string]string{
		"":                                     "says nothing of which limit",
		"cpus: 0":                              "0 is no number of CPUs: want more than 0, such as 0.25",
		"cpus: -1":                             "-1 is no number of CPUs",
		"cpus: 1, cpuPercent: 20":              "goes not together with cpus",
		"cpuPercent: 100":                      "100 % does not lower it: want more than 0 and less than 100",
		"cpuPercent: 0":                        "0 % does not lower it",
		"cpuset: 0":                            "cpuset",
		`cpuset: "0-"`:                         `"0-" is no list of CPUs: want it as 0 or 0-1,3`,
		`cpuset: "3-1"`:                        "is no list of CPUs",
		`cpuset: "99999"`:                      "is no list of CPUs",
		`cpuset: "0", cpusetCount: 1`:          "goes not together with cpuset",
		"cpusetCount: 0":                       "0 is no number of CPUs: want 1 or more",
		"memory: 0B":                           "0 bytes is room for no process",
		"memory: 1":                            "memory",
		"memory: 1MiB, memoryPercent: 20":      "goes not together with memory",
		"memoryPercent: 100":                   "100 % does not lower it",
		"pids: -1":                             "-1 is no number of processes",
		"io: [{readBytes: 1MiB}]":              "want one of device (8:0, /dev/vda) and path (of the target)",
		"io: [{device: sda, readBytes: 1MiB}]": `"sda" is no device: want 8:0`,
		"io: [{path: data, readBytes: 1MiB}]":  `"data" is not absolute`,
		"io: [{path: /data}]":                  "limits nothing: give readBytes",
		"io: [{path: /data, readBytes: 0B}]":   "0 a second is no limit that the kernel takes",
		"io: [{path: /data, writeOps: -3}]":    "-3 a second is no limit",
		"hugetlb: {2MiB: 0B}":                  `"2MiB" is no size of pages`,
		"denyDevices: [{device: null0}]":       `"null0" is no device: want a path such as /dev/null, or c 1:3, or b 8:0`,
		"denyDevices: [{device: 'x 1:3'}]":     "is no device",
		"denyDevices: [{device: /dev/null, access: x}]":  `"x" is no access: want some of r (read), w (write) and m (mknod)`,
		"denyDevices: [{device: /dev/null, access: rr}]": "each once",
		"cpuss: 1": "unknown field",
		"cpus: 0.5, pids: 0, memory: 1MiB, hugetlb: {2MB: 0B}": "",
	} {
		_, err := readThrottle(op.NewHost(host), strings.TrimSuffix(fields+", ", ", "))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: it gives %v, not %q", fields, err, want)
		}
	}
}

func TestCPULists(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{"0": "0", "3,1-2": "1-3", "0,2,4-5": "0,2,4-5", "7,7": "7"} {
		cpus, err := parseCPUs(list)
		if got := listCPUs(cpus); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", list, got, err, want)
		}
	}
	if n := strconv.Itoa(pageBytes("2MB")) + " " + strconv.Itoa(pageBytes("64KB")) + " " + strconv.Itoa(pageBytes("1GB")); n != "2097152 65536 1073741824" {
		t.Error(n)
	}
}
