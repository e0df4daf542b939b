package box

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is seen to testdata/*.golden")

// view is what does not differ from host to host of what a container sees.
type view struct {
	PID, UID, GID, Session int
	Groups                 []int
	Hostname, Cwd, Umask   string
	Env, FDs, Dev, Mounts  []string
	Status                 map[string]string
}

// mountLine takes from a line of mountinfo its root, point, flags, kind and
// options.
var mountLine = regexp.MustCompile(`^\d+ \d+ \S+ (\S+) (\S+) (\S+) (?:\S+ )*- (\S+) \S+ (\S+)$`)

func viewOf(r report) view {
	v := view{
		PID: r.PID, UID: r.UID, GID: r.GID, Session: r.Session, Groups: r.Groups,
		Hostname: r.Hostname, Cwd: r.Cwd, Umask: r.Umask, Env: r.Env, Dev: r.Dev, Status: map[string]string{},
	}
	for _, fd := range r.FDs {
		v.FDs = append(v.FDs, regexp.MustCompile(`\[\d+\]`).ReplaceAllString(fd, "[…]"))
	}
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn"} {
		v.Status[key] = r.Status[key]
	}
	for _, line := range r.Mounts {
		m := mountLine.FindStringSubmatch(line)
		if m == nil || hiddenMount(m[2]) {
			continue
		}
		options := regexp.MustCompile(`,(lowerdir|upperdir|workdir|uuid|inode64|nouserxattr|fsync|volatile)[^,]*`).ReplaceAllString(m[5], "")
		v.Mounts = append(v.Mounts, strings.Join([]string{m[2], m[4], m[1], m[3], options}, " "))
	}
	return v
}

// hiddenMount tells whether a mount point depends on the host.
func hiddenMount(point string) bool {
	if strings.HasPrefix(point, "/sys/fs/cgroup") || point == "/proc/sysrq-trigger" {
		return true
	}
	for _, h := range masked() {
		if point == h.path() {
			return true
		}
	}
	return false
}

func (h hidden) path() string {
	if h.sys {
		return "/sys/" + h.name
	}
	return "/proc/" + h.name
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestDefaultView(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t)
	s.Cgroup = newCgroup(t, Limits{})
	golden(t, "default", viewOf(see(t, l, s)))
}

// Every namespace but the user's, and the network's that none was given for,
// is another one.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t)
	s.Cgroup = newCgroup(t, Limits{})
	r := see(t, l, s)
	for _, kind := range []string{"mnt", "pid", "ipc", "uts", "cgroup", "net", "user"} {
		own, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		if shared := own == r.Namespaces[kind]; shared != (kind == "net" || kind == "user") {
			t.Errorf("%s: %s, the host's %s", kind, r.Namespaces[kind], own)
		}
	}
}

func TestMasked(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	var paths []string
	for _, h := range append(masked(), hidden{true, "firmware", true}) {
		paths = append(paths, h.path())
	}
	s := newSpec(t)
	s.Cgroup = newCgroup(t, Limits{})
	r := see(t, l, s, paths...)
	for path, mode := range r.Files {
		there := slices.ContainsFunc(r.Mounts, func(line string) bool { return strings.Contains(line, " "+path+" ") })
		if gone := strings.Contains(mode, "no such file"); gone == there {
			t.Errorf("%s: %s, covered: %t", path, mode, there)
		}
	}
}

func TestCgroupView(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "cat", "/proc/self/cgroup", "/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max")
	s.Cgroup = newCgroup(t, Limits{Pids: 77})
	out, exit := run(t, l, s)
	for line := range strings.Lines(out) {
		if strings.Count(line, ":") == 2 && !strings.HasSuffix(line, ":/\n") {
			t.Errorf("it sees the host's names: %s", line)
		}
	}
	if !exit.Success() || !strings.Contains(out, "77\n") {
		t.Errorf("%s: its own limit is not to be seen: %s", exit, out)
	}
}

func TestReadOnlyPaths(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	paths := []string{
		"/sys/kernel/x", "/sys/fs/cgroup/x", "/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity", "/sys/firmware/x",
	}
	s := newSpec(t, append([]string{"write"}, paths...)...)
	s.Cgroup = newCgroup(t, Limits{})
	out, _ := run(t, l, s)
	for line := range strings.Lines(out) {
		if !strings.HasSuffix(line, "read-only file system\n") && !strings.HasSuffix(line, "permission denied\n") {
			t.Error(line)
		}
	}
	if strings.Count(out, "\n") != len(paths) {
		t.Error(out)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "write", "/x", "/tmp/x", "/data/x", "/ro/x", "/dev/shm/x")
	data, ro := t.TempDir(), t.TempDir()
	s.ReadOnly = true
	s.Mounts = []Mount{
		{Type: "tmpfs", Target: "/tmp"},
		{Type: "bind", Source: data, Target: "/data"},
		{Type: "bind", Source: ro, Target: "/ro", ReadOnly: true},
	}
	out, _ := run(t, l, s)
	want := "/x open /x: read-only file system\n/tmp/x <nil>\n/data/x <nil>\n/ro/x open /ro/x: read-only file system\n/dev/shm/x <nil>\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(data, "x")); err != nil {
		t.Error(err)
	}
}

// A root that is a folder is used as it is, and nothing is made in it.
func TestPlainRoot(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t, "write", "/x")
	s.Upper, s.Work, s.ReadOnly = "", "", true
	for _, dir := range []string{"proc", "sys", "dev"} {
		if err := os.Mkdir(filepath.Join(s.Lower[0], dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, _ := run(t, l, s); out != "/x open /x: read-only file system\n" {
		t.Error(out)
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSpec(t)
	s.Mounts = []Mount{
		{Type: "bind", Source: file, Target: "/etc/made/file"},
		{Type: "bind", Source: dir, Target: "/a/b/c"},
		{Type: "tmpfs", Target: "/small", SizeBytes: 1 << 20, Mode: 0o700, Options: []string{"exec", "uid=5", "gid=6"}},
		{Type: "tmpfs", Target: "/a/b/c/.."},
		{Type: "tmpfs", Target: "/dev/shm", SizeBytes: 4096},
	}
	r := see(t, l, s, "/etc/made/file", "/small", "/a/b")
	want := map[string]string{"/etc/made/file": "-rw-r--r-- 0:0", "/small": "drwx------ 5:6", "/a/b": "dtrwxrwxrwx 0:0"}
	if diff := cmp.Diff(want, r.Files); diff != "" {
		t.Error(diff)
	}
	flags := map[string]string{}
	for _, line := range r.Mounts {
		if m := mountLine.FindStringSubmatch(line); m != nil {
			flags[m[2]] = m[3] // the last is the uppermost
		}
	}
	if flags["/small"] != "rw,nosuid,nodev,relatime" || flags["/a/b"] != "rw,nosuid,nodev,noexec,relatime" {
		t.Error(flags)
	}
}
