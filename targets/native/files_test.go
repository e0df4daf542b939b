package native

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEnvironmentInside(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Env, web.Hostname, web.ExtraHosts, web.User = []string{"A=1", "B=two words"}, "shop", []string{"db.example 10.1.2.3"}, "app"
	web.Replicas = 2
	s := up(t, web)
	out, _ := s.exec("web-2", "env")
	for _, want := range []string{"A=1\n", "B=two words\n", "HOSTNAME=shop\n", "HOME=/home/app\n", "PATH=/usr/local/sbin:"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, _ = s.exec("web-2", "head", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/proc/sys/kernel/hostname")
	address := s.box("web-2").Address["default"].String()
	for _, want := range []string{"127.0.0.1 localhost\n", address + " shop\n", "10.1.2.3 db.example\n", "\nshop\n", "nameserver 10.", "shop\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out, _ := s.exec("web-1", "lookup", "db.example"); out != "10.1.2.3\n" {
		t.Errorf("%q", out)
	}
}

// TestReadOnlyRoot has the files of the network in it nevertheless.
func TestReadOnlyRoot(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.ReadOnly = true
	web.Mounts = []Mount{{Type: "tmpfs", Target: "/run"}}
	s := up(t, web)
	if out, exit := s.exec("web-1", "write", "/etc/passwd", "x"); exit.Success() || !strings.Contains(out, "read-only") {
		t.Errorf("%s: %q", exit, out)
	}
	if out, exit := s.exec("web-1", "write", "/run/x", "x"); !exit.Success() {
		t.Errorf("%s: %q", exit, out)
	}
	if out, exit := s.exec("web-1", "head", "/etc/hosts"); !exit.Success() || !strings.Contains(out, "web-1") {
		t.Errorf("%s: %q", exit, out)
	}
}

// TestVolumes shares one, fills it from the image, and keeps it over a
// restart.
func TestVolumes(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	data := filepath.Join(web.Rootfs, "srv/data")
	must(t, os.MkdirAll(data+"/sub", 0o750))
	must(t, os.WriteFile(data+"/sub/file", []byte("of the image"), 0o640))
	must(t, os.Symlink("sub/file", data+"/link"))
	must(t, os.Chown(data, 1000, 1001))
	must(t, os.Chown(data+"/sub/file", 1000, 1000))
	must(t, unix.Chmod(data, 0o2770))
	web.Mounts = []Mount{
		{Type: "volume", Source: "data", Target: "/srv/data"},
		{Type: "volume", Source: "data.next", Target: "/next"},
		{Type: "volume", Target: "/own"},
		{Type: "tmpfs", Target: "/tmp/x", SizeBytes: 1 << 20, Mode: 0o700},
	}
	web.Replicas, web.Restart = 2, Restart{Policy: "always", Delay: 1}
	other := newService(t, "other", "sleep")
	other.Mounts = []Mount{{Type: "volume", Source: "data", Target: "/theirs", ReadOnly: true}}
	p := project(web, other)
	p.Volumes = []string{"data", "data.next"}
	s := upAll(t, p)
	out, _ := s.exec("web-1", "stat", "/srv/data", "/srv/data/sub/file", "/srv/data/link", "/tmp/x")
	if want := "/srv/data 1000:1001 2770\n/srv/data/sub/file 1000:1000 640\n/srv/data/link 0:0 777\n/tmp/x 0:0 700\n"; out != want {
		t.Errorf("%s", out)
	}
	s.exec("web-1", "write", "/srv/data/new", "written")
	s.exec("web-1", "write", "/own/new", "mine")
	s.exec("web-1", "write", "/tmp/x/new", "soon gone")
	must(t, unix.Kill(s.box("web-1").Process.PID, unix.SIGKILL))
	s.until("web-1", "is started again", func(b Box) bool { return b.Starts == 2 && b.Process.PID != 0 })
	for _, c := range []struct{ name, path, want string }{
		{"web-1", "/srv/data/new", "written"},
		{"web-2", "/srv/data/new", "written"},
		{"other-1", "/theirs/new", "written"},
		{"other-1", "/theirs/link", "of the image"},
		{"web-1", "/own/new", "mine"},
	} {
		if out, exit := s.exec(c.name, "head", c.path); out != c.want || !exit.Success() {
			t.Errorf("%s of %s: %q, want %q", c.path, c.name, out, c.want)
		}
	}
	for _, c := range []struct{ name, path string }{{"web-2", "/own/new"}, {"web-1", "/tmp/x/new"}, {"web-1", "/next/new"}, {"web-1", "/next/sub"}} {
		if out, exit := s.exec(c.name, "there", c.path); exit.Success() {
			t.Errorf("%s is in %s: %q", c.path, c.name, out)
		}
	}
	if out, exit := s.exec("other-1", "write", "/theirs/x", "x"); exit.Success() || !strings.Contains(out, "read-only") {
		t.Errorf("%s: %q", exit, out)
	}
}

func TestBinds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/file", []byte("of the host"), 0o644))
	web := newService(t, "web", "sleep")
	web.Mounts = []Mount{
		{Type: "bind", Source: dir, Target: "/data"},
		{Type: "bind", Source: dir + "/file", Target: "/etc/config", ReadOnly: true},
		{Type: "bind", Source: dir + "/made/here", Target: "/made", Create: true},
	}
	s := up(t, web)
	if out, _ := s.exec("web-1", "head", "/etc/config", "/data/file"); out != "of the hostof the host" {
		t.Errorf("%q", out)
	}
	if out, exit := s.exec("web-1", "write", "/etc/config", "x"); exit.Success() || !strings.Contains(out, "read-only") {
		t.Errorf("%s: %q", exit, out)
	}
	s.exec("web-1", "write", "/data/new", "by the container")
	s.exec("web-1", "write", "/made/new", "too")
	s.down()
	for path, want := range map[string]string{"file": "of the host", "new": "by the container", "made/here/new": "too"} {
		if data, err := os.ReadFile(filepath.Join(dir, path)); string(data) != want || err != nil {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
}

// TestRemovalFollowsNoLink removes a lab's folder with what its containers
// have put into it.
func TestRemovalFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/precious", nil, 0o644))
	s := up(t, newService(t, "web", "sleep"))
	upper := s.byName["web-1"].spec.Upper
	must(t, os.Symlink(dir, upper+"/link"))
	must(t, os.Mkdir(upper+"/locked", 0))
	s.down()
	if _, err := os.Stat(dir + "/precious"); err != nil {
		t.Error(err)
	}
	for _, path := range []string{dir, "labs/x", "/", "/labs", filepath.Join(dir, "labs/x/..")} {
		if err := (&RemoveFolder{Path: path}).Apply(t.Context()); err == nil {
			t.Errorf("%s is removed", path)
		}
	}
}
