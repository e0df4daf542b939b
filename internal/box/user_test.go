package box

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

func TestLookUp(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nweb:x:100:101::/srv:\nodd:x:notanumber:1::/:\nshort\n7:x:77:77::/seven:\n",
		"/etc/group":  "root:x:0:\nweb:x:101:\nlog:x:102:root,web\nbin:x:1:web\nodd:x:-1:web\n",
	}
	there := func(path string) (io.ReadCloser, error) {
		if text, ok := files[path]; ok {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return nil, unix.ENOENT
	}
	none := func(string) (io.ReadCloser, error) { return nil, unix.ENOENT }
	for name, c := range map[string]struct {
		spec  string
		files open
		want  user
		err   string
	}{
		"root":               {"", there, user{groups: []uint32{102}, home: "/root"}, ""},
		"name":               {"web", there, user{100, 101, []uint32{102, 1}, "/srv"}, ""},
		"number":             {"100", there, user{100, 101, []uint32{102, 1}, "/srv"}, ""},
		"unknown number":     {"12345", there, user{12345, 0, nil, "/"}, ""},
		"name and group":     {"web:log", there, user{100, 102, nil, "/srv"}, ""},
		"number and number":  {"5:6", there, user{5, 6, nil, "/"}, ""},
		"group of root":      {":log", there, user{0, 102, nil, "/root"}, ""},
		"no files":           {"5:6", none, user{5, 6, nil, "/"}, ""},
		"root, no files":     {"", none, user{home: "/"}, ""},
		"unknown":            {"bob", there, user{}, `user "bob" is not in the container's /etc/passwd`},
		"unknown group":      {"web:staff", there, user{}, `group "staff" is not in the container's /etc/group`},
		"entry of no number": {"odd", there, user{}, `user "odd" is not in the container's /etc/passwd`},
		"name of digits":     {"7", there, user{77, 77, nil, "/seven"}, ""},
		"too high":           {"4294967295", there, user{}, `user "4294967295" is not in the container's /etc/passwd`},
		"unknown, no files":  {"web", none, user{}, `user "web" is not in the container's /etc/passwd`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := lookUp(c.spec, c.files)
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(user{})); diff != "" && err == nil {
				t.Error(diff)
			}
			if (err != nil || c.err != "") && (err == nil || err.Error() != c.err) {
				t.Errorf("%v, want %s", err, c.err)
			}
		})
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	s := newSpec(t)
	s.Lower = []string{rootfs(t, map[string]string{
		"etc/passwd": "web:x:100:101::/srv/web:\n", "etc/group": "web:x:101:\nlog:x:102:web\n",
	})}
	s.User, s.Dir = "web", "/made/here"
	s.Ulimits = []Ulimit{{"nofile", 50, 60}, {"core", 0, -1}}
	s.Sysctls = map[string]string{"kernel.shmmax": "12345", "fs.mqueue.msg_max": "7"}
	r := see(t, l, s, "/made/here")
	got := map[string]any{
		"ids": []int{r.UID, r.GID}, "groups": r.Groups, "cwd": r.Cwd, "home": r.Env[len(r.Env)-1], "umask": r.Umask,
		"caps": r.Status["CapEff"] + r.Status["CapPrm"] + r.Status["CapAmb"], "bound": r.Status["CapBnd"], "dir": r.Files["/made/here"],
	}
	want := map[string]any{
		"ids": []int{100, 101}, "groups": []int{102}, "cwd": "/made/here", "home": "HOME=/srv/web", "umask": "0022",
		"caps": strings.Repeat("0", 48), "bound": "00000000a80425fb", "dir": "drwxr-xr-x 0:0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.Args = []string{"/inside", "cat", "/proc/sys/kernel/shmmax", "/proc/sys/fs/mqueue/msg_max"}
	if out, _ := run(t, l, s); out != "12345\n7\n" {
		t.Error(out)
	}
	if limits := strings.Join(r.Limits, "\n"); !strings.Contains(limits, "60                   files") {
		t.Error(limits)
	}
}

// A container's root is nobody in particular on the host.
func TestUserNS(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	for name, init := range map[string]bool{"PID 1": false, "init": true} {
		t.Run(name, func(t *testing.T) {
			volume := t.TempDir()
			s := newSpec(t, "write", "/x", "/data/x", "/dev/shm/x", "/tmp/x", "/proc/sys/kernel/hostname")
			s.UserNS, s.Cgroup, s.Init, s.ShmBytes = &IDMap{HostID: 100000, Size: 65536}, newCgroup(t, Limits{}), init, 1<<20
			s.Mounts = []Mount{{Type: "bind", Source: volume, Target: "/data"}, {Type: "tmpfs", Target: "/tmp"}}
			out, _ := run(t, l, s)
			if strings.Count(out, "<nil>") != 4 {
				t.Error(out)
			}
			for _, path := range []string{s.Upper + "/x", volume + "/x", s.Upper + "/proc"} {
				if info, err := os.Stat(path); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
					t.Errorf("%s: %v, %v", path, info, err)
				}
			}
			s.Args = []string{"/inside", "sleep"}
			p, _ := start(t, l, s)
			for _, id := range []experiment.ProcessID{p.ID(), p.Workload()} {
				if uid, err := proc.Host().UID(id.PID); uid != 100000 || err != nil {
					t.Errorf("%s is user %d of the host, %v", id, uid, err)
				}
			}
			more, exit := execute(t, l, p, &ExecSpec{Args: []string{"/inside", "see", "/inside", "/dev", "/data", "/"}, Caps: DefaultCaps(), NoNewPrivs: true}, nil)
			var r report
			if err := json.Unmarshal([]byte(more), &r); err != nil || !exit.Success() {
				t.Fatal(err, exit, more)
			}
			own, _ := os.Readlink("/proc/self/ns/user")
			if r.UID != 0 || r.Namespaces["user"] == own || r.Status["CapEff"] != "00000000a80425fb" {
				t.Errorf("%d %s %s", r.UID, r.Namespaces["user"], r.Status["CapEff"])
			}
			for path, mode := range r.Files {
				if !strings.HasSuffix(mode, " 0:0") {
					t.Errorf("%s: %s", path, mode)
				}
			}
		})
	}
}
