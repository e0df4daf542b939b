package box

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// helper is testdata/inside, built once. Where there is no Go to build it
// with, test/vm has put it beside its source.
var helper = sync.OnceValues(func() (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return filepath.Abs("testdata/inside/inside")
	}
	dir, err := os.MkdirTemp("", "simian-inside")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "inside")
	build := exec.Command("go", "build", "-o", file, "./testdata/inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

// asRunner names the folder of the container that a runner of its own is to
// launch, and to be killed.
const asRunner = "SIMIAN_BOX_RUNNER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asRunner); dir != "" {
		os.Exit(runner(dir))
	}
	code := m.Run()
	if file, err := helper(); err == nil && strings.HasPrefix(file, os.TempDir()) {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
}

// rootfs returns an image's layer with the helper at /inside.
func rootfs(t testing.TB, files map[string]string) string {
	t.Helper()
	program, err := helper()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := place(program, filepath.Join(dir, "inside")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// place links a file, or copies it where it is on another file system.
func place(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

func newLauncher(t testing.TB) *Launcher {
	t.Helper()
	needRoot(t)
	l, err := NewLauncher(proc.Host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

var nextName atomic.Int64

func newCgroup(t testing.TB, limits Limits) *Cgroup {
	t.Helper()
	name := fmt.Sprintf("simian-box%d.%d/c-1", os.Getpid(), nextName.Add(1))
	c, err := NewCgroup(proc.Host(), name, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		top := filepath.Dir(name)
		if err := KillCgroup(ctx, proc.Host(), top); err != nil {
			t.Error(err)
		}
		if err := RemoveCgroup(ctx, proc.Host(), top); err != nil {
			t.Error(err)
		}
	})
	return c
}

// newSpec returns a container as a Compose file without options has it.
func newSpec(t testing.TB, args ...string) *Spec {
	t.Helper()
	dir := t.TempDir()
	s := &Spec{
		Name: "web-1", Hostname: "web-1", Args: append([]string{"/inside"}, args...),
		Lower: []string{rootfs(t, nil)}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Caps: DefaultCaps(), NoNewPrivs: true,
	}
	for _, dir := range []string{s.Upper, s.Work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// run launches s and returns what it has written, and how it ended.
func run(t testing.TB, l *Launcher, s *Spec) (string, Exit) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := l.Start(context.Background(), s, Stdio{Out: w, Err: w})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String(), p.Wait()
}

type report struct {
	PID, UID, GID int
	Groups        []int
	Hostname, Cwd string
	Args, Env     []string
	Status        map[string]string
	Mounts        []string
	Cgroup        []string
	FDs           []string
	Limits        []string
	Namespaces    map[string]string
	Files         map[string]string
	Dev           []string
	Umask         string
	Session       int
	TTY           bool
}

// see returns what a container of s sees.
func see(t testing.TB, l *Launcher, s *Spec, paths ...string) (r report) {
	t.Helper()
	s.Args = append([]string{"/inside", "see"}, paths...)
	out, exit := run(t, l, s)
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil || !exit.Success() {
		t.Fatalf("%v, %s: %s", err, exit, out)
	}
	return r
}
