package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
)

func space(t testing.TB, dir string) (free, inodes int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return -1, -1
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Ffree)
}

func TestFillConformance(t *testing.T) {
	t.Parallel()
	for name, amount := range map[string]Fill{
		"bytes":   {Bytes: 4 << 20},
		"percent": {Percent: 90},
		"inodes":  {Inodes: Inodes{Count: 20}},
		"share":   {Inodes: Inodes{Percent: 90}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := op.NewHost(host)
			var r *room
			fault := amount
			fault.host = h
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: &pathed{&fault, func() string { return r.dir }}, Ops: h.Ops(),
				Target: func(t testing.TB) experiment.Target {
					r = newRoom(t, "size=8m,nr_inodes=64")
					return r.Target
				},
				Snapshot: func(experiment.Target) string { return fmt.Sprint(space(t, r.path(r.dir))) },
				Gone:     func(testing.TB, experiment.Target) { r.end() },
			})
		})
	}
}

// TestFillEffect asks of the kernel, as the target would, whether space is
// left, and whether all of it comes back.
func TestFillEffect(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(testing.TB) (experiment.Target, string){
		"raw":       func(t testing.TB) (experiment.Target, string) { r := newRoom(t, "size=1m"); return r.Target, r.dir },
		"container": func(t testing.TB) (experiment.Target, string) { return newContainer(t, nil), "/data" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target, dir := make(t)
			seen := inside(target.PIDs[0].PID, dir)
			before, _ := space(t, seen)
			f := &Fill{Path: dir, Percent: 100, host: op.NewHost(host)}
			steps, err := f.Plan(t.Context(), "abcd23", target)
			must(t, err)
			must(t, steps[0].Do.Apply(t.Context()))
			if err := os.WriteFile(filepath.Join(seen, "more"), []byte("x"), 0o600); !errors.Is(err, unix.ENOSPC) {
				t.Errorf("a full file system takes a file: %v", err)
			}
			e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
			if want := dir + ": 0 B free of 1 MiB, was 1 MiB"; err != nil || !e.InForce || e.Felt != experiment.FeltYes || e.What != want {
				t.Errorf("%+v, %v; want %q", e, err, want)
			}
			if names, err := os.ReadDir(seen); err != nil || len(names) > 1 {
				t.Errorf("the target sees %v, %v", names, err)
			}
			_ = os.Remove(filepath.Join(seen, "more"))
			must(t, steps[0].Undo.Apply(t.Context()))
			if after, _ := space(t, seen); after != before {
				t.Errorf("%d bytes are free, were %d", after, before)
			}
		})
	}
}

// TestFillFreed frees what keeps a level while it is on.
func TestFillFreed(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m")
	old := filepath.Join(r.path(r.dir), "log")
	must(t, os.WriteFile(old, make([]byte, 256<<10), 0o600))
	f := &Fill{Path: r.dir, Percent: 95, host: op.NewHost(host)}
	steps, err := f.Plan(t.Context(), "abcd23", r.Target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	must(t, os.Remove(old))
	e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
	if err != nil || e.InForce || !strings.Contains(e.Hint, "somebody freed space") {
		t.Errorf("%+v, %v", e, err)
	}
	must(t, steps[0].Undo.Apply(t.Context()))
}

// TestFillRefused is what must be found out before anything is touched.
func TestFillRefused(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m,nr_inodes=50")
	seen := r.path(r.dir)
	must(t, os.WriteFile(filepath.Join(seen, "file"), nil, 0o600))
	must(t, os.Symlink(fmt.Sprintf("/proc/%d/root/tmp", os.Getpid()), filepath.Join(seen, "out")))
	must(t, os.Symlink("../../../../../../..", filepath.Join(seen, "up")))
	must(t, os.Mkdir(filepath.Join(seen, "ro"), 0o700))
	r.do(func() error {
		return unix.Mount("test", filepath.Join(r.dir, "ro"), "tmpfs", unix.MS_RDONLY, "size=1m")
	})
	floor := experiment.Size(1 << 20)
	half := experiment.Size(512 << 10)
	for _, c := range []struct {
		name string
		fill Fill
		want string
	}{
		{"larger than the disk", Fill{Bytes: 2 << 20}, "fill DIR: 2 MiB is more than the whole of it, 1 MiB"},
		{"larger than what is free", Fill{Bytes: 1 << 20, Floor: &half}, "can be had: 1 MiB free of 1 MiB, of which 512 KiB must stay free (floor)"},
		{"nothing above the floor", Fill{Percent: 90, Floor: &floor}, "of it is in use already"},
		{"more inodes than there are", Fill{Inodes: Inodes{Count: 100}}, "100 inodes are more than it has, 50"},
		{"more inodes than files", Fill{Inodes: Inodes{Count: 49}}, "49 inodes are asked for, and 45 can be had"},
		{"no such folder", Fill{Bytes: 1, Path: "/nowhere"}, "no such file or directory"},
		{"a file", Fill{Bytes: 1, Path: "DIR/file"}, "not a directory"},
		{"out by a magic link", Fill{Bytes: 1, Path: "DIR/out"}, "it leads out by a magic link"},
		{"proc", Fill{Bytes: 1, Path: "/proc"}, "proc is no file system that holds a target's files: protected"},
		{"read-only", Fill{Bytes: 1, Path: "DIR/ro"}, "it is mounted read-only (tmpfs test): unsupported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fill.host = op.NewHost(host)
			c.fill.Path = strings.Replace(c.fill.Path, "DIR", r.dir, 1)
			if c.fill.Path == "" {
				c.fill.Path = r.dir
			}
			_, err := c.fill.Plan(t.Context(), "abcd23", r.Target)
			if want := strings.Replace(c.want, "DIR", r.dir, 1); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
	low := experiment.Size(1 << 20)
	_, err := (&Fill{Bytes: 1, Floor: &low, host: op.NewHost(host)}).Plan(t.Context(), "abcd23", r.Target)
	if err == nil || !strings.Contains(err.Error(), "is the host's too: at least ") {
		t.Error(err)
	}
}

// TestFillFloor takes the room for a fill away between plan and strike: the
// floor is looked at again.
func TestFillFloor(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m")
	floor := experiment.Size(256 << 10)
	f := &Fill{Path: r.dir, Bytes: 512 << 10, Floor: &floor, host: op.NewHost(host)}
	steps, err := f.Plan(t.Context(), "abcd23", r.Target)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.path(r.dir), "data"), make([]byte, 512<<10), 0o600))
	before, _ := space(t, r.path(r.dir))
	err = steps[0].Do.Apply(t.Context())
	if err == nil || !strings.Contains(err.Error(), "252 KiB can be had: 512 KiB free of 1 MiB, of which 256 KiB must stay free (floor)") {
		t.Error(err)
	}
	if after, _ := space(t, r.path(r.dir)); after != before {
		t.Errorf("%d bytes are free, were %d", after, before)
	}
}

func TestFillValidate(t *testing.T) {
	t.Parallel()
	size := experiment.Size(1)
	for _, c := range []struct {
		fill Fill
		want string
	}{
		{Fill{Bytes: 1}, ""},
		{Fill{Percent: 95, Path: "/data", Floor: &size}, ""},
		{Fill{}, "how much is missing: bytes, percent or inodes"},
		{Fill{Bytes: 1, Percent: 3}, "give one of bytes, percent and inodes"},
		{Fill{Inodes: Inodes{Count: 3}, Floor: &size}, "floor: it is of bytes, and inodes are taken: 1 % of them stay free where the file system is the host's too"},
		{Fill{Bytes: 1, Path: "data"}, `path: "data" is not absolute: give the path as the target sees it, such as /data`},
	} {
		err := c.fill.Validate()
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
			t.Errorf("%+v: %v, want %q", c.fill, err, c.want)
		}
	}
}

func TestFillInodesField(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Inodes{`1000`: {Count: 1000}, `"95%"`: {Percent: 95}, `"12.5 %"`: {Percent: 12.5}} {
		var got Inodes
		if err := got.UnmarshalJSON([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{`0`, `-1`, `1.5`, `"95"`, `"101%"`, `"x%"`, `true`, `"0%"`} {
		if err := new(Inodes).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// TestFillOverlay fills the root of a container: the file system of its upper
// folder, here a small one.
func TestFillOverlay(t *testing.T) {
	t.Parallel()
	needRoot(t)
	disk := smallDisk(t, "tmpfs", "size=80m")
	target := newContainer(t, func(s *box.Spec) {
		s.Upper, s.Work = filepath.Join(disk, "upper"), filepath.Join(disk, "work")
		must(t, os.Mkdir(s.Upper, 0o755))
		must(t, os.Mkdir(s.Work, 0o755))
	})
	f := &Fill{Bytes: 8 << 20, host: op.NewHost(host)}
	steps, err := f.Plan(t.Context(), "abcd23", target)
	must(t, err)
	before, _ := space(t, disk)
	must(t, steps[0].Do.Apply(t.Context()))
	if now, _ := space(t, disk); before-now < 8<<20 {
		t.Errorf("%d bytes less are free", before-now)
	}
	must(t, steps[0].Undo.Apply(t.Context()))
	await(t, "space", func() bool { now, _ := space(t, disk); return now == before })
}

// smallDisk is a file system of the host's, mounted by this test.
func smallDisk(t testing.TB, kind, options string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("test", dir, kind, 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// TestFillLarge measures 10 GiB on the file system of temporary files, where
// there are so many.
func TestFillLarge(t *testing.T) {
	r := newRoom(t, "size=1m")
	dir := t.TempDir()
	if free, _ := space(t, dir); free < 20<<30 {
		t.Skip("less than 20 GiB are free")
	}
	f := &Fill{Path: dir, Bytes: 10 << 30, host: op.NewHost(host)}
	steps, err := f.Plan(t.Context(), "abcd23", r.Target)
	must(t, err)
	start := time.Now()
	must(t, steps[0].Do.Apply(t.Context()))
	took(t, "fill of 10 GiB", start)
	e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
	if err != nil || !e.InForce {
		t.Errorf("%+v, %v", e, err)
	}
	t.Log(e.What)
	start = time.Now()
	must(t, steps[0].Undo.Apply(t.Context()))
	took(t, "taken back", start)
}

// pathed gives a fault the path of the room that is there when it plans.
type pathed struct {
	fill *Fill
	path func() string
}

// Plan implements experiment.Fault.
func (p *pathed) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	p.fill.Path = p.path()
	return p.fill.Plan(ctx, run, t)
}
