package op

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// fillPrey is a process in a mount namespace of its own.
func fillPrey(t testing.TB) experiment.ProcessID {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a mount namespace can be made by root only")
	}
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	return id
}

// TestFillNamed is a file system that has no files without a name. The runner
// dies, and another process removes the file: with the target, without it, and
// where there is no file any more.
func TestFillNamed(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	fillPrey(t) // or a skip
	must(t, unix.Mount("test", disk, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() { must(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	for name, end := range map[string]bool{"the target lives": false, "the target is gone": true} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(disk, "a", name)
			must(t, os.MkdirAll(dir, 0o700))
			cmd := exec.Command("sleep", "600")
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			must(t, cmd.Start())
			stop := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
			t.Cleanup(stop)
			id, err := host.Identify(cmd.Process.Pid)
			must(t, err)
			floor := int64(0)
			_, err = PlanFill(NewHost(host), Fill{Amount: Amount{Bytes: 4096}, Process: id, Path: dir}, &floor)
			if err == nil {
				t.Error("the host's too, and no floor is taken")
			}
			f := NewFill(NewHost(host), Fill{Amount: Amount{Bytes: 1 << 20}, Run: "abcd23", Process: id, Path: dir})
			_, err = f.look()
			must(t, err)
			f.nameless = func(int) (int, error) { return -1, unix.EOPNOTSUPP }
			must(t, f.Apply(t.Context()))
			file := filepath.Join(dir, f.Name())
			if st, err := os.Stat(file); err != nil || st.Size() != 1<<20 {
				t.Fatal(st, err)
			}
			if end {
				stop()
			}
			undo := f.Gone() // as another process has it
			undo.host = NewHost(host)
			if e, err := undo.Verify(t.Context()); err != nil || e.InForce {
				t.Errorf("%+v, %v", e, err)
			}
			must(t, undo.Apply(t.Context()))
			must(t, undo.Apply(t.Context()))
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Error("the file is there", err)
			}
			if e, err := undo.Verify(t.Context()); err != nil || !e.InForce {
				t.Errorf("%+v, %v", e, err)
			}
			if !end {
				if e, err := f.Verify(t.Context()); err != nil || e.InForce || e.Hint != "somebody has removed "+f.Name() {
					t.Errorf("%+v, %v", e, err)
				}
			}
			must(t, f.Gone().Apply(t.Context()))
		})
	}
}

// TestFillLevelInUse fills to a level, while the target writes between what is
// free is read and taken.
func TestFillLevelInUse(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	fillPrey(t) // or a skip
	must(t, unix.Mount("test", disk, "tmpfs", 0, "size=8m"))
	t.Cleanup(func() { must(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	self, err := host.Identify(os.Getpid())
	must(t, err)
	f := NewFill(NewHost(host), Fill{Amount: Amount{Percent: 100}, Run: "abcd23", Process: self, Path: disk})
	_, err = f.look()
	must(t, err)
	f.nameless = func(dir int) (int, error) {
		must(t, os.WriteFile(filepath.Join(disk, "grows"), make([]byte, 1<<20), 0o600))
		return unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	}
	must(t, f.Apply(t.Context()))
	if e, err := f.Verify(t.Context()); err != nil || !e.InForce {
		t.Errorf("%+v, %v", e, err)
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(disk, &st))
	if st.Bfree != 0 {
		t.Errorf("%d blocks are free", st.Bfree)
	}
	must(t, f.Gone().Apply(t.Context()))
}

// TestFillWants asks how much is taken.
func TestFillWants(t *testing.T) {
	t.Parallel()
	s := space{total: 1000, used: 400, free: 500, inodes: 100, freeInodes: 60}
	for _, c := range []struct {
		amount Amount
		want   int64
		note   bool
		err    bool
	}{
		{Amount{Bytes: 500}, 500, false, false},
		{Amount{Bytes: 500, Floor: 1}, 0, false, true},
		{Amount{Bytes: 1001}, 0, false, true},
		{Amount{Percent: 50}, 50, false, false},
		{Amount{Percent: 100}, 500, false, false},
		{Amount{Percent: 100, Floor: 100}, 400, true, false},
		{Amount{Percent: 40}, 0, false, false},
		{Amount{Percent: 90, Floor: 600}, 0, true, false},
		{Amount{Inodes: 60}, 60, false, false},
		{Amount{Inodes: 61}, 0, false, true},
		{Amount{InodesPercent: 50}, 10, false, false},
		{Amount{InodesPercent: 100, FloorInodes: 10}, 50, true, false},
	} {
		n, note, err := c.amount.Wants(s)
		if n != c.want || (note != "") != c.note || (err != nil) != c.err {
			t.Errorf("%+v: %d %q %v", c.amount, n, note, err)
		}
	}
	if _, _, err := (Amount{InodesPercent: 50}).Wants(space{total: 1}); err == nil {
		t.Error("a file system without a number of inodes")
	}
}

// TestFillWrites fills where nothing can be allocated.
func TestFillWrites(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "noise"))
	must(t, err)
	defer file.Close()
	must(t, write(t.Context(), file, 0, 3<<20+5))
	if st, err := file.Stat(); err != nil || st.Size() != 3<<20+5 {
		t.Error(st, err)
	}
}
