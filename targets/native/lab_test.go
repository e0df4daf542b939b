package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/proc"
)

// rootfs makes a root with the helper at /inside, and these files.
func rootfs(t testing.TB, files map[string]string) string {
	t.Helper()
	program, err := inside()
	must(t, err)
	dir := t.TempDir()
	must(t, os.Link(program, filepath.Join(dir, "inside")))
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/:\napp:x:1000:1000::/home/app:\n"), 0o644))
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

// newService is one of a Compose file that says nothing but its command.
func newService(t testing.TB, name string, args ...string) Service {
	t.Helper()
	return Service{
		Name: name, Rootfs: rootfs(t, nil), Replicas: 1, Entrypoint: []string{"/inside"}, Command: args,
		StopGrace: 10 * time.Second, NoNewPrivs: true, Networks: []Attachment{{Network: "default"}},
	}
}

// project is a Compose file of these services.
func project(services ...Service) *Project {
	slices.SortFunc(services, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return &Project{Name: "test", Dir: "/", Files: []string{"/compose.yaml"}, Services: services, Networks: []Network{{Name: "default"}}}
}

// stage is a lab, and what the engine is to it.
type stage struct {
	*Lab
	t     testing.TB
	state string
	steps []experiment.PlannedStep

	mu    sync.Mutex
	marks []experiment.ContainerMark
}

var nextRun atomic.Int64

// raise launches a lab, which may fail. It is taken down at the test's end,
// and nothing of it may be left then.
func raise(ctx context.Context, t testing.TB, p *Project) (*stage, error) {
	t.Helper()
	needRoot(t)
	s := &stage{t: t, state: filepath.Join(t.TempDir(), "state")}
	s.Lab = NewLab(p, Env{FS: proc.Host(), State: s.state, Images: filepath.Join(s.state, "images")})
	run := experiment.RunID(fmt.Sprintf("t%dx%dz", os.Getpid(), nextRun.Add(1))) // none is the beginning of another
	t.Cleanup(s.down)
	if err := s.Prepare(ctx, run); err != nil {
		return s, err
	}
	var err error
	s.steps, err = s.Steps(run)
	must(t, err)
	for i := range s.steps {
		s.steps[i].N = i + 1
	}
	return s, s.Up(ctx, s.steps, s.apply, s.note)
}

// up launches a lab, which must come up within a while.
func up(t testing.TB, services ...Service) *stage {
	t.Helper()
	return upAll(t, project(services...))
}

func upAll(t testing.TB, p *Project) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := raise(ctx, t, p)
	must(t, err)
	return s
}

// cannotRaise launches a lab that can't come up, within a while, and wants these
// words of the error.
func cannotRaise(t testing.TB, p *Project, within time.Duration, words ...string) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	s, err := raise(ctx, t, p)
	if err == nil {
		t.Fatal("it is up")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q:\n%v", w, err)
		}
	}
	return s
}

// apply is what the engine makes of a step.
func (s *stage) apply(ctx context.Context, step experiment.PlannedStep) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return step.Do.Apply(ctx)
}

func (s *stage) note(m experiment.ContainerMark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks = append(s.marks, m)
}

// told returns what was noted of a container.
func (s *stage) told(name string) []experiment.ContainerMark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.marks), func(m experiment.ContainerMark) bool { return m.Name != name })
}

// down takes the lab down as the engine does: it rests, then the containers
// are taken back side by side, and then what they stood on, twice.
func (s *stage) down() {
	s.t.Helper()
	s.Rest()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for _, step := range s.steps {
		if step.Target != "" {
			wg.Go(func() { s.undo(ctx, step) })
		}
	}
	wg.Wait()
	for _, step := range slices.Backward(s.steps) {
		if step.Target == "" {
			s.undo(ctx, step)
		}
	}
	if err := s.Close(); err != nil {
		s.t.Errorf("close the lab: %v", err)
	}
	s.gone()
}

func (s *stage) undo(ctx context.Context, step experiment.PlannedStep) {
	for range 2 {
		if err := step.Undo.Apply(ctx); err != nil && !errors.Is(err, experiment.ErrGone) {
			s.t.Errorf("%s: %v", step.Undo, err)
		}
	}
}

// gone wants nothing of the lab to be left on the host.
func (s *stage) gone() {
	s.t.Helper()
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/" + s.cgroup() + "*")
	top, _ := filepath.Glob("/sys/fs/cgroup/" + s.cgroup() + "*")
	left := append(cgroups, top...)
	if _, err := os.Lstat(s.dir()); err == nil && s.run != "" {
		left = append(left, s.dir())
	}
	tables, _ := filepath.Glob("/proc/self/task/*/mountinfo")
	for _, table := range tables {
		if data, _ := os.ReadFile(table); strings.Contains(string(data), s.state) {
			left = append(left, "a mount in "+table)
		}
	}
	if len(left) > 0 {
		s.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// box returns a container as others see it.
func (s *stage) box(name string) Box {
	s.t.Helper()
	b, err := s.State().Box(name)
	must(s.t, err)
	return b
}

// until waits until a container is as it should be.
func (s *stage) until(name, what string, ok func(Box) bool) Box {
	s.t.Helper()
	var b Box
	eventually(s.t, func() string {
		if b = s.box(name); ok(b) {
			return ""
		}
		return fmt.Sprintf("%s: %s: %+v", name, what, b)
	})
	return b
}

// exec runs the helper in a container, and returns what it wrote.
func (s *stage) exec(name string, args ...string) (string, box.Exit) {
	s.t.Helper()
	r, w, err := os.Pipe()
	must(s.t, err)
	defer r.Close()
	spec, err := ExecSpec(s.dir(), name, append([]string{"/inside"}, args...))
	must(s.t, err)
	p, err := s.launcher.Exec(s.t.Context(), s.box(name).Process, spec, box.Stdio{Out: w, Err: w})
	w.Close()
	must(s.t, err)
	said := make([]byte, 0, 4096)
	for buf := make([]byte, 4096); ; {
		n, err := r.Read(buf)
		said = append(said, buf[:n]...)
		if err != nil {
			break
		}
	}
	return string(said), p.Wait()
}

// log returns what a container has written, a line each: stream and text.
func (s *stage) log(name string) []string {
	var lines []string
	_ = ReadLog(LogFile(s.state, string(s.run), name), func(l LogLine) error {
		lines = append(lines, l.Stream+": "+l.Text)
		return nil
	})
	return lines
}

// said waits until a container has written a line.
func (s *stage) said(name, line string) {
	s.t.Helper()
	eventually(s.t, func() string {
		if slices.Contains(s.log(name), line) {
			return ""
		}
		return fmt.Sprintf("%s has written %q, not %q", name, s.log(name), line)
	})
}
