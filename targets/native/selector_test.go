package native

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/monkeys/chaos"
	"github.com/simianhq/simian/targets/match"
)

// shop is a lab with labels and replicas.
func shop(t *testing.T) *Project {
	t.Helper()
	web, db := newService(t, "web", "sleep"), newService(t, "db", "sleep")
	web.Replicas, web.Labels, web.Restart = 2, map[string]string{"tier": "front", "app": "web"}, Restart{Policy: "always", Delay: 1}
	db.Labels = map[string]string{"tier": "back"}
	return project(web, db)
}

func labelled(selector string) match.Match {
	l, err := match.ParseLabels(selector)
	if err != nil {
		panic(err)
	}
	return match.Match{Labels: l}
}

func named(names ...string) (m match.Match) {
	for _, text := range names {
		name, err := match.ParseName(text)
		if err != nil {
			panic(err)
		}
		m.Names = append(m.Names, name)
	}
	return m
}

func TestSelector(t *testing.T) {
	t.Parallel()
	s := upAll(t, shop(t))
	standing := NewCurrent(proc0)
	standing.Strike(LabDir(s.state, s.run))
	own := NewCurrent(proc0)
	own.Launch(s.Lab)
	eventually(t, func() string { // state.json comes a moment later
		state, err := ReadState(s.dir())
		if err != nil {
			return err.Error()
		}
		return cmp.Diff(s.State().Boxes, state.Boxes, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateApproxTime(0))
	})
	for name, current := range map[string]*Current{"its own lab": own, "a standing lab": standing} {
		catalog := experiment.Catalog[experiment.Selector]{"native": Selectors(current)}
		for what, c := range map[string]struct {
			selector Selector
			want     []string
		}{
			"all":       {Selector{}, []string{"web-1", "web-2", "db-1"}},
			"service":   {Selector{Service: "web"}, []string{"web-1", "web-2"}},
			"container": {Selector{Container: "web-2"}, []string{"web-2"}},
			"labels":    {Selector{Match: match.Match{Labels: match.LabelPairs(map[string]string{"tier": "back"})}}, []string{"db-1"}},
			"both":      {Selector{Service: "web", Match: labelled("tier=front,app")}, []string{"web-1", "web-2"}},
			"name":      {Selector{Match: named("web-2")}, []string{"web-2"}},
			"of a name": {Selector{Match: named("web", "re2:d.*")}, []string{"web-1", "web-2", "db-1"}},
			"exclude":   {Selector{Match: match.Match{Exclude: &match.Exclude{Names: named("re2:.*-1").Names}}}, []string{"web-2"}},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				c.selector.current = current
				none := &Selector{Service: "web", Match: labelled("tier=back"), current: current}
				experimenttest.Selector(t, experimenttest.SelectorCase{Selector: &c.selector, Targets: catalog, Want: c.want, None: none})
				for service, want := range map[string]int{"web": 2, "db": 1, "none": 0} {
					if all, err := c.selector.Group(t.Context(), service); len(all) != want || err != nil {
						t.Errorf("%s: %d containers, %v", service, len(all), err)
					}
				}
				if n, err := c.selector.Scope(t.Context()); n != 3 || err != nil {
					t.Errorf("scope %d, %v", n, err)
				}
			})
		}
	}
}

// TestList lists the containers of labs that are up, and why one is out.
func TestList(t *testing.T) {
	t.Parallel()
	p := shop(t)
	for _, s := range p.Services {
		if s.Name == "db" {
			s.Labels["simian.dev/protect"] = "true"
		}
	}
	s := upAll(t, p)
	eventually(t, func() string {
		all, err := List(proc0, s.state)
		if err != nil || len(all) != 3 {
			return fmt.Sprintf("%v, %v", all, err)
		}
		for _, l := range all {
			out := l.Name == "db-1"
			if l.Kind != "native" || l.Runtime != "simian" || l.PID == 0 || l.Cgroup == "" || !strings.HasSuffix(l.Workload, "/"+ServiceOf(l.Name)) || (l.Out != "") != out || (l.Protected != "") != out {
				return fmt.Sprintf("%+v", l)
			}
		}
		return ""
	})
}

// TestPendingTargets are those of a lab that is not up yet.
func TestPendingTargets(t *testing.T) {
	t.Parallel()
	current := NewCurrent(proc0)
	s := &Selector{Service: "web", current: current}
	if _, err := s.Select(t.Context()); err == nil || err.Error() != "there is no lab" {
		t.Error(err)
	}
	if _, err := s.Scope(t.Context()); err == nil {
		t.Error("a scope without a lab")
	}
	p := project(Service{Name: "web", Replicas: 2, Restart: Restart{Policy: "always"}}, Service{Name: "db", Replicas: 1})
	current.Launch(NewLab(p, Env{FS: proc0}))
	got, err := s.Select(t.Context())
	must(t, err)
	want := []experiment.Target{
		{Kind: "native", Name: "web-1", ID: "native:web-1", Workload: "web", Runtime: &experiment.RuntimeRef{Runtime: "simian", ID: "web-1", Restart: "always"}},
		{Kind: "native", Name: "web-2", ID: "native:web-2", Workload: "web", Runtime: &experiment.RuntimeRef{Runtime: "simian", ID: "web-2", Restart: "always"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got)\n%s", diff)
	}
	if n, err := s.Scope(t.Context()); n != 3 || err != nil {
		t.Errorf("scope %d, %v", n, err)
	}
}

func TestNoMatch(t *testing.T) {
	t.Parallel()
	s := upAll(t, shop(t))
	current := NewCurrent(proc0)
	current.Launch(s.Lab)
	must(t, unix.Kill(s.box("db").Process.PID, unix.SIGKILL))
	s.until("db", "ends", func(b Box) bool { return b.State == experiment.ContainerExited })
	for want, selector := range map[string]Selector{
		"no container of the lab is service wep (did you mean \"web\"?): no target matches\n        services: db web":      {Service: "wep"},
		"no container of the lab is container web-3: no target matches\n        services: db web":                          {Container: "web-3"},
		"no container of the lab is labels tier=top: no target matches\n        services: db web":                          {Match: labelled("tier=top")},
		"no container of the lab is name \"wep-1\" (did you mean \"web-1\"?): no target matches\n        services: db web": {Match: named("wep-1")},
		"no container of the lab is service web, container db-1: no target matches\n        services: db web":              {Service: "web", Container: "db-1"},
		"db-1: not running: no target matches": {Service: "db"},
	} {
		selector.current = current
		targets, err := selector.Select(t.Context())
		if !errors.Is(err, experiment.ErrNoMatch) || len(targets) > 0 || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if n, err := (&Selector{current: current}).Scope(t.Context()); n != 2 || err != nil {
		t.Errorf("scope %d, %v", n, err)
	}
	current.Strike(LabDir(s.state, s.run))
	s.down()
	if _, err := (&Selector{current: current}).Select(t.Context()); !errors.Is(err, ErrDown) || !errors.Is(err, experiment.ErrGone) {
		t.Error(err)
	}
}

// TestDamagedState passes over what a crash of the host may leave.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	must(t, os.MkdirAll(LabDir(state, "abc234"), 0o700))
	must(t, os.WriteFile(LabDir(state, "abc234")+"/state.json", nil, 0o600))
	if labs, err := Labs(proc0, state); len(labs) > 0 || err != nil {
		t.Errorf("%v, %v", labs, err)
	}
}

// struck finds one container of a lab, as a target.
func (s *stage) struck(t testing.TB, name string) experiment.Target {
	t.Helper()
	current := NewCurrent(proc0)
	current.Launch(s.Lab)
	found, err := (&Selector{Container: name, current: current}).Select(t.Context())
	must(t, err)
	return found[0]
}

// TestFreezeContainer holds the fault to its suite, on a container.
func TestFreezeContainer(t *testing.T) {
	t.Parallel()
	s := upAll(t, shop(t))
	for _, backend := range []string{"", "cgroup", "signal"} {
		fault := chaos.All(proc0)["freeze"]().(*chaos.Freeze)
		fault.Backend = backend
		t.Run("by "+backend, func(t *testing.T) {
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: fault, Ops: op.All(proc0), Target: func(t testing.TB) experiment.Target { return s.struck(t, "web-1") },
				Snapshot: func(target experiment.Target) string { return stillness(target) },
			})
		})
	}
}

// stillness tells whether a target stands still.
func stillness(target experiment.Target) string {
	st, _ := proc0.Stat(target.PIDs[0].PID)
	words := map[bool]string{true: "stopped"}[st.State == 'T']
	for _, file := range []string{target.Cgroup.V1["freezer"].Path + "/freezer.state", target.Cgroup.V2.Path + "/cgroup.freeze"} {
		data, _ := os.ReadFile(file)
		words += " " + strings.TrimSpace(string(data))
	}
	return words
}

// TestKillContainer has a killed container start again, under another ID.
func TestKillContainer(t *testing.T) {
	t.Parallel()
	s := upAll(t, shop(t))
	target := s.struck(t, "web-1")
	steps, err := chaos.All(proc0)["kill"]().Plan(t.Context(), "abcdef", target)
	must(t, err)
	if l, ok := steps[0].Do.(experiment.Leaning); !ok || l.Leans() != "restart: always" {
		t.Errorf("%v leans on nothing", steps[0].Do)
	}
	must(t, steps[0].Do.Apply(t.Context()))
	s.until("web-1", "is started again", func(b Box) bool { return b.Starts == 2 && b.Process.PID != 0 })
	if again := s.struck(t, "web-1"); again.ID == target.ID {
		t.Errorf("the same ID: %s", again.ID)
	}
	if err := steps[0].Do.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("the first one is killed again: %v", err)
	}
	steps, err = chaos.All(proc0)["kill"]().Plan(t.Context(), "abcdef", s.struck(t, "db-1"))
	must(t, err)
	if l, ok := steps[0].Do.(experiment.Leaning); ok && l.Leans() != "" {
		t.Errorf("nothing restarts db-1, and the op leans on %s", l.Leans())
	}
}
