package chaos

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/seccomp"
)

// room is a process in a mount namespace of its own, with a tmpfs at dir.
type room struct {
	t   testing.TB
	cmd *exec.Cmd
	dir string
	experiment.Target
}

// newRoom makes a room; its tmpfs has these options.
func newRoom(t testing.TB, options string) *room {
	t.Helper()
	needRoot(t)
	r := &room{t: t, cmd: exec.Command("sleep", "600"), dir: t.TempDir()}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	must(t, r.cmd.Start())
	t.Cleanup(r.end)
	r.Target = targetOf(t, "web", r.cmd.Process.Pid)
	r.mount(r.dir, "tmpfs", options)
	return r
}

func (r *room) end() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// do runs fn in its mount namespace.
func (r *room) do(fn func() error) {
	r.t.Helper()
	must(r.t, proc.Do(fmt.Sprintf("/proc/%d/ns/mnt", r.cmd.Process.Pid), fn))
}

func (r *room) mount(dir, kind, options string) {
	r.t.Helper()
	r.do(func() error { return unix.Mount("test", dir, kind, 0, options) })
}

// path is where this process sees what the room does.
func (r *room) path(name string) string { return inside(r.cmd.Process.Pid, name) }

func inside(pid int, name string) string { return fmt.Sprintf("/proc/%d/root%s", pid, name) }

// mounts are the lines of its mountinfo without their ids.
func mounts(t testing.TB, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return "it has ended"
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		words := strings.SplitN(line, " ", 3)
		lines = append(lines, words[2])
	}
	return strings.Join(lines, "")
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces and mounts can be made by root only")
	}
}

func targetOf(t testing.TB, name string, pids ...int) experiment.Target {
	t.Helper()
	target, err := host.Target(pids...)
	must(t, err)
	target.Kind, target.Name, target.ID = "process", name, target.PIDs[0].Handle()
	return target
}

// busybox is a program that a container can be made of.
func busybox(t testing.TB) string {
	t.Helper()
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if f, err := os.Stat(path); err == nil && f.Mode().IsRegular() {
			return path
		}
	}
	t.Skip("there is no busybox to make a container of")
	return ""
}

var nextContainer atomic.Int64

// newContainer launches a container of busybox that does nothing.
func newContainer(t testing.TB, change func(*box.Spec)) experiment.Target {
	t.Helper()
	needRoot(t)
	launcher, err := box.NewLauncher(host)
	must(t, err)
	t.Cleanup(func() { must(t, launcher.Close()) })
	name := fmt.Sprintf("simian-chaos%d.%d/web-1", os.Getpid(), nextContainer.Add(1))
	cgroup, err := box.NewCgroup(host, name, box.Limits{MemoryBytes: 64 << 20, MemorySwapBytes: 64 << 20, Pids: 32})
	must(t, err)
	filter, err := seccomp.Default(box.DefaultCaps())
	must(t, err)
	dir := t.TempDir()
	spec := &box.Spec{
		Name: "web-1", Hostname: "web", Args: []string{"/bin/busybox", "sleep", "600"}, Env: []string{"MODE=test", "PATH=/bin"},
		Lower: []string{layer(t)}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Cgroup: cgroup, Caps: box.DefaultCaps(), Seccomp: filter, NoNewPrivs: true,
		Mounts: []box.Mount{{Type: "tmpfs", Target: "/data", SizeBytes: 1 << 20}},
	}
	must(t, os.Mkdir(spec.Upper, 0o755))
	must(t, os.Mkdir(spec.Work, 0o755))
	if change != nil {
		change(spec)
	}
	p, err := launcher.Start(t.Context(), spec, box.Stdio{})
	must(t, err)
	t.Cleanup(func() {
		_ = p.Kill()
		p.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		must(t, box.KillCgroup(ctx, host, filepath.Dir(name)))
		must(t, box.RemoveCgroup(ctx, host, filepath.Dir(name)))
	})
	await(t, "busybox", func() bool {
		comm, err := host.Comm(p.Workload().PID)
		return err == nil && comm == "busybox"
	})
	if spec.Init {
		return targetOf(t, "web-1", p.ID().PID, p.Workload().PID)
	}
	return targetOf(t, "web-1", p.ID().PID)
}

// layer is a root of busybox, with its commands.
func layer(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "tmp"), 0o1777))
	from, err := os.Open(busybox(t))
	must(t, err)
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, "bin/busybox"), os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(to, from)
	must(t, err)
	must(t, to.Close())
	for _, name := range []string{"sh", "cat", "id", "sleep", "ls", "touch", "hostname", "env", "setsid", "rm", "true", "unshare"} {
		must(t, os.Symlink("busybox", filepath.Join(dir, "bin", name)))
	}
	return dir
}

// took says how long something took.
func took(t testing.TB, what string, start time.Time) {
	t.Helper()
	t.Logf("%s: %s", what, time.Since(start))
}

// TestGoldenFiles writes down what is planned for files and commands.
func TestGoldenFiles(t *testing.T) {
	t.Parallel()
	r := newRoom(t, "size=1m,nr_inodes=100")
	h := op.NewHost(host)
	floor := experiment.Size(64 << 10)
	for name, fault := range map[string]experiment.Fault{
		"fill-bytes":     &Fill{Path: r.dir, Bytes: 512 << 10, Floor: &floor, host: h},
		"fill-percent":   &Fill{Path: r.dir, Percent: 95, host: h},
		"fill-inodes":    &Fill{Path: r.dir, Inodes: Inodes{Percent: 95}, host: h},
		"detach-cover":   &Detach{Mount: r.dir, host: h},
		"detach-unmount": &Detach{Mount: r.dir, How: "unmount", host: h},
		"exec":           &Exec{Command: []string{"sh", "-c", "secret"}, Undo: []string{"true"}, host: h},
		"exec-beside":    &Exec{Command: []string{"true"}, Where: op.Beside, Timeout: experiment.Duration(9 * time.Second), host: h},
	} {
		steps, err := fault.Plan(t.Context(), "abcd23", r.Target)
		must(t, err)
		text := strings.NewReplacer(
			r.dir, "/data", r.PIDs[0].String(), "pid 812", r.PIDs[0].Handle(), "process:812:99123", fmt.Sprint(r.Mount.Inode), "4026531841",
		).Replace(describe(steps))
		text = regexp.MustCompile(`\b0:\d+\b`).ReplaceAllString(text, "0:31")
		text = regexp.MustCompile(`abcd23-[0-9a-f]{8}`).ReplaceAllString(text, "abcd23-01234567")
		text = regexp.MustCompile(`(4026531841|99123):[0-9a-f]+\b`).ReplaceAllString(text, "$1:77")
		golden(t, name, text)
	}
}
