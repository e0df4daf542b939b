package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/seccomp"
)

func TestSimian(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
	img := image(t)
	holdSimian(t, "testdata/simian.golden", attackWith(t, newSimian(t, img), img))
}

// holdSimian allows nothing bad, whatever the golden file says.
func holdSimian(t *testing.T, file string, lines []string) {
	t.Helper()
	for _, line := range lines {
		if strings.Contains(line, "bad") {
			t.Errorf("it should not be able to: %s", line)
		}
	}
	holdGolden(t, file, lines)
}

// TestSimianInit has a reaper of Simian's as PID 1, which is one more thing to
// attack.
func TestSimianInit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
	w := newWorld(t)
	r, err := newSimian(t, image(t)).start(t, container{
		args: []string{"/hostile", "attempts"}, env: w.env(), vol: w.volume, init: true, memory: enough, pids: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	out, end := r.wait()
	if end != "exit 0" {
		t.Errorf("it ended with %s", end)
	}
	w.unharmed(t)
	holdSimian(t, "testdata/simian-init.golden", strings.Split(strings.TrimSpace(out), "\n"))
}

// TestSimianExec makes the attempts from a process that was started in a
// container from outside.
func TestSimianExec(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
	w := newWorld(t)
	s := newSimian(t, image(t))
	r, err := s.start(t, container{args: []string{"/hostile", "echo"}, in: true, vol: w.volume, memory: enough, pids: 64})
	if err != nil {
		t.Fatal(err)
	}
	further := &simianContainer{T: t}
	_, theirs := further.pipes(false)
	further.process, err = s.Exec(t.Context(), r.(*simianContainer).process.ID(), &box.ExecSpec{
		Args: []string{"/hostile", "attempts"}, Env: w.env(), Caps: box.DefaultCaps(), Seccomp: s.filter, NoNewPrivs: true,
	}, box.Stdio{Out: theirs, Err: theirs})
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, end := further.wait()
	if end != "exit 0" {
		t.Errorf("it ended with %s", end)
	}
	w.unharmed(t)
	if got := r.ask("still there?"); got != "echo still there?" {
		t.Errorf("PID 1 says %q", got)
	}
	holdSimian(t, "testdata/simian-exec.golden", strings.Split(strings.TrimSpace(out), "\n"))
}

// simian launches as a lab does, with all defaults.
type simian struct {
	*box.Launcher
	image  string
	filter []unix.SockFilter
	n      int
}

func newSimian(t *testing.T, img string) *simian {
	t.Helper()
	launcher, err := box.NewLauncher(proc.Host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = launcher.Close() })
	filter, err := seccomp.Default(box.DefaultCaps())
	if err != nil {
		t.Fatal(err)
	}
	return &simian{Launcher: launcher, image: img, filter: filter}
}

func (s *simian) start(t *testing.T, c container) (running, error) {
	t.Helper()
	s.n++
	name := fmt.Sprintf("simian-hostile%d.%d/c-1", os.Getpid(), s.n)
	cgroup, err := box.NewCgroup(proc.Host(), name, box.Limits{MemoryBytes: c.memory, MemorySwapBytes: c.memory, Pids: c.pids})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, filepath.Dir(name)) })
	net := netNamespace(t)
	defer net.Close()
	spec := s.spec(t, c)
	spec.Net, spec.Cgroup = net, cgroup
	return s.launch(t, spec, c.in)
}

func removeCgroup(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := box.KillCgroup(ctx, proc.Host(), name); err != nil {
		t.Error(err)
	}
	if err := box.RemoveCgroup(ctx, proc.Host(), name); err != nil {
		t.Error(err)
	}
}

func (s *simian) spec(t *testing.T, c container) *box.Spec {
	t.Helper()
	dir := t.TempDir()
	spec := &box.Spec{
		Name: "hostile-1", Hostname: "hostile-1", Args: c.args, Env: append([]string{"HOSTNAME=hostile-1"}, c.env...), Dir: c.dir,
		Lower: []string{s.image}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Mounts: append(s.files(t, dir), box.Mount{Type: "tmpfs", Target: "/scratch", SizeBytes: c.scratch}),
		Caps:   box.DefaultCaps(), Seccomp: s.filter, NoNewPrivs: true, Init: c.init,
	}
	if c.root != "" {
		spec.Lower = []string{c.root}
	}
	if c.vol != "" {
		spec.Mounts = append(spec.Mounts, box.Mount{Type: "bind", Source: c.vol, Target: volume, Recursive: true})
	}
	if c.files != 0 {
		spec.Ulimits = []box.Ulimit{{Name: "nofile", Soft: c.files, Hard: c.files}}
	}
	for _, d := range []string{spec.Upper, spec.Work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return spec
}

// files are those of the network, which a lab writes for each container.
func (s *simian) files(t *testing.T, dir string) (mounts []box.Mount) {
	t.Helper()
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, box.Mount{Type: "bind", Source: file, Target: "/etc/" + name})
	}
	return mounts
}

func (s *simian) launch(t *testing.T, spec *box.Spec, in bool) (running, error) {
	t.Helper()
	r := &simianContainer{T: t}
	theirIn, theirOut := r.pipes(in)
	defer theirIn.Close()
	defer theirOut.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	r.process, err = s.Start(ctx, spec, box.Stdio{In: theirIn, Out: theirOut, Err: theirOut})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = r.process.Kill(); r.process.Wait() })
	return r, nil
}

// exec runs the command; what becomes of it is not the question.
func (s *simian) exec(t *testing.T, r running, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p, err := s.Exec(ctx, r.(*simianContainer).process.ID(), &box.ExecSpec{
		Args: args, Caps: box.DefaultCaps(), Seccomp: s.filter, NoNewPrivs: true,
	}, box.Stdio{})
	if err != nil {
		t.Logf("exec %v: %v", args, err)
		return
	}
	t.Logf("exec %v: %v", args, p.Wait())
}

type simianContainer struct {
	*testing.T
	process *box.Process
	in, out *os.File
	lines   *bufio.Reader
}

// pipes makes the streams, and returns the container's ends. A nil file can be
// closed.
func (r *simianContainer) pipes(in bool) (theirIn, theirOut *os.File) {
	r.Helper()
	var err error
	if r.out, theirOut, err = os.Pipe(); err != nil {
		r.Fatal(err)
	}
	r.lines = bufio.NewReader(r.out)
	if in {
		if theirIn, r.in, err = os.Pipe(); err != nil {
			r.Fatal(err)
		}
	}
	r.Cleanup(func() { r.out.Close(); r.in.Close() })
	return theirIn, theirOut
}

func (r *simianContainer) ask(line string) string {
	fmt.Fprintln(r.in, line)
	answer, _ := r.lines.ReadString('\n')
	return strings.TrimSpace(answer)
}

func (r *simianContainer) wait() (out, end string) {
	text, _ := io.ReadAll(r.lines)
	return string(text), r.process.Wait().String()
}
