package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
)

var containers atomic.Int64

// contained launches a container in which this command runs, with the host's
// programs, and returns it as the selector of a lab's containers does.
func contained(t testing.TB, limits box.Limits, args ...string) experiment.Target {
	t.Helper()
	return containedWith(t, limits, box.Stdio{}, func(s *box.Spec) { s.Args = args })
}

// containedWith launches a container with what change says, and with standard
// streams.
func containedWith(t testing.TB, limits box.Limits, streams box.Stdio, change func(*box.Spec)) experiment.Target {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can launch containers")
	}
	l, err := box.NewLauncher(host)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	name := fmt.Sprintf("simian-chaos%d.%d/web-1", os.Getpid(), containers.Add(1))
	cg, err := box.NewCgroup(host, name, limits)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		top := filepath.Dir(name)
		if err := errors.Join(box.KillCgroup(ctx, host, top), box.RemoveCgroup(ctx, host, top)); err != nil {
			t.Error(err)
		}
	})
	spec := boxSpec(t, cg)
	change(spec)
	p, err := l.Start(context.Background(), spec, streams)
	must(t, err)
	t.Cleanup(func() { _ = p.Kill(); p.Wait() })
	target, err := host.Target(p.Workload().PID)
	must(t, err)
	target.Kind, target.Name, target.Workload = "native", "web-1", "web"
	target.ID = "native:web-1:" + target.PIDs[0].Handle()
	target.Runtime = &experiment.RuntimeRef{Runtime: "simian", ID: "web-1", Restart: "always"}
	return target
}

// boxSpec is a container with the host's programs, and this one at /victim.
func boxSpec(t testing.TB, cg *box.Cgroup) *box.Spec {
	t.Helper()
	lower, dir := t.TempDir(), t.TempDir()
	s := &box.Spec{
		Name: "web-1", Hostname: "web-1", Env: []string{"PATH=/usr/bin:/bin:/sbin"}, Cgroup: cg,
		Lower: []string{lower}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Caps: box.DefaultCaps(), NoNewPrivs: true,
	}
	must(t, errors.Join(os.Mkdir(s.Upper, 0o755), os.Mkdir(s.Work, 0o755)))
	for _, shared := range []string{"/usr", "/bin", "/sbin", "/lib", "/lib64"} {
		if at, err := filepath.EvalSymlinks(shared); err == nil {
			s.Mounts = append(s.Mounts, box.Mount{Type: "bind", Source: at, Target: shared, ReadOnly: true, Recursive: true})
		}
	}
	s.Mounts = append(s.Mounts, box.Mount{Type: "bind", Source: program(t), Target: "/victim", ReadOnly: true})
	return s
}
