package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
)

var hows = []string{"cover", "unmount"}

// victims are what a mount is taken from, and its mount point there.
func victims(volume string) map[string]func(testing.TB) (experiment.Target, string) {
	return map[string]func(testing.TB) (experiment.Target, string){
		"raw": func(t testing.TB) (experiment.Target, string) { r := newRoom(t, "size=1m"); return r.Target, r.dir },
		"container": func(t testing.TB) (experiment.Target, string) {
			return newContainer(t, func(s *box.Spec) {
				if volume != "" {
					s.Mounts = []box.Mount{{Type: "bind", Source: volume, Target: "/data", Propagation: "rslave"}}
				}
			}), "/data"
		},
	}
}

// whole is all that a detach could change of a target, and on the host.
func whole(t testing.TB, target experiment.Target) string {
	t.Helper()
	lines := strings.Split(mounts(t, target.PIDs[0].PID), "\n")
	test, _, _ := strings.Cut(t.Name(), "/")
	lines = slices.DeleteFunc(lines, func(line string) bool { // of other tests, copied with the namespace; they go with their folders
		return strings.Contains(line, " /run/simian/mount-") || strings.Contains(line, " "+os.TempDir()+"/Test") && !strings.Contains(line, "/"+test)
	})
	slices.Sort(lines) // what was mounted last stands last
	return strings.Join(lines, "\n")
}

// kept lists what a run keeps on the host.
func kept(run string) (names []string) {
	names, _ = filepath.Glob("/run/simian/mount-" + run + "-*")
	list, _ := host.Mounts(os.Getpid())
	for _, m := range list {
		if strings.HasPrefix(m.Point, "/run/simian/mount-"+run+"-") {
			names = append(names, m.Point)
		}
	}
	return names
}

func TestDetachConformance(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for name, make := range victims("") {
		for _, how := range hows {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				h := op.NewHost(host)
				fault := &Detach{How: how, host: h}
				experimenttest.Fault(t, experimenttest.FaultCase{
					Fault: fault, Ops: h.Ops(),
					Target: func(t testing.TB) experiment.Target {
						target, dir := make(t)
						fault.Mount = dir
						return target
					},
					Snapshot: func(target experiment.Target) string { return whole(t, target) },
					Gone: func(t testing.TB, target experiment.Target) {
						must(t, unix.Kill(target.PIDs[0].PID, unix.SIGKILL))
						await(t, "its end", func() bool { return !host.Alive(target.PIDs[0]) })
					},
				})
			})
		}
	}
}

// TestDetachEffect looks at it as the target would: the files are gone, those
// that were open go on; another process, which knows the journal only, puts
// the very mount back.
func TestDetachEffect(t *testing.T) {
	t.Parallel()
	needRoot(t)
	volume := smallDisk(t, "tmpfs", "size=1m")
	for name, make := range victims(volume) {
		for _, how := range hows {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				target, dir := make(t)
				run := experiment.RunID("t" + fmt.Sprintf("%05d", target.PIDs[0].PID%100000))
				seen := inside(target.PIDs[0].PID, dir)
				must(t, os.WriteFile(filepath.Join(seen, "file"), []byte("data"), 0o600))
				open, err := os.Open(filepath.Join(seen, "file"))
				must(t, err)
				defer open.Close()
				before := whole(t, target)
				steps, err := (&Detach{Mount: dir, How: how, host: op.NewHost(host)}).Plan(t.Context(), run, target)
				must(t, err)
				must(t, steps[0].Do.Apply(t.Context()))
				e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
				if err != nil || !e.InForce || !strings.Contains(e.What, "files that were open go on") {
					t.Errorf("%+v, %v", e, err)
				}
				t.Log(e.What)
				if names, err := os.ReadDir(seen); err != nil || len(names) != 0 {
					t.Errorf("the target sees %v, %v", names, err)
				}
				if err := os.WriteFile(filepath.Join(seen, "new"), nil, 0o600); how == "cover" && !errors.Is(err, unix.EROFS) {
					t.Errorf("a cover takes a file: %v", err)
				}
				if data, err := io.ReadAll(open); err != nil || string(data) != "data" {
					t.Errorf("the open file gives %q, %v", data, err)
				}
				if n := len(kept(string(run))); (n > 0) != (how == "unmount") {
					t.Errorf("%d are kept", n)
				}
				undoElsewhere(t, steps)
				if data, err := os.ReadFile(filepath.Join(seen, "file")); err != nil || string(data) != "data" {
					t.Errorf("the file gives %q, %v", data, err)
				}
				if after := whole(t, target); after != before {
					t.Errorf("its mounts are\n%s\nwere\n%s", after, before)
				}
				if names := kept(string(run)); len(names) > 0 {
					t.Errorf("left on the host: %s", names)
				}
			})
		}
	}
}

// undoElsewhere takes steps back as a process does that has read the journal.
func undoElsewhere(t testing.TB, steps []experiment.Step) {
	t.Helper()
	codec := experiment.Codec{Ops: op.All(host)}
	e := experiment.Event{Kind: experiment.EventAnnounce}
	for i, s := range steps {
		e.Steps = append(e.Steps, experiment.PlannedStep{N: i + 1, Target: "t", Step: s})
	}
	line, err := codec.Marshal(&e)
	must(t, err)
	var again experiment.Event
	must(t, codec.Decoder()(line, &again))
	for _, s := range slices.Backward(again.Steps) {
		must(t, s.Undo.Apply(context.Background()))
	}
}

// TestDetachSuperseded has somebody mount another in the place of what was
// unmounted: theirs stays.
func TestDetachSuperseded(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m")
	steps, err := (&Detach{Mount: r.dir, How: "unmount", host: op.NewHost(host)}).Plan(t.Context(), "abcd24", r.Target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	r.do(func() error { return unix.Mount("theirs", r.dir, "tmpfs", 0, "") })
	var superseded *experiment.SupersededError
	if err := steps[0].Undo.Apply(t.Context()); !errors.As(err, &superseded) || superseded.Present != "tmpfs theirs" || superseded.Read != "tmpfs test" {
		t.Errorf("%v", err)
	}
	if names := kept("abcd24"); len(names) > 0 {
		t.Errorf("left on the host: %s", names)
	}
}

// TestDetachFolderGone has the target remove the folder below: the mount is
// kept until it is there again.
func TestDetachFolderGone(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m")
	steps, err := (&Detach{Mount: r.dir, How: "unmount", host: op.NewHost(host)}).Plan(t.Context(), "abcd25", r.Target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	must(t, os.Remove(r.path(r.dir)))
	if err := steps[0].Undo.Apply(t.Context()); err == nil || errors.Is(err, experiment.ErrGone) || !strings.Contains(err.Error(), "make the folder again in the target") {
		t.Error(err)
	}
	must(t, os.Mkdir(r.path(r.dir), 0o755))
	must(t, steps[0].Undo.Apply(t.Context()))
	if names := kept("abcd25"); len(names) > 0 || !strings.Contains(mounts(t, r.cmd.Process.Pid), r.dir) {
		t.Errorf("%s are left on the host; the target has\n%s", names, mounts(t, r.cmd.Process.Pid))
	}
}

// TestDetachFile takes a file that is mounted, as a secret is.
func TestDetachFile(t *testing.T) {
	t.Parallel()
	needRoot(t)
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("s"), 0o600))
	target := newContainer(t, func(s *box.Spec) {
		s.Mounts = append(s.Mounts, box.Mount{Type: "bind", Source: secret, Target: "/run/secret"})
	})
	seen := inside(target.PIDs[0].PID, "/run/secret")
	before := whole(t, target)
	_, err := (&Detach{Mount: "/run/secret", host: op.NewHost(host)}).Plan(t.Context(), "abcd26", target)
	if err == nil || !strings.Contains(err.Error(), "/run/secret is a file, which cannot be covered by a folder: say how: unmount") {
		t.Error(err)
	}
	steps, err := (&Detach{Mount: "/run/secret", How: "unmount", host: op.NewHost(host)}).Plan(t.Context(), "abcd26", target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	if data, err := os.ReadFile(seen); err != nil || len(data) != 0 {
		t.Errorf("%q, %v", data, err)
	}
	undoElsewhere(t, steps)
	if data, err := os.ReadFile(seen); err != nil || string(data) != "s" || whole(t, target) != before {
		t.Errorf("%q, %v; its mounts\n%s\nwere\n%s", data, err, whole(t, target), before)
	}
}

// TestDetachRefused is what must be found out before anything is touched.
func TestDetachRefused(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m")
	must(t, os.Mkdir(r.path(r.dir+"/below"), 0o700))
	r.mount(r.dir+"/below", "tmpfs", "")
	must(t, os.Mkdir(r.path(r.dir+"/shared"), 0o700))
	r.mount(r.dir+"/shared", "tmpfs", "")
	r.do(func() error { return unix.Mount("", r.dir+"/shared", "", unix.MS_SHARED, "") })
	must(t, os.Mkdir(r.path(r.dir+"/shared/in"), 0o700))
	r.mount(r.dir+"/shared/in", "tmpfs", "")
	must(t, os.Mkdir(r.path(r.dir+"/twice"), 0o700))
	r.mount(r.dir+"/twice", "tmpfs", "")
	r.mount(r.dir+"/twice", "tmpfs", "")
	must(t, os.Symlink(fmt.Sprintf("/proc/%d/root/dev", os.Getpid()), r.path(r.dir+"/out")))
	plain := newPrey(t).target(t)
	for _, c := range []struct {
		name   string
		target experiment.Target
		fault  Detach
		want   string
		is     error
	}{
		{"the root", r.Target, Detach{Mount: "/"}, "it is the root of the target", experiment.ErrProtected},
		{"proc", r.Target, Detach{Mount: "/proc"}, "/proc (proc) is a view of the kernel that the target, and an undo, need", experiment.ErrProtected},
		{"dev", r.Target, Detach{Mount: "/dev"}, "is a view of the kernel", experiment.ErrProtected},
		{"no mount point", r.Target, Detach{Mount: "/etc"}, "/etc is no mount point: it is in the mount at /", nil},
		{"no such folder", r.Target, Detach{Mount: "/nowhere"}, "no such file or directory", nil},
		{"out by a magic link", r.Target, Detach{Mount: r.dir + "/out"}, "it leads out by a magic link", nil},
		{"mounts below", r.Target, Detach{Mount: r.dir, How: "unmount"}, "is mounted below " + r.dir + ", and would go with it: unsupported (say how: cover", experiment.ErrUnsupported},
		{"shared cover", r.Target, Detach{Mount: r.dir + "/shared"}, "is shared with other mount namespaces (shared:", experiment.ErrUnsupported},
		{"shared parent", r.Target, Detach{Mount: r.dir + "/shared/in", How: "unmount"}, "it would be unmounted there too", experiment.ErrUnsupported},
		{"two at a place", r.Target, Detach{Mount: r.dir + "/twice", How: "unmount"}, "one over the other", experiment.ErrUnsupported},
		{"the host's mounts", plain, Detach{Mount: "/dev/shm"}, "its mounts are the host's: protected (give the target one of its own: launch it as a container of a lab, or start it by unshare -m)", experiment.ErrProtected},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fault.host = op.NewHost(host)
			before := whole(t, c.target)
			_, err := c.fault.Plan(t.Context(), "abcd27", c.target)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if after := whole(t, c.target); after != before {
				t.Error("something was touched")
			}
		})
	}
}

// TestDetachSubmounts covers a mount with others in it.
func TestDetachSubmounts(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m")
	must(t, os.Mkdir(r.path(r.dir+"/below"), 0o700))
	r.mount(r.dir+"/below", "tmpfs", "")
	must(t, os.WriteFile(r.path(r.dir+"/below/file"), nil, 0o600))
	steps, err := (&Detach{Mount: r.dir, host: op.NewHost(host)}).Plan(t.Context(), "abcd28", r.Target)
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	if _, err := os.Stat(r.path(r.dir + "/below/file")); !os.IsNotExist(err) {
		t.Error(err)
	}
	must(t, steps[0].Undo.Apply(t.Context()))
	if _, err := os.Stat(r.path(r.dir + "/below/file")); err != nil {
		t.Error(err)
	}
}

func TestDetachValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault Detach
		want  string
	}{
		{Detach{Mount: "/data"}, "<nil>"},
		{Detach{Mount: "/data", How: "unmount"}, "<nil>"},
		{Detach{}, "mount is missing: a mount point of the target, such as /data"},
		{Detach{Mount: "data"}, `mount: "data" is not absolute: give the path as the target sees it, such as /data`},
		{Detach{Mount: "/data", How: "pull"}, "how: unknown word \"pull\"\n        words: cover unmount"},
	} {
		if got := fmt.Sprint(c.fault.Validate()); got != c.want {
			t.Errorf("%+v: %s, want %s", c.fault, got, c.want)
		}
	}
}

// TestDetachPropagation puts a mount back with its propagation.
func TestDetachPropagation(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]uintptr{
		"shared": {unix.MS_SHARED}, "slave": {unix.MS_SHARED, 0, unix.MS_SLAVE}, "slave and shared": {unix.MS_SHARED, 0, unix.MS_SLAVE, unix.MS_SHARED},
		"unbindable": {unix.MS_UNBINDABLE}, "options": {unix.MS_REMOUNT | unix.MS_BIND | unix.MS_NOEXEC | unix.MS_NOATIME},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, "size=1m")
			for _, flag := range flags {
				r.do(func() error {
					if flag == 0 { // a peer, of which it can be the slave
						peer := t.TempDir()
						return unix.Mount(r.dir, peer, "", unix.MS_BIND, "")
					}
					return unix.Mount("", r.dir, "", flag, "")
				})
			}
			before := whole(t, r.Target)
			run := experiment.RunID("p" + fmt.Sprintf("%05d", r.PIDs[0].PID%100000))
			steps, err := (&Detach{Mount: r.dir, How: "unmount", host: op.NewHost(host)}).Plan(t.Context(), run, r.Target)
			if name == "unbindable" {
				if err == nil || !strings.Contains(err.Error(), "cannot be cloned") {
					t.Error(err)
				}
				return
			}
			must(t, err)
			must(t, steps[0].Do.Apply(t.Context()))
			undoElsewhere(t, steps)
			if after := whole(t, r.Target); after != before {
				t.Errorf("its mounts are\n%s\nwere\n%s", after, before)
			}
		})
	}
}
