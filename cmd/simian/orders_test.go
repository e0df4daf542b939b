package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/targets/native"
)

// initService heeds a signal as soon as it runs: PID 1 would not.
const initService = "  web:" + container + "command: [sleep]\n    restart: always\n    init: true\n"

func (l *lab) box(name string) native.Box {
	l.t.Helper()
	b, err := l.ps().Box(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func orderOn(fault, hold string) string {
	return fmt.Sprintf("  - {fault: {%s}, target: {type: native, service: web}, for: %s}\n", fault, hold)
}

// TestOrders has runs strike a container by its keeper, which is another
// process: each ends well, with the container as it was, and nobody takes the
// restarts for its own.
func TestOrders(t *testing.T) {
	l := newLab(t)
	l.up(l.compose(initService))
	for _, c := range []struct {
		fault, hold, want string
		starts            int
	}{
		{"type: stop", "800ms", "after SIGTERM (killed by SIGTERM); held down", 1},
		{"type: stop, restartAfter: 200ms", "1s", "started again after 200ms", 1},
		{"type: remove", "800ms", "removed in", 1},
		{"type: capabilities, drop: NET_RAW", "800ms", "without NET_RAW; running", 2},
	} {
		before := l.box("web").Starts
		o := l.expect(0, "run", "-o", "json", l.file(orderOn(c.fault, c.hold), "  lab: {name: shop}\n  recovery: {within: 5s}\n"))
		if !strings.Contains(o.stdout, c.want) || strings.Contains(o.stdout, "came back") {
			t.Errorf("%s:\n%s", c.fault, o.stdout)
		}
		if b := l.box("web"); b.Starts-before != c.starts || b.Process.PID == 0 {
			t.Errorf("%s: %d starts: %+v", c.fault, b.Starts-before, b)
		}
	}
	o := l.expect(0, "run", l.file(orderOn("type: stop", "300ms"), "  lab: {name: shop}\n"))
	t.Logf("%s", o.stdout)
	l.expect(0, "lab", "down", "shop")
}

// TestOrdersInOwnLab does so where the run is the keeper itself.
func TestOrdersInOwnLab(t *testing.T) {
	l := newLab(t)
	spec := "{compose: " + l.compose(initService) + "}"
	for fault, want := range map[string]string{"type: stop": "stop of run", "type: capabilities, drop: [KILL, NET_RAW]": "capabilities of run"} {
		o := l.expect(0, "run", "-o", "json", l.experiment(spec, orderOn(fault, "500ms")))
		var r struct {
			Lab struct {
				Ends []struct{ Container, By, Policy string }
			}
		}
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || len(r.Lab.Ends) == 0 || !strings.HasPrefix(r.Lab.Ends[0].By, want) || r.Lab.Ends[0].Policy != "" {
			t.Errorf("%v %+v\n%s", err, r.Lab, o.stdout)
		}
		l.noLab()
	}
	o := l.expect(0, "run", l.experiment(spec, orderOn("type: stop, restartAfter: 100ms", "500ms")))
	t.Logf("%s", o.stdout)
	l.noLab()
}

// TestRunnerKilledWhileHeld kills the runner while a container is held down, or
// runs without a capability: the guardian takes the order back.
func TestRunnerKilledWhileHeld(t *testing.T) {
	l := newLab(t)
	s := l.up(l.compose(initService))
	for _, fault := range []string{"type: stop", "type: remove", "type: capabilities, drop: NET_RAW"} {
		before := l.box("web").Starts
		c, run := l.startBeside(string(s.Run), experiment.EventInjected, "run", l.file(orderOn(fault, "1h"), "  lab: {name: shop}\n"))
		_ = c.cmd.Process.Kill()
		await(t, "the end of its run", func() bool { return !strings.Contains(l.expect(0, "status").stdout, run) })
		b := l.box("web")
		want := map[bool]int{true: 2, false: 1}[strings.Contains(fault, "capabilities")]
		if b.Process.PID == 0 || b.Starts-before != want {
			t.Errorf("%s: %+v", fault, b)
		}
		l.undoneOnce(t, run)
	}
	l.expect(0, "lab", "down", "shop")
}

// TestKeeperGone has the lab go while a run holds a container of it down.
func TestKeeperGone(t *testing.T) {
	for name, end := range map[string]func(*lab, native.State){
		"killed":     func(_ *lab, s native.State) { _ = unix.Kill(s.Process.PID, unix.SIGKILL) },
		"taken down": func(l *lab, _ native.State) { l.expect(0, "lab", "down", "shop") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := l.up(l.compose(initService))
			c, run := l.startBeside(string(s.Run), experiment.EventInjected, "run", l.file(orderOn("type: stop", "1s"), "  lab: {name: shop}\n  recovery: {within: 1s}\n"))
			end(l, s)
			start := time.Now()
			<-c.done
			if time.Since(start) > 8*time.Second {
				t.Errorf("its end took %s", time.Since(start))
			}
			t.Logf("%s", c.out.String())
			l.noLab()
			l.undoneOnce(t, run)
		})
	}
}
