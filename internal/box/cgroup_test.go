package box

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

func TestCgroupName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "/", "system.slice", "simian-", "simian-a/", "simian-a/..", "simian-a/../b", "simian-a//b", "/simian-a", "simian-a/.x", "x/simian-a"} {
		if checkName(name) == nil {
			t.Errorf("%q is taken", name)
		}
		if err := KillCgroup(context.Background(), proc.Host(), name); err == nil {
			t.Errorf("%q is killed", name)
		}
	}
	for _, name := range []string{"simian-abc234", "simian-abc234/web-1", "simian-abc234/web_2.x-1"} {
		if err := checkName(name); err != nil {
			t.Error(err)
		}
	}
}

// A limit that the kernel refuses is named, and nothing is left.
func TestLimitRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, c := range map[string]struct {
		limits Limits
		want   string
	}{
		"cpuset":      {Limits{CPUSet: "900"}, "limit cpuset=900: the kernel refuses it: "},
		"cpuset text": {Limits{CPUSet: "x"}, "limit cpuset=x: the kernel refuses it: "},
		"swap":        {Limits{MemoryBytes: 1 << 20, MemorySwapBytes: 1 << 19}, "limit memswap_limit=524288: it counts memory and swap together, and mem_limit=1048576 is more"},
		"device":      {Limits{BlkIODevices: []BlkIODevice{{Path: "/dev/null", ReadIOPS: 1}}}, "limit blkio_config: /dev/null is no block device"},
		"cpus":        {Limits{CPUs: 0.000001}, "limit cpus=1e-06: the kernel refuses it: "},
	} {
		t.Run(name, func(t *testing.T) {
			cgroup := "simian-refused-" + strings.ReplaceAll(name, " ", "-")
			_, err := NewCgroup(proc.Host(), cgroup+"/c-1", c.limits)
			if err == nil || !strings.HasPrefix(err.Error(), "make cgroup "+cgroup+"/c-1: "+c.want) {
				t.Errorf("%v\nwant %s", err, c.want)
			}
			for _, root := range must(proc.Host().CgroupRoots()) {
				if left, _ := filepath.Glob(filepath.Join(root, cgroup+"*")); left != nil {
					t.Error(left)
				}
			}
		})
	}
}

func TestLimitsAreSet(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c := newCgroup(t, Limits{CPUs: 0.5, CPUShares: 512, CPUSet: "0", MemoryBytes: 64 << 20, Pids: 33})
	want := map[string][]string{ // by version 1 or 2
		"cpu.cfs_quota_us": {"50000"}, "cpu.max": {"50000 100000"}, "cpuset.cpus": {"0"}, "pids.max": {"33"},
		"memory.limit_in_bytes": {"67108864"}, "memory.memsw.limit_in_bytes": {"134217728"}, "memory.max": {"67108864"},
		"cpu.shares": {"512"},
	}
	seen := 0
	for _, root := range c.roots() {
		for file, values := range want {
			data, err := os.ReadFile(filepath.Join(root, c.name, file))
			if err != nil {
				continue
			}
			seen++
			if got := strings.TrimSpace(string(data)); !slices.Contains(values, got) {
				t.Errorf("%s: %s, want %s", file, got, values)
			}
		}
	}
	if seen < 4 {
		t.Errorf("%d limits found", seen)
	}
}

// What is frozen dies too, and so does what forks on.
func TestKillFrozen(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "sleep")
	s.Cgroup = newCgroup(t, Limits{})
	p, _ := start(t, l, s)
	froze := false
	for _, root := range s.Cgroup.roots() {
		for file, value := range map[string]string{"freezer.state": "FROZEN", "cgroup.freeze": "1"} {
			froze = write(filepath.Join(root, s.Cgroup.name, file), value) == nil || froze
		}
	}
	if !froze {
		t.Skip("no freezer is mounted")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := KillCgroup(ctx, proc.Host(), filepath.Dir(s.Cgroup.name)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		t.Error("it lives on")
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "sleep")
	s.Cgroup = newCgroup(t, Limits{MemoryBytes: 64 << 20})
	start(t, l, s)
	stats, err := ReadStats(proc.Host(), s.Cgroup.name)
	if err != nil || stats.MemoryBytes == 0 || stats.MemoryLimit != 64<<20 || stats.Pids == 0 || stats.CPU == 0 {
		t.Errorf("%+v %v", stats, err)
	}
}

// A device node may be made, but only those of the default list can be opened.
func TestDevices(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "device", "1:3", "1:1", "10:200", "1:11")
	s.Cgroup = newCgroup(t, Limits{})
	out, _ := run(t, l, s)
	want := "1:3 <nil> <nil>\n" +
		"1:1 <nil> open /device1: operation not permitted\n" +
		"10:200 <nil> open /device2: operation not permitted\n" +
		"1:11 <nil> open /device3: operation not permitted\n"
	if out != want {
		t.Error(out)
	}
}
