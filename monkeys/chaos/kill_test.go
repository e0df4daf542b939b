package chaos

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestKillConformance(t *testing.T) {
	t.Parallel()
	var p *prey
	experimenttest.Fault(t, experimenttest.FaultCase{
		Fault: &Kill{fs: host}, Ops: op.All(host), Snapshot: snapshot, NoUndo: true,
		Target: func(t testing.TB) experiment.Target { p = newPrey(t); return p.target(t) },
		Gone:   func(testing.TB, experiment.Target) { p.kill() },
	})
}

// TestKillMain kills the first process of a target, and no other.
func TestKillMain(t *testing.T) {
	t.Parallel()
	main, other := newPrey(t), newPrey(t)
	target := main.target(t)
	target.PIDs = append(target.PIDs, other.id)
	fd, err := proc.OpenPidfd(main.id)
	must(t, err)
	defer unix.Close(fd)
	steps, err := (&Kill{fs: host}).Plan(t.Context(), "abcd23", target)
	must(t, err)
	if len(steps) != 1 || steps[0].Undo != nil {
		t.Fatalf("steps %v", steps)
	}
	must(t, steps[0].Do.Apply(t.Context()))
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 5000); n != 1 {
		t.Errorf("its pidfd does not report it: %v", err)
	}
	if !host.Alive(other.id) {
		t.Error("the other process is dead too")
	}
}

// TestKillReused meets another process under the same pid.
func TestKillReused(t *testing.T) {
	t.Parallel()
	p := newPrey(t)
	target := p.target(t)
	target.PIDs[0].Start++
	for name, fault := range map[string]experiment.Fault{"kill": &Kill{fs: host}, "freeze": &Freeze{Backend: "signal", fs: host}} {
		steps, err := fault.Plan(t.Context(), "abcd23", target)
		if err == nil {
			err = steps[0].Do.Apply(t.Context())
		}
		if !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v, want ErrGone", name, err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if !host.Alive(p.id) {
		t.Error("another process was killed")
	}
}

func TestKillValidate(t *testing.T) {
	t.Parallel()
	for _, name := range op.SignalNames() {
		err := errors.Join((&Kill{Signal: name}).Validate(), (&Kill{Signal: "SIG" + name}).Validate())
		if stops := strings.Contains(" STOP TSTP TTIN TTOU ", " "+name+" "); stops != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		kill Kill
		want string
	}{
		{Kill{}, ""},
		{Kill{Every: experiment.Duration(10 * time.Millisecond)}, ""},
		{Kill{Signal: "SIGTREM"}, `unknown signal "SIGTREM" (did you mean "TERM"?)`},
		{Kill{Signal: "9"}, "signals: ABRT"},
		{Kill{Signal: "SIG"}, "unknown signal"},
		{Kill{Signal: "STOP"}, "the fault freeze does that"},
		{Kill{Every: experiment.Duration(time.Millisecond)}, "too quick"},
	} {
		if err := c.kill.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.kill, err, c.want)
		}
	}
	if (&Kill{}).Instant() != true || (&Kill{Every: 1}).Instant() || (&Kill{Every: 5}).Interval() != 5 {
		t.Error("a kill with an interval holds, one without is instant")
	}
}

// TestGoldenPlans writes down what is planned; it needs no root.
func TestGoldenPlans(t *testing.T) {
	t.Parallel()
	p, other := newPrey(t), newPrey(t)
	target := p.target(t)
	target.PIDs = append(target.PIDs, other.id)
	numbers := strings.NewReplacer(
		p.id.String(), "pid 812", other.id.String(), "pid 813",
		p.id.Handle(), "process:812:99123", other.id.Handle(), "process:813:99124",
	)
	for name, fault := range map[string]experiment.Fault{
		"kill": &Kill{fs: host}, "kill-term": &Kill{Signal: "SIGTERM", fs: host}, "freeze-signal": &Freeze{Backend: "signal", fs: host},
	} {
		steps, err := fault.Plan(context.Background(), "abcd23", target)
		must(t, err)
		golden(t, name, numbers.Replace(describe(steps)))
	}
	// A cgroup needs root to be made, not to be named.
	dir := experiment.CgroupDir{Path: "/sys/fs/cgroup/machine/web", Inode: 31}
	for name, version := range map[string]string{"freeze-v1": op.FreezerV1, "freeze-v2": op.FreezerV2} {
		golden(t, name, describe([]experiment.Step{{Do: op.NewFreezer(host, dir, version, true), Undo: op.NewFreezer(host, dir, version, false)}}))
	}
}

func describe(steps []experiment.Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("do      " + s.Do.String() + "\n")
		if s.Undo != nil {
			b.WriteString("undo    " + s.Undo.String() + "\n")
		} else {
			b.WriteString("undo    none\n")
		}
		if d, ok := s.Do.(experiment.Backed); ok {
			b.WriteString("backend " + d.Backend() + "\n")
		}
		b.WriteString("handles " + strings.Join(s.Do.(experiment.Handled).Handles(), " ") + "\n")
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (- want, + got):\n%s", path, diff)
	}
}
