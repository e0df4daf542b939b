package native

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// starts counts how often a container that runs mark was started: it tells
// so itself, in its volume.
func (s *stage) starts(file string) int {
	data, _ := os.ReadFile(file)
	return strings.Count(string(data), "started\n")
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	quick := 5 * time.Millisecond
	for name, c := range map[string]struct {
		policy Restart
		code   string
		starts int // 0: again and again
		exit   string
		text   string
	}{
		"no":                          {Restart{}, "0", 1, "exit 0", "no"},
		"no, and it fails":            {Restart{Policy: "no"}, "3", 1, "exit 3", "no"},
		"on-failure, and it ends":     {Restart{Policy: "on-failure", Delay: quick}, "0", 1, "exit 0", "on-failure"},
		"on-failure, so often":        {Restart{Policy: "on-failure", MaxAttempts: 3, Delay: quick}, "3", 4, "exit 3", "on-failure:3"},
		"on-failure":                  {Restart{Policy: "on-failure", Delay: quick}, "3", 0, "", "on-failure"},
		"always, and it ends":         {Restart{Policy: "always", Delay: quick}, "0", 0, "", "always"},
		"always, and it fails":        {Restart{Policy: "always", Delay: quick}, "3", 0, "", "always"},
		"unless-stopped, and it ends": {Restart{Policy: "unless-stopped", Delay: quick}, "0", 0, "", "unless-stopped"},
	} {
		t.Run(strings.ReplaceAll(name, ",", ""), func(t *testing.T) {
			t.Parallel()
			web := newService(t, "web", "mark", "/starts", c.code)
			web.Restart = c.policy
			s, err := raise(t.Context(), t, project(web))
			if err != nil && !strings.Contains(err.Error(), "web-1 has ended: exit 3") { // it may have ended already
				t.Fatal(err)
			}
			file := s.byName["web-1"].spec.Upper + "/starts"
			if c.starts == 0 {
				eventually(t, func() string {
					if s.starts(file) >= 3 {
						return ""
					}
					return "it is not started again"
				})
			} else {
				b := s.until("web", "has ended", func(b Box) bool { return b.State == experiment.ContainerExited && b.Starts == c.starts })
				if b.Exit != c.exit || b.Policy != c.text {
					t.Errorf("%+v", b)
				}
				time.Sleep(20 * time.Millisecond)
				if n := s.starts(file); n != c.starts {
					t.Errorf("started %d times, want %d", n, c.starts)
				}
			}
			s.toldInOrder("web-1", c.policy)
		})
	}
}

// toldInOrder wants each start of a container to have been noted before it,
// with the policy from the second on, and its end after it.
func (s *stage) toldInOrder(name string, policy Restart) {
	s.t.Helper()
	marks := s.told(name)
	want := []experiment.ContainerState{experiment.ContainerStarting, experiment.ContainerRunning, experiment.ContainerExited}
	for i, m := range marks {
		again := ""
		if i >= 3 && m.State != experiment.ContainerExited {
			again = policy.String()
		}
		if m.State != want[i%3] || m.Start != i/3+1 || m.Policy != again || (m.State == experiment.ContainerStarting) != (m.Process == experiment.ProcessID{}) {
			s.t.Errorf("mark %d is %+v", i, m)
		}
	}
}

// TestBackoffOfRestarts has each wait be longer than the one before.
func TestBackoffOfRestarts(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "exit", "0")
	web.Restart = Restart{Policy: "always", Delay: 50 * time.Millisecond}
	start := time.Now()
	s := up(t, web)
	s.until("web", "is started for the fourth time", func(b Box) bool { return b.Starts == 4 })
	if took := time.Since(start); took < (50+100+200)*time.Millisecond {
		t.Errorf("started four times within %s", took)
	}
}

// TestRestartAfterKill strikes as a fault does.
func TestRestartAfterKill(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Restart = Restart{Policy: "on-failure", Delay: time.Millisecond}
	s := up(t, web)
	for n := range 3 {
		b := s.until("web", "runs", func(b Box) bool { return b.Starts == n+1 && b.Process.PID != 0 })
		must(t, unix.Kill(b.Process.PID, unix.SIGKILL))
		s.until("web", "is started again", func(b Box) bool { return b.Starts == n+2 })
	}
	for _, m := range s.told("web-1") {
		if m.State == experiment.ContainerExited && m.Exit != "killed by SIGKILL" {
			t.Errorf("%+v", m)
		}
	}
}

// TestRestartThatFails takes the program away: the container is down then, and
// says why, and it is tried again.
func TestRestartThatFails(t *testing.T) {
	t.Parallel()
	web := newService(t, "web", "sleep")
	web.Restart = Restart{Policy: "always", Delay: 5 * time.Millisecond}
	s := up(t, web)
	b := s.box("web")
	must(t, os.Remove(web.Rootfs+"/inside"))
	must(t, unix.Kill(b.Process.PID, unix.SIGKILL))
	b = s.until("web", "is tried again", func(b Box) bool { return b.Starts > 2 && b.State == experiment.ContainerExited })
	if b.Exit != "exit 127" || !strings.Contains(b.Health, "no such file or directory") || b.Process.PID != 0 {
		t.Errorf("%+v", b)
	}
	program, err := inside()
	must(t, err)
	must(t, os.Link(program, web.Rootfs+"/inside"))
	s.until("web", "runs", func(b Box) bool { return b.State == experiment.ContainerRunning && b.Process.PID != 0 })
}

// TestRestFallsAmongRestarts kills a container in a loop while the lab is
// taken down: it must stay dead.
func TestRestFallsAmongRestarts(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		web := newService(t, "web", "mark", "/data/starts")
		web.Restart = Restart{Policy: "always", Delay: time.Millisecond, Window: time.Millisecond}
		data := t.TempDir()
		web.Mounts = []Mount{{Type: "bind", Source: data, Target: "/data"}}
		s := up(t, web)
		stop := s.killInALoop(time.Duration(n) * time.Millisecond)
		time.Sleep(time.Duration(n) * 7 * time.Millisecond)
		s.down()
		before, told := s.starts(data+"/starts"), len(s.told("web-1"))
		time.Sleep(20 * time.Millisecond)
		stop()
		if after := s.starts(data + "/starts"); after != before || len(s.told("web-1")) != told {
			t.Errorf("it was started %d times after its end", after-before)
		}
		if b := s.State().Boxes[0]; b.Process.PID != 0 {
			t.Errorf("%+v", b)
		}
	}
}

// killInALoop kills the first container whenever it has run for so long.
func (s *stage) killInALoop(after time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if b := s.State().Boxes[0]; b.Process.PID != 0 {
				time.Sleep(after)
				_ = unix.Kill(b.Process.PID, unix.SIGKILL)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
