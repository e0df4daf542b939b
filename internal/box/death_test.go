package box

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// runner launches a container in dir, of another user than root, with init
// where dir says so, and waits to be killed.
func runner(dir string) int {
	l, err := NewLauncher(proc.Host())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	s := &Spec{
		Name: "web-1", Args: []string{"/inside", "sleep"}, User: "1000:1000", Init: strings.HasSuffix(dir, "init"),
		Lower: []string{filepath.Join(dir, "lower")}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), NoNewPrivs: true,
	}
	p, err := l.Start(context.Background(), s, Stdio{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(p.ID().PID, p.Workload().PID)
	time.Sleep(time.Hour)
	return 0
}

// When the runner is killed, the kernel takes its containers along.
func TestRunnerKilled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, name := range []string{"plain", "init"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			for _, sub := range []string{"upper", "work"} {
				if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Rename(rootfs(t, nil), filepath.Join(dir, "lower")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(dir, "lower"), 0o755); err != nil {
				t.Fatal(err)
			}
			c := exec.Command("/proc/self/exe")
			c.Env = append(os.Environ(), asRunner+"="+dir)
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			ids := identify(t, strings.Fields(line))
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_ = c.Wait()
			for slices.ContainsFunc(ids, proc.Host().Alive) {
				if time.Since(began) > 5*time.Second {
					t.Fatalf("%v live on", ids)
				}
				time.Sleep(time.Millisecond)
			}
			t.Logf("gone after %s", time.Since(began))
		})
	}
}

func identify(t *testing.T, pids []string) (ids []experiment.ProcessID) {
	t.Helper()
	for _, word := range pids {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(pids)
		}
		id, err := proc.Host().Identify(pid)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if len(ids) != 2 {
		t.Fatal(pids)
	}
	return ids
}

// Close takes the containers along, as a killed runner does.
func TestClose(t *testing.T) {
	t.Parallel()
	needRoot(t)
	l, err := NewLauncher(proc.Host())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := start(t, l, newSpec(t, "sleep"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if exit := p.Wait(); exit.Signal != unix.SIGKILL {
		t.Error(exit)
	}
	if _, err := l.Start(context.Background(), newSpec(t), Stdio{}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// A fork server that dies is replaced, and takes no container along.
func TestForkServerKilled(t *testing.T) {
	t.Parallel()
	l := newLauncher(t)
	p, _ := start(t, l, newSpec(t, "sleep"))
	if err := l.server.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-l.server.gone
	if _, exit := run(t, l, newSpec(t, "exit", "4")); exit.Code != 4 {
		t.Error(exit)
	}
	select {
	case <-p.Done():
		t.Error("the container went with it")
	default:
	}
}

// Nothing is mounted on the host, no file stays open, and no cgroup stays.
func TestLeavesNothing(t *testing.T) {
	l := newLauncher(t)
	look := func() []string {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return []string{string(mounts), fmt.Sprint(len(fds), " files")}
	}
	once := func() {
		for _, args := range [][]string{{"/inside"}, {"/nowhere"}} {
			s := newSpec(t)
			s.Args, s.Init = args, true
			c, err := NewCgroup(proc.Host(), "simian-leaves/c-1", Limits{})
			if err != nil {
				t.Fatal(err)
			}
			s.Cgroup = c
			if p, err := l.Start(context.Background(), s, Stdio{}); err == nil {
				p.Wait()
			}
			if err := c.Remove(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	once()
	var before, after []string
	for range 5 { // others mount and unmount on this host too; what is left behind is left each time
		before = look()
		for range 5 {
			once()
		}
		if after = look(); slices.Equal(before, after) {
			break
		}
	}
	if !slices.Equal(before, after) {
		t.Errorf("before %s\nafter %s", before, after)
	}
	if err := RemoveCgroup(context.Background(), proc.Host(), "simian-leaves"); err != nil {
		t.Error(err)
	}
	for _, root := range must(proc.Host().CgroupRoots()) {
		if left, _ := filepath.Glob(root + "/simian-leaves*"); left != nil {
			t.Error(left)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
