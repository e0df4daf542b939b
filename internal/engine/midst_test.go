package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TestInTheMidst has something go wrong while faults are on: it is reported,
// and everything else is put back. The first action is on db-1, and well.
func TestInTheMidst(t *testing.T) {
	t.Parallel()
	const second = "{name: b, fault: {type: set, steps: 3%s}, target: {type: aged, name: \"web-*\", mode: all}, for: 2s, after: 1s, parallel: true}"
	for _, c := range []struct {
		name, fault string
		at          string
		then        func(l *lab)
		verdict     experiment.Verdict
		says        string // an event, a warning, a reason or the error
		lasts       time.Duration
		gone        []string // settings that are not there any more
	}{
		{
			name: "a target dies, and nobody starts it again", at: "injected 2", then: func(l *lab) { l.leave("web-1") },
			verdict: experiment.Residue, says: "web has 1 of 2 running; by hand: start 1", lasts: 3 * time.Second,
		},
		{
			name: "a target dies while it is struck", at: "applied 2", then: func(l *lab) { l.leave("web-1"); l.leave("web-2") },
			verdict: experiment.Residue, says: "b was not in force: select web-*: no target matches", lasts: time.Second,
		},
		{
			name: "what an op has changed vanishes, as a cgroup does", at: "injected 2", then: func(l *lab) { l.vanish("web-1/2") },
			verdict: experiment.Pass, says: "the target left while the fault was on", lasts: 3 * time.Second, gone: []string{"web-1/2"},
		},
		{
			name: "what an op is about to change vanishes", at: "applied 2", then: func(l *lab) { l.vanish("web-1/3"); l.vanish("web-2/3") },
			verdict: experiment.NotInjected, says: "no other of web is there", lasts: time.Second, gone: []string{"web-1/3", "web-2/3"},
		},
		{
			name: "the disk is full", fault: fmt.Sprintf(", do: {errno: %d}", syscall.ENOSPC),
			verdict: experiment.Errored, says: "no space left on device", lasts: time.Second,
		},
		{
			name: "a controller is not mounted", fault: fmt.Sprintf(", do: {errno: %d}", syscall.ENODEV),
			verdict: experiment.Errored, says: "no such device", lasts: time.Second,
		},
		{
			name: "it is read-only by now", fault: fmt.Sprintf(", do: {errno: %d}", syscall.EROFS),
			verdict: experiment.Errored, says: "read-only file system", lasts: time.Second,
		},
		{
			name: "it cannot be taken back at first", fault: ", undo: {failFor: 4}",
			verdict: experiment.Pass, says: "undofail", lasts: 4 * time.Second,
		},
		{
			name: "somebody puts it back", at: "injected 2", then: func(l *lab) { must(l.t, l.world.Set("web-2/2", "ok")) },
			verdict: experiment.NotInjected, says: "no longer in force at the end", lasts: 3 * time.Second,
		},
	} {
		bubble(t, c.name, func(t *testing.T) {
			l := newLab(t, "web-1", "web-2", "db-1")
			if c.at != "" {
				l.once(c.at, func(*experiment.Event) { c.then(l) })
			}
			o := l.run("\n  method:\n    - {name: a, fault: {type: set}, target: {type: world, name: db-1}, for: 3s}\n    - " + fmt.Sprintf(second, c.fault) + "\n  recovery: {within: 1s}\n")
			must(t, o.err)
			o.verdict(t, c.verdict)
			said := strings.Join(slices.Concat(o.tape(), o.warned(), o.result.Reasons, o.result.Residue, []string{o.result.Error}), "\n")
			if !strings.Contains(said, c.says) {
				t.Errorf("nobody says %q:\n%s", c.says, said)
			}
			if !o.has("reverted 1") || l.world.Value("db-1/1") != "ok" {
				t.Errorf("the other action's: %q", l.world.Value("db-1/1"))
			}
			if took := o.find(experiment.EventTakeBack)[len(o.find(experiment.EventTakeBack))-1].Boot.Sub(o.find(experiment.EventInjected)[0].Boot); took > c.lasts {
				t.Errorf("it went on for %s", took)
			}
			for _, s := range c.gone {
				if l.world.Value(s) != "" {
					t.Errorf("%s is there", s)
				}
			}
			if c.verdict == experiment.Residue {
				l.allOK(t)
				return
			}
			o.tidy(t)
		})
	}
}
