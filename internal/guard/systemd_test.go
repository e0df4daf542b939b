package guard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

const systemd = "/lib/systemd/systemd"

// TestOutlivesItsUnit starts a real systemd as PID 1 of namespaces of its own,
// on an overlay of this root. A service there arms a guardian and dies, and
// systemd kills all that is left of the service's cgroup: the guardian stands
// in a scope of its own, and takes back.
func TestOutlivesItsUnit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces and mounts")
	}
	if _, err := os.Stat(systemd); err != nil {
		t.Skip("no systemd to start: ", err)
	}
	out := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Env = append(os.Environ(), "GUARD_TEST_SYSTEMD="+out)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
	}
	said, err := c.CombinedOutput()
	if _, setup := os.Stat(filepath.Join(out, "no-setup")); setup == nil {
		t.Skipf("this host does not let a systemd run in namespaces: %s", said)
	}
	job, _ := os.ReadFile(filepath.Join(out, "job"))
	if mark, _ := os.ReadFile(filepath.Join(out, "mark")); string(mark) != "runner-died" {
		t.Errorf("taken back by cause %q, want runner-died (%v)\n%s\n%s", mark, err, said, job)
	}
	if place, _ := os.ReadFile(filepath.Join(out, "place")); string(place) != "simian-guardian-abc234.scope" {
		t.Errorf("the guardian stands in %q, want a scope of its own\n%s\n%s", place, said, job)
	}
}

// becomeSystemd is PID 1 of the new namespaces: it makes a root of its own, and
// becomes systemd.
func becomeSystemd(out string) {
	if err := makeRoot(out); err != nil {
		_ = os.WriteFile(filepath.Join(out, "no-setup"), nil, 0o600)
		fmt.Println(err)
		os.Exit(1)
	}
	err := syscall.Exec(systemd, []string{systemd, "--system", "--unit=guard-test.service", "--show-status=no"}, []string{"container=lxc", "PATH=/usr/bin:/bin"})
	fmt.Println(err)
	os.Exit(1)
}

const unit = `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/guard-test/job
Environment=GUARD_TEST_JOB=/guard-test/out
StandardOutput=append:/guard-test/out/job
StandardError=append:/guard-test/out/job
ExecStopPost=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9; do test -e /guard-test/out/mark && break; sleep 0.2; done; systemctl exit 0 --force'
`

// makeRoot mounts an overlay of / with a /proc, /sys, /dev and /run of its own,
// and goes there.
func makeRoot(out string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	base := filepath.Join(out, "base")
	root := filepath.Join(base, "root")
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	mounts := []struct{ source, at, kind, options string }{
		{"tmpfs", base, "tmpfs", ""},
		{"overlay", root, "overlay", "lowerdir=/,upperdir=" + base + "/upper,workdir=" + base + "/work"},
		{"proc", root + "/proc", "proc", ""},
		{"sysfs", root + "/sys", "sysfs", ""},
		{"tmpfs", root + "/sys/fs/cgroup", "tmpfs", "mode=755"},
		{"cgroup2", root + "/sys/fs/cgroup/unified", "cgroup2", ""},
		{"cgroup", root + "/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd"},
		{"tmpfs", root + "/run", "tmpfs", "mode=755"},
		{"tmpfs", root + "/dev", "tmpfs", "mode=755"},
		{"/dev/null", root + "/dev/null", "", ""},
		{"/dev/urandom", root + "/dev/urandom", "", ""},
		{out, root + "/guard-test/out", "", ""},
		{exe, root + "/guard-test/job", "", ""},
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil { // version 2 alone
		mounts[4] = struct{ source, at, kind, options string }{"cgroup2", root + "/sys/fs/cgroup", "cgroup2", ""}
		mounts = append(mounts[:5], mounts[7:]...)
	}
	for _, m := range mounts {
		if err := mountAt(m.source, m.at, m.kind, m.options); err != nil {
			return err
		}
		if m.at == base {
			_ = os.Mkdir(base+"/upper", 0o755)
			_ = os.Mkdir(base+"/work", 0o755)
		}
	}
	units := filepath.Join(root, "etc/systemd/system")
	if err := os.MkdirAll(units, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(units, "guard-test.service"), []byte(unit), 0o600); err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	return unix.Chroot(".")
}

// mountAt mounts source, or binds it where it has no kind.
func mountAt(source, at, kind, options string) error {
	if kind == "" {
		info, err := os.Stat(source)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			_ = os.MkdirAll(filepath.Dir(at), 0o755)
			if err := os.WriteFile(at, nil, 0o600); err != nil {
				return err
			}
			return unix.Mount(source, at, "", unix.MS_BIND, "")
		}
	}
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	var flags uintptr
	if kind == "" {
		flags = unix.MS_BIND
	}
	if err := unix.Mount(source, at, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, at, err)
	}
	return nil
}

// job is the service: it arms a guardian, notes where it stands, and dies.
func job(out string) {
	a, err := testGuard(filepath.Join(out, "mark")).Arm(context.Background(), "abc234", proc.BootTime().Add(time.Hour))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", a.Mark().Process.PID))
	fmt.Println(a.Mark(), string(data), err)
	if strings.Contains(string(data), "/"+a.Mark().Place) {
		_ = os.WriteFile(filepath.Join(out, "place"), []byte(a.Mark().Place), 0o600)
	}
	kill(os.Getpid(), unix.SIGKILL)
}
