package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/engine"
)

// handleFault is SetFault whose steps hold what the test says.
type handleFault struct {
	experimenttest.SetFault
	Holds []string `json:"holds,omitempty" jsonschema:"handles; RUN stands for the run's name, TARGET for the target's"`
}

type handleOp struct {
	experimenttest.SetOp
	Names []string `json:"names"`
}

func (o *handleOp) Handles() []string { return o.Names }

func (f *handleFault) Plan(ctx context.Context, run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	steps, err := f.SetFault.Plan(ctx, run, t)
	for i, s := range steps {
		op := &handleOp{SetOp: *s.Do.(*experimenttest.SetOp)}
		for _, h := range f.Holds {
			op.Names = append(op.Names, strings.NewReplacer("RUN", string(run), "TARGET", t.Name).Replace(h))
		}
		steps[i].Do = op
	}
	return steps, err
}

// planned returns the error that planning gives; nothing is touched.
func planned(t *testing.T, l *lab, spec string) error {
	t.Helper()
	_, err := l.engine.Plan(context.Background(), l.load(spec), "abcd23")
	same(t, "changes", l.injected(), 0)
	if err == nil {
		return nil
	}
	var action *engine.ActionError
	if !errors.As(err, &action) {
		t.Errorf("%T says no action: %v", err, err)
	}
	return err
}

// TestConflictInTime asks when two actions on one thing conflict.
func TestConflictInTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, first, second string
		conflict            bool
	}{
		{"one after the other", "for: 10s", "for: 10s", false},
		{"at once", "for: 10s", "for: 10s, parallel: true", true},
		{"staggered, and overlapping", "for: 10s", "for: 10s, parallel: true, after: 9s", true},
		{"right after the end", "for: 10s", "for: 10s, parallel: true, after: 10s", true},
		{"a second after the end", "for: 10s", "for: 10s, parallel: true, after: 11s", false},
		{"the second is over before", "for: 10s, after: 6s", "for: 5s, parallel: true", false},
		{"the second is not over", "for: 10s, after: 5s", "for: 5s, parallel: true", true},
		{"pulses that meet", "repeat: {pulse: {on: 1s, off: 9s}, times: 2}", "for: 1s, parallel: true, after: 5s", true},
		{"after the last pulse", "repeat: {pulse: {on: 1s, off: 9s}, times: 2}", "for: 1s, parallel: true, after: 12s", false},
	} {
		bubble(t, c.name, func(t *testing.T) {
			err := planned(t, newLab(t, "web-1"), "\n  method:\n    - {name: slow, fault: {type: set}, target: {type: world}, "+c.first+"}\n    - {name: full, fault: {type: set}, target: {type: world}, "+c.second+"}\n")
			if (err != nil) != c.conflict {
				t.Errorf("it gives %v", err)
			}
			if err != nil && !strings.HasPrefix(err.Error(), `"slow" and "full" overlap in time, and both hold setting:`) {
				t.Error(err)
			}
		})
	}
	bubble(t, "the third with the first", func(t *testing.T) {
		err := planned(t, newLab(t, "web-1", "db-1"), `
  method:
    - {name: a, fault: {type: set}, target: {type: world, name: web-1}, for: 10s}
    - {name: b, fault: {type: set}, target: {type: world, name: db-1}, for: 1s, parallel: true}
    - {name: c, fault: {type: set}, target: {type: world, name: web-1}, for: 1s, after: 2s, parallel: true}
`)
		if err == nil || !strings.HasPrefix(err.Error(), `"a" and "c" overlap`) {
			t.Error(err)
		}
	})
	bubble(t, "a run of it touches nothing", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run("\n  method:\n    - {name: a, fault: {type: set}, target: {type: world}, for: 10s}\n    - {name: b, fault: {type: set}, target: {type: world}, for: 1s, parallel: true}\n")
		if o.run != "" || o.err == nil || l.injected() > 0 || len(l.open()) > 0 {
			t.Errorf("run %q: %v", o.run, o.err)
		}
	})
}

// TestConflictOfWhat asks which things are one.
func TestConflictOfWhat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, first, second string
		words               string // "" where they stand beside each other
	}{
		{"one limit", "cgroup:31:/web#cpu.max", "cgroup:31:/web#cpu.max", "cpu.max of cgroup /web"},
		{"two limits", "cgroup:31:/web#cpu.max", "cgroup:31:/web#memory.max", ""},
		{"two cgroups", "cgroup:31:/web#cpu.max", "cgroup:32:/db#cpu.max", ""},
		{"one freezer", "cgroup:31:/web#freezer", "cgroup:31:/web#freezer", "the freezer of cgroup /web"},
		{"two roots on one link", "net:4026533210:7:link:2:root", "net:4026533210:7:link:2:root", "link 2 root in network namespace 4026533210"},
		{"roots of two links", "net:4026533210:7:link:2:root", "net:4026533210:7:link:3:root", ""},
		{"tables of the run's own name", "net:4026533210:7:nft:simian_RUN_1", "net:4026533210:7:nft:simian_RUN_1", ""},
		{"tables of another name", "net:4026533210:7:nft:filter", "net:4026533210:7:nft:filter", "nft filter in network namespace 4026533210"},
		{"links of the run's own name", "net:4026533210:7:link:smRUN0", "net:4026533210:7:link:smRUN0", ""},
		{"one process", "process:812:99#state", "process:812:99#state", "the state of process 812"},
		{"of one process", "nofile:process:812:99", "nofile:process:812:99", "nofile of process 812"},
		{"a whole process", "process:812:99", "process:812:99", "process 812"},
		{"one container", "container:simian:/var/lib/simian/labs/abcd23:web-1#running", "container:simian:/var/lib/simian/labs/abcd23:web-1#running", "the running of container web-1"},
		{"one mount", "mount:4026532210:88:/data", "mount:4026532210:88:/data", "mount /data"},
		{"a network", "net:4026533210:7", "net:4026533210:7", "network namespace 4026533210"},
	} {
		bubble(t, c.name, func(t *testing.T) {
			action := func(name, target, holds, more string) string {
				return "    - {name: " + name + `, fault: {type: handles, holds: ["` + holds + `"]}, target: {type: world, name: ` + target + "}, for: 10s" + more + "}\n"
			}
			l := newLab(t, "web-1", "db-1")
			err := planned(t, l, "\n  method:\n"+action("a", "web-1", c.first, "")+action("b", "db-1", c.second, ", after: 3s, parallel: true"))
			want := ""
			if c.words != "" {
				want = `"a" and "b" overlap in time, and both hold ` + c.words + ": let one begin once the other is over (leave parallel out, or say after: 11s), or let them have other targets"
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			same(t, "error", got, want)
		})
	}
	bubble(t, "what cannot be taken back holds nothing", func(t *testing.T) {
		err := planned(t, newLab(t, "web-1"), `
  method:
    - {name: a, fault: {type: set, noUndo: true, once: true}, target: {type: world}, for: 10s, irreversible: true}
    - {name: b, fault: {type: set}, target: {type: world}, for: 10s, parallel: true}
    - {name: c, fault: {type: set, noUndo: true, once: true}, target: {type: world}, for: 10s, irreversible: true, parallel: true}
`)
		must(t, err)
	})
}

// TestConflictInside: two targets of one action share what it holds.
func TestConflictInside(t *testing.T) {
	t.Parallel()
	for holds, want := range map[string]string{
		"cgroup:31:/all#cpu.max":          "web-2 and web-1 share cpu.max of cgroup /all: what is done to one is done to both, so let it have one of them only",
		"net:4026533210:7:nft:simian_RUN": "web-2 and web-1 share nft simian_abcd23 in network namespace 4026533210: what is done to one is done to both, so let it have one of them only",
		"cgroup:31:/TARGET#cpu.max":       "",
	} {
		bubble(t, holds, func(t *testing.T) {
			err := planned(t, newLab(t, "web-1", "web-2"), "\n  method:\n    - {fault: {type: handles, steps: 2, holds: [\""+holds+"\"]}, target: {type: world, mode: all}, for: 10s}\n  seed: 3\n")
			got := ""
			if err != nil {
				got = err.Error()
			}
			same(t, "error", got, want)
		})
	}
}

// TestConflictAtTheTime: what the file keeps apart may still meet.
func TestConflictAtTheTime(t *testing.T) {
	t.Parallel()
	bubble(t, "the first is not taken back yet", func(t *testing.T) {
		l := newLab(t, "web-1")
		o := l.run(`
  method:
    - {name: slow, fault: {type: set, undo: {slow: 4s}}, target: {type: world}, for: 1s}
    - {name: full, fault: {type: set}, target: {type: world}, for: 1s, after: 3s, parallel: true}
`)
		must(t, o.err)
		o.verdict(t, experiment.Errored)
		if !strings.Contains(o.result.Error, `"slow" and "full" overlap`) || l.injected() != 1 {
			t.Errorf("%q, %d changes", o.result.Error, l.injected())
		}
		o.tidy(t)
	})
	bubble(t, "others are drawn into it later: that strike is left out", func(t *testing.T) {
		l := newLab(t, "web-1", "web-2")
		o := l.run(`
  method:
    - {name: slow, fault: {type: set}, target: {type: world, name: web-1}, for: 2s}
    - {name: wide, fault: {type: set}, target: {type: world}, for: 2s, repeat: {every: 100ms}, parallel: true}
  seed: 2
`)
		must(t, o.err)
		left := 0
		for _, w := range o.warned() {
			if strings.Contains(w, "was left out") && strings.Contains(w, "overlap in time") {
				left++
			}
		}
		if n := o.result.Faults[1].Strikes; left == 0 || n+left != 20 {
			t.Errorf("%d strikes, %d left out", n, left)
		}
		o.verdict(t, experiment.Pass)
		o.tidy(t)
	})
}
