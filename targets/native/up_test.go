package native

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
)

// healthy gives s a health check that passes once a file is there.
func healthy(s Service, test ...string) Service {
	s.Health = &Health{Test: append([]string{"CMD", "/inside"}, test...), Interval: 50 * time.Millisecond, Timeout: 5 * time.Second, Retries: 3}
	return s
}

// after makes s depend on others, by name and condition in turn.
func after(s Service, on ...string) Service {
	for pair := range slices.Chunk(on, 2) {
		s.DependsOn = append(s.DependsOn, Dependency{Service: pair[0], Condition: pair[1], Required: true})
	}
	return s
}

// order returns which marks were noted, in order.
func (s *stage) order() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var words []string
	for _, m := range s.marks {
		words = append(words, m.Name+" "+string(m.State))
	}
	return words
}

// before wants one mark to have come before another.
func (s *stage) before(first, second string) {
	s.t.Helper()
	order := s.order()
	a, b := slices.Index(order, first), slices.Index(order, second)
	if a < 0 || b < 0 || a > b {
		s.t.Errorf("%q does not come before %q: %q", first, second, order)
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	s := up(t,
		newService(t, "base", "sleep"),
		after(healthy(newService(t, "db", "serve", ":80", "100ms"), "get", "http://localhost:80"), "base", startedCondition),
		after(newService(t, "migrate", "exit", "0"), "db", healthyCondition),
		after(newService(t, "web", "sleep"), "migrate", completedCondition, "db", healthyCondition),
	)
	s.before("base-1 running", "db-1 starting")
	s.before("db-1 healthy", "migrate-1 starting")
	s.before("migrate-1 exited", "web-1 starting")
	if b := s.box("migrate"); b.Exit != "exit 0" || b.State != experiment.ContainerExited {
		t.Errorf("%+v", b)
	}
	if b := s.box("db"); b.State != experiment.ContainerHealthy || b.Health != "" {
		t.Errorf("%+v", b)
	}
}

// TestDependencyOnReplicas waits for each of them.
func TestDependencyOnReplicas(t *testing.T) {
	t.Parallel()
	db := healthy(newService(t, "db", "serve", ":80"), "get", "http://localhost:80")
	db.Replicas = 3
	none := newService(t, "none", "sleep")
	none.Replicas = 0
	s := up(t, db, none, after(newService(t, "web", "sleep"), "db", healthyCondition, "none", healthyCondition, "elsewhere", startedCondition))
	for _, name := range []string{"db-1", "db-2", "db-3"} {
		s.before(name+" healthy", "web-1 starting")
	}
	if len(s.State().Boxes) != 4 {
		t.Errorf("%+v", s.State().Boxes)
	}
}

func TestDependenciesThatFail(t *testing.T) {
	t.Parallel()
	unhealthy := healthy(newService(t, "db", "sleep"), "there", "/ready")
	onFailure := newService(t, "db", "exit", "3")
	onFailure.Restart = Restart{Policy: "on-failure", MaxAttempts: 1, Delay: 10 * time.Millisecond}
	never := healthy(newService(t, "db", "sleep"), "there", "/ready")
	never.Health.StartPeriod = time.Hour
	looping := healthy(newService(t, "db", "exit", "3"), "there", "/ready")
	looping.Restart = Restart{Policy: "always"}
	for name, c := range map[string]struct {
		db        Service
		condition string
		within    time.Duration
		words     []string
	}{
		"unhealthy":                   {unhealthy, healthyCondition, 20 * time.Second, []string{"db-1 is unhealthy", "/ready: no such file"}},
		"exits non-zero":              {newService(t, "db", "exit", "3"), completedCondition, 20 * time.Second, []string{"db-1 has ended: exit 3\n        goodbye"}},
		"exits non-zero in the end":   {onFailure, completedCondition, 20 * time.Second, []string{"db-1 has ended: exit 3\n        goodbye"}},
		"ends before it is healthy":   {healthy(newService(t, "db", "exit", "0"), "there", "/ready"), healthyCondition, 20 * time.Second, []string{"db-1 has ended before it was healthy: exit 0"}},
		"fails before it is healthy":  {healthy(newService(t, "db", "exit", "4"), "there", "/ready"), healthyCondition, 20 * time.Second, []string{"db-1 has ended: exit 4"}},
		"never healthy":               {never, healthyCondition, time.Second, []string{"db-1 is not healthy: its health check ends with exit 1: stat /ready"}},
		"never healthy in a loop":     {looping, healthyCondition, time.Second, []string{"db-1 is not healthy"}},
		"never completed":             {newService(t, "db", "sleep"), completedCondition, time.Second, []string{"web-1 waits for db-1 to complete"}},
		"never completed in a loop":   {looping, completedCondition, time.Second, []string{"waits for db-1 to complete"}},
		"healthy without a check":     {newService(t, "db", "sleep"), healthyCondition, time.Second, []string{"waits for db to be healthy, and neither the file nor its image has a health check"}},
		"a command that is not there": {newService(t, "db", "no-such"), completedCondition, 20 * time.Second, []string{"db-1 has ended: exit 1\n        no such command: no-such"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := cannotRaise(t, project(c.db, after(newService(t, "web", "sleep"), "db", c.condition)), c.within, c.words...)
			if slices.Contains(s.order(), "web-1 starting") {
				t.Errorf("web was started: %q", s.order())
			}
		})
	}
}

// TestCannotStart has each thing that can be wrong with one container named
// once, with the service.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	change := func(fn func(*Service)) Service {
		s := newService(t, "web", "sleep")
		fn(&s)
		return s
	}
	for name, c := range map[string]struct {
		web   Service
		words string
	}{
		"no such command":     {change(func(s *Service) { s.Entrypoint = []string{"frobnicate"} }), `exec: "frobnicate": not found in $PATH`},
		"no such file":        {change(func(s *Service) { s.Entrypoint = []string{"/no/such"} }), `exec: "/no/such": no such file or directory`},
		"not executable":      {change(func(s *Service) { s.Entrypoint = []string{"/etc/passwd"} }), `exec: "/etc/passwd": permission denied`},
		"a folder":            {change(func(s *Service) { s.Entrypoint = []string{"/etc"} }), `exec: "/etc": is a directory`},
		"no command":          {change(func(s *Service) { s.Entrypoint, s.Command = nil, nil }), "no command"},
		"unknown user":        {change(func(s *Service) { s.User = "nobody-here" }), `user "nobody-here" is not in the container's /etc/passwd`},
		"unknown group":       {change(func(s *Service) { s.User = "app:nobody-here" }), `group "nobody-here" is not in the container's /etc/group`},
		"no bind source":      {change(func(s *Service) { s.Mounts = []Mount{{Type: "bind", Source: "/no/such", Target: "/data"}} }), "bind /no/such to /data"},
		"a limit":             {change(func(s *Service) { s.Limits = box.Limits{CPUSet: "4711"} }), "limit cpuset=4711: the kernel refuses it"},
		"a sysctl":            {change(func(s *Service) { s.Sysctls = map[string]string{"net.ipv4.ip_forward": "lots"} }), "net.ipv4.ip_forward"},
		"an address is taken": {change(func(s *Service) { s.Networks[0].Address = addr("10.64.0.1") }), "10.64.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waits := after(newService(t, "other", "sleep"), "web", startedCondition)
			s := cannotRaise(t, project(c.web, waits), 20*time.Second, "services.web", c.words)
			if order := s.order(); slices.Contains(order, "web-1 running") || slices.Contains(order, "other-1 starting") {
				t.Errorf("started: %q", order)
			}
		})
	}
}

// TestUpIsCutShort ends the launching while containers wait for others, and
// while they are made.
func TestUpIsCutShort(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(after, cancel)
			services := []Service{healthy(newService(t, "db", "sleep"), "there", "/ready")}
			services[0].Health.StartPeriod = time.Hour
			for n := range 4 {
				s := newService(t, fmt.Sprintf("web%d", n), "sleep")
				s.DependsOn = []Dependency{{Service: "db", Condition: healthyCondition, Required: true}}
				services = append(services, s, newService(t, fmt.Sprintf("other%d", n), "sleep"))
			}
			_, err := raise(ctx, t, project(services...))
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestApplyFails has a step refused by the engine, as where its journal can't
// be written.
func TestApplyFails(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, bad := range []string{"", "a-1", "b-1", "c-1"} {
		t.Run("of "+bad, func(t *testing.T) {
			t.Parallel()
			s := &stage{t: t, state: t.TempDir()}
			p := project(newService(t, "a", "sleep"), newService(t, "b", "sleep"), after(newService(t, "c", "sleep"), "a", startedCondition))
			s.Lab = NewLab(p, Env{FS: proc0, State: s.state, Images: s.state + "/images"})
			must(t, s.Prepare(t.Context(), "testapply"))
			s.steps, _ = s.Steps(experiment.RunID(fmt.Sprintf("t%sapply%d", bad, nextRun.Add(1))))
			t.Cleanup(s.down)
			err := s.Up(t.Context(), s.steps, func(ctx context.Context, step experiment.PlannedStep) error {
				if step.Target == bad {
					return errors.New("refused")
				}
				return s.apply(ctx, step)
			}, s.note)
			if err == nil || err.Error() != "refused" {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestTwoLabsOfOneFile are side by side, and know nothing of each other.
func TestTwoLabsOfOneFile(t *testing.T) {
	t.Parallel()
	p := func() *Project {
		return project(newService(t, "web", "serve", ":80"), after(healthy(newService(t, "db", "serve", ":80"), "get", "http://web"), "web", startedCondition))
	}
	one, two := upAll(t, p()), upAll(t, p())
	for _, s := range []*stage{one, two} {
		if got := s.get("http://web"); got != "web-1\n" {
			t.Errorf("%q", got)
		}
	}
	one.down()
	if got := two.get("http://web"); got != "web-1\n" {
		t.Errorf("the other one is down: %q", got)
	}
}

// get asks from inside the lab.
func (s *stage) get(url string) string {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: s.Dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	return body(s.t, &c, url)
}

func TestManyContainers(t *testing.T) {
	t.Parallel()
	var services []Service
	for n := range 10 {
		s := newService(t, fmt.Sprintf("s%d", n), "sleep")
		s.Replicas = 3
		services = append(services, s)
	}
	start := time.Now()
	s := up(t, services...)
	t.Logf("30 containers are up after %s", time.Since(start))
	for _, b := range s.State().Boxes {
		if b.State != experiment.ContainerRunning || b.Process.PID == 0 {
			t.Errorf("%+v", b)
		}
	}
	start = time.Now()
	s.down()
	t.Logf("and down after %s", time.Since(start))
}
