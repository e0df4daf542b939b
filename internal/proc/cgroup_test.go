package proc

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// cgroupRoot returns where a hierarchy is mounted: "" is version 2.
func cgroupRoot(t *testing.T, controller string) string {
	t.Helper()
	mounts, err := Host().hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if slices.Contains(m.names(), controller) {
			return m.dir
		}
	}
	t.Skipf("cgroup hierarchy %q is not mounted here", controller)
	return ""
}

// makeCgroup makes a cgroup below the root of a hierarchy until the test ends.
func makeCgroup(t *testing.T, controller, name string) string {
	t.Helper()
	needRoot(t)
	return makeDir(t, filepath.Join(cgroupRoot(t, controller), "simian-test-"+strconv.Itoa(os.Getpid())+"-"+name))
}

func makeDir(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		await(t, func() bool { err := os.Remove(dir); return err == nil || errors.Is(err, os.ErrNotExist) })
	})
	return dir
}

func put(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// join moves a process into a cgroup, and back to the root when the test ends.
func join(t *testing.T, dir string, pid int) {
	t.Helper()
	put(t, filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
}

func TestResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"v2/app/worker", "cpu/worker", "top/beside", "cpu2/docker/81f/worker"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mounts := []hierarchy{
		{root: "/", dir: filepath.Join(dir, "v2")},
		{controllers: []string{"cpu", "cpuacct"}, root: "/docker/81f", dir: filepath.Join(dir, "cpu")},
		{controllers: []string{"memory"}, root: "/..", dir: filepath.Join(dir, "top")},
		{controllers: []string{"cpu", "cpuacct"}, root: "/", dir: filepath.Join(dir, "cpu2")},
	}
	tests := []struct {
		name, controller, path, want string
	}{
		{"root", "", "/", "v2"},
		{"below the root", "", "/app/worker", "v2/app/worker"},
		{"removed", "", "/app/gone (deleted)", ""},
		{"outside the cgroup namespace", "", "/../other", ""},
		{"a mount that shows a part", "cpu", "/docker/81f/worker", "cpu/worker"},
		{"the part itself", "cpuacct", "/docker/81f", "cpu"},
		{"a longer name is another cgroup; a second mount shows it not", "cpu", "/docker/81f0", ""},
		{"mount from above the namespace", "memory", "/../beside", "top/beside"},
		{"not below such a mount by name", "memory", "/beside", ""},
		{"not mounted", "pids", "/", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := ""
			if test.want != "" {
				want = filepath.Join(dir, test.want)
			}
			if got := resolve(mounts, StatCgroup, test.controller, test.path); got.Path != want || (got.Inode == 0) != (want == "") {
				t.Errorf("got %+v, want %s", got, want)
			}
		})
	}
}

func TestParseMount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line string
		want       mount
		wantErr    bool
	}{
		{
			name: "plain", line: `36 31 0:33 / /sys/fs/cgroup/my\040cpu rw,relatime - cgroup cgroup rw,cpu`,
			want: mount{device: "0:33", root: "/", point: "/sys/fs/cgroup/my cpu", options: "rw,relatime", kind: "cgroup", source: "cgroup", super: "rw,cpu"},
		},
		{
			name: "optional fields", line: `41 31 0:38 /a /b rw shared:7 master:1 - cgroup2 cgroup2 rw`,
			want: mount{device: "0:38", root: "/a", point: "/b", options: "rw", optional: "shared:7 master:1", kind: "cgroup2", source: "cgroup2", super: "rw"},
		},
		{
			name: "empty source", line: `41 31 0:38 / /b rw - tmpfs  rw`,
			want: mount{device: "0:38", root: "/", point: "/b", options: "rw", kind: "tmpfs", super: "rw"},
		},
		{name: "cut short", line: `41 31 0:38 / /b`, wantErr: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseMount(test.line)
			if (err != nil) != test.wantErr {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(mount{})); !test.wantErr && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCgroupOfAProcess(t *testing.T) {
	for _, controller := range []string{"", "freezer", "memory", "systemd"} {
		t.Run("hierarchy "+controller, func(t *testing.T) {
			dir := makeCgroup(t, controller, "of")
			pid := sleeper(t)
			join(t, dir, pid)
			c, err := Host().Cgroup(pid)
			if err != nil {
				t.Fatal(err)
			}
			got := c.V2
			if controller != "" {
				got = c.V1[controller]
			}
			want, err := StatCgroup(dir)
			if err != nil || got != want {
				t.Errorf("got %+v, want %+v, %v", got, want, err)
			}
		})
	}
}

func TestFindCgroup(t *testing.T) {
	v1, v2 := makeCgroup(t, "freezer", "find"), makeCgroup(t, "", "find")
	fs, name := Host(), filepath.Base(v1)
	for _, path := range []string{name, "/" + name, name + "/"} {
		got, err := fs.FindCgroup(path)
		if err != nil || got.V2.Path != v2 || len(got.V1) != 1 || got.V1["freezer"].Path != v1 {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	got, err := fs.FindCgroup(v1)
	if err != nil || got.V2.Path != "" || got.V1["freezer"].Path != v1 {
		t.Errorf("absolute, version 1: %+v, %v", got, err)
	}
	if got, err = fs.FindCgroup(v2); err != nil || got.V2.Path != v2 || got.V1 != nil {
		t.Errorf("absolute, version 2: %+v, %v", got, err)
	}
	for _, path := range []string{"/none/such", "none/such", "/tmp", v1 + "/none", "proc", v1 + "/freezer.state"} {
		if got, err := fs.FindCgroup(path); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
}

// TestCgroupInANamespace looks from inside a cgroup namespace at a mount that
// was made outside of it: what it shows can't be named from there.
func TestCgroupInANamespace(t *testing.T) {
	dir := makeCgroup(t, "freezer", "ns")
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs unshare(1):", err)
	}
	outer := sleeper(t)
	join(t, dir, outer)
	cmd := start(t, "unshare", "--cgroup", "sleep", "300")
	await(t, func() bool {
		a, _ := Host().Namespace(cmd.Process.Pid, "cgroup")
		b, _ := Host().Namespace(os.Getpid(), "cgroup")
		return a.Inode != b.Inode
	})
	// The cgroup namespace's root is the hierarchy's root, so nothing changes
	// but the namespace: the paths must still be found.
	err := Do(Host().path(cmd.Process.Pid, "ns", "cgroup"), func() error {
		c, err := FS{Proc: "/proc", Sys: "/sys"}.Cgroup(outer)
		if got := c.V1["freezer"].Path; got != dir {
			t.Errorf("got %q, want %q", got, dir)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCgroupMembers(t *testing.T) {
	for _, controller := range []string{"", "freezer"} {
		t.Run("hierarchy "+controller, func(t *testing.T) {
			dir := makeCgroup(t, controller, "members")
			below := makeDir(t, filepath.Join(dir, "below"))
			a, b := sleeper(t), sleeper(t)
			join(t, dir, b)
			join(t, below, a)
			want := []int{a, b}
			slices.Sort(want)
			got, err := Host().CgroupMembers(dir)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Error(err, diff)
			}
		})
	}
	if _, err := Host().CgroupMembers("/sys/fs/cgroup/none such"); !errors.Is(err, experiment.ErrGone) {
		t.Error("cgroup that does not exist:", err)
	}
}

func TestThreadedCgroupMembers(t *testing.T) {
	dir := makeCgroup(t, "", "threaded")
	below := makeDir(t, filepath.Join(dir, "below"))
	pid := sleeper(t)
	put(t, filepath.Join(below, "cgroup.type"), "threaded")
	join(t, dir, pid)
	put(t, filepath.Join(below, "cgroup.threads"), strconv.Itoa(pid))
	for _, d := range []string{dir, below} {
		if got, err := Host().CgroupMembers(d); err != nil || !slices.Equal(got, []int{pid}) {
			t.Error(d, got, err)
		}
	}
}

func target(t *testing.T, pids ...int) experiment.Target {
	t.Helper()
	got, err := Host().Target(pids...)
	if err != nil {
		t.Fatal(err)
	}
	got.Name = "test"
	return got
}

func TestOwnCgroup(t *testing.T) {
	for _, controller := range []string{"", "freezer"} {
		t.Run("hierarchy "+controller, func(t *testing.T) {
			fs := Host()
			dir := makeCgroup(t, controller, "own")
			below := makeDir(t, filepath.Join(dir, "below"))
			a, b := sleeper(t), sleeper(t)
			if _, _, ok := fs.OwnCgroup(target(t, a)); ok {
				t.Error("the cgroup that everybody is in is its own")
			}
			join(t, dir, a)
			got, name, ok := fs.OwnCgroup(target(t, a))
			if !ok || got.Path != dir || name != controller || got.Inode == 0 {
				t.Errorf("alone: %+v %q %v", got, name, ok)
			}
			reused := target(t, a)
			reused.PIDs[0].Start--
			if _, _, ok := fs.OwnCgroup(reused); ok {
				t.Error("another process of the same pid is taken for it")
			}
			other := target(t, a)
			other.Cgroup.V2.Inode++
			if other.Cgroup.V1 == nil {
				other.Cgroup.V1 = map[string]experiment.CgroupDir{}
			}
			other.Cgroup.V1["freezer"] = experiment.CgroupDir{Path: dir, Inode: 1}
			if _, _, ok := fs.OwnCgroup(other); ok {
				t.Error("another cgroup of the same path is taken for it")
			}
			if _, _, ok := fs.OwnCgroup(target(t, a, b)); ok {
				t.Error("one of two processes is elsewhere")
			}
			join(t, below, b)
			if _, _, ok := fs.OwnCgroup(target(t, a)); ok {
				t.Error("somebody else is in the subtree")
			}
			if got, _, ok := fs.OwnCgroup(target(t, a, b)); !ok || got.Path != dir {
				t.Error("both in the subtree:", got, ok)
			}
		})
	}
}
