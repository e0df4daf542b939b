package box

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What an image says leads nowhere but into the container.
func TestHostileImage(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	outside := t.TempDir() // whatever is written to it was let out
	if err := os.Mkdir(filepath.Join(outside, "keep"), 0o755); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	for name, c := range map[string]struct {
		links map[string]string
		spec  func(*Spec)
		fails string // "" for what works inside
	}{
		"proc is a link": {map[string]string{"proc": outside}, nil, "mount /proc: too many levels of symbolic links"},
		"sys is a link":  {map[string]string{"sys": up + outside}, nil, "mount /sys: too many levels of symbolic links"},
		"dev is a link":  {map[string]string{"dev": outside}, nil, "mount /dev: too many levels of symbolic links"},
		"a mount point is a link out": {
			map[string]string{"data": up + outside + "/keep"},
			func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/data"}} }, "mount tmpfs /data: file exists",
		},
		"above a mount point is a link out": {
			map[string]string{"data": up + outside},
			func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/data/new"}} }, "mount tmpfs /data/new: file exists",
		},
		"a mount point is a link through proc": {
			map[string]string{"data": "/proc/1/root" + outside},
			func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/data/x"}} }, "mount tmpfs /data/x: file exists",
		},
		"a mount point is a link to an open file": {
			map[string]string{"data": "/dev/fd/1"},
			func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/data"}} }, "mount tmpfs /data: file exists",
		},
		"a link inside": {
			map[string]string{"data": "/srv/data", "srv": "dev/shm"},
			func(s *Spec) { s.Mounts = []Mount{{Type: "tmpfs", Target: "/dev/shm/data"}} }, "",
		},
		"the working directory is a link out": {
			map[string]string{"work": outside}, func(s *Spec) { s.Dir = "/work/x" }, "enter working directory /work/x: file exists",
		},
		"etc is a link out": {
			map[string]string{"etc": up + "run/../etc"}, func(s *Spec) { s.User = "daemon" }, `user "daemon" is not in the container's /etc/passwd`,
		},
		"etc is a link to itself": {
			map[string]string{"etc": up + "etc"}, func(s *Spec) { s.User = "daemon" }, "read the container's /etc/passwd: too many levels of symbolic links",
		},
		"passwd is a link through proc": {
			map[string]string{"etc/passwd": "/proc/1/root/etc/passwd"},
			func(s *Spec) { s.User = "daemon" },
			"read the container's /etc/passwd: too many levels of symbolic links",
		},
		"passwd is a device": {
			map[string]string{"etc/passwd": "/dev/zero"}, func(s *Spec) { s.User = "daemon" }, "read the container's /etc/passwd: it is no regular file",
		},
		"the command is a link out": {map[string]string{"run": outside + "/keep"}, func(s *Spec) { s.Args = []string{"/run"} }, `exec: "/run": no such file or directory`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpec(t)
			for at, to := range c.links {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(s.Lower[0], at)), 0o755); err != nil {
					t.Fatal(err)
				}
				symlink(t, s, at, to)
			}
			if c.spec != nil {
				c.spec(s)
			}
			p, err := l.Start(context.Background(), s, Stdio{})
			if err == nil {
				p.Wait()
				if c.fails != "" {
					t.Errorf("it was launched, want %s", c.fails)
				}
			} else if err.Error() != "launch web-1: "+c.fails {
				t.Errorf("%v\nwant launch web-1: %s", err, c.fails)
			}
			if left, _ := filepath.Glob(outside + "/*"); len(left) != 1 {
				t.Errorf("it got out: %s", left)
			}
		})
	}
}
