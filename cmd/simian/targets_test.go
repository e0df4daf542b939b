package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// TestTargets lists this test itself, which listens, and is out: it is an
// ancestor of Simian.
func TestTargets(t *testing.T) {
	t.Parallel()
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	l := newLab(t)
	o := l.expect(0, "targets", "process", "-o", "json")
	var rows []experiment.Listed
	if err := json.Unmarshal([]byte(o.stdout), &rows); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(in.Addr().String())
	var found bool
	for _, row := range rows {
		if row.PID == os.Getpid() && strings.Contains(row.Name, ":"+port) {
			found = true
			if row.Protected == "" || row.Out == "" || row.Kind != "process" || row.Workload == "" {
				t.Errorf("%+v", row)
			}
		}
	}
	if !found && !strings.Contains(o.stdout, ".service") {
		t.Errorf("the test is not there: %s", o.stdout)
	}
	if o := l.expect(0, "targets", "process", "-o", "wide"); !strings.Contains(o.stdout, "CGROUP") || !strings.Contains(o.stdout, "of them out") {
		t.Error(o.stdout)
	}
	if o := l.expect(2, "targets", "pro"); !strings.Contains(o.stderr, "types: ") {
		t.Error(o.stderr)
	}
	if o := l.expect(2, "targets", "-o", "xml"); !strings.Contains(o.stderr, "formats: text wide json") {
		t.Error(o.stderr)
	}
}

// TestWatched tells what came, changed and went, with nothing raw in it.
func TestWatched(t *testing.T) {
	t.Parallel()
	web, db := experiment.Listed{Kind: "docker", Name: "web\x1b[2J", PID: 7}, experiment.Listed{Kind: "docker", Name: "db"}
	var b strings.Builder
	step := func(before map[string]experiment.Listed, format string, rows ...experiment.Listed) map[string]experiment.Listed {
		t.Helper()
		now, err := inventory{rows: rows}.changes(&b, before, format)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	now := step(nil, "text", web)
	now = step(now, "text", web)
	now = step(now, "text", web, db)
	out := web
	out.Out = "exited"
	now = step(now, "text", out, db)
	now = step(now, "text", db)
	step(now, "json")
	want := `+ docker  web\x1b[2J  –  7  –
+ docker  db  –  –  –
~ docker  web\x1b[2J  –  7  exited
- docker  web\x1b[2J  –  7  gone
{"kind":"docker","name":"db","out":"gone"}
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestWithoutTwins(t *testing.T) {
	t.Parallel()
	lab := experiment.Listed{Kind: "native", Name: "web-1", PID: 7, Cgroup: "/simian-abcdef/web-1"}
	alone := experiment.Listed{Kind: "process", Name: "nginx", PID: 9, Cgroup: "/system.slice/nginx.service"}
	got := withoutTwins([]experiment.Listed{
		lab, {Kind: "process", Name: "web", PID: 7}, {Kind: "process", Name: "web :80", PID: 8, Cgroup: "/simian-abcdef/web-1"}, alone,
	})
	if d := cmp.Diff([]experiment.Listed{lab, alone}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestRowsOf lists what a selector found that can do no more than select.
func TestRowsOf(t *testing.T) {
	t.Parallel()
	a, s := newApp(nil, nil, nil), newSleeper(t)
	target, err := a.fs.Target(s.pid)
	if err != nil {
		t.Fatal(err)
	}
	target.Name, target.Workload, target.Runtime = "web", "shop/web", &experiment.RuntimeRef{Runtime: "docker"}
	kept := target
	kept.Labels = map[string]string{"simian.dev/protect": "true"}
	want := []experiment.Listed{
		{Kind: "docker", Name: "web", Workload: "shop/web", Runtime: "docker", PID: s.pid, Cgroup: a.cgroupOf(s.pid)},
		{Kind: "docker", Name: "web", Workload: "shop/web", Runtime: "docker", PID: s.pid, Cgroup: a.cgroupOf(s.pid), Protected: "web has the label simian.dev/protect=true", Out: "protected"},
	}
	if d := cmp.Diff(want, a.rowsOf(t.Context(), "docker", []experiment.Target{target, kept})); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestLook adds what the kernel knows of a row's process, and leaves one that is
// out already as it is.
func TestLook(t *testing.T) {
	t.Parallel()
	a, s := newApp(nil, nil, nil), newSleeper(t)
	for name, c := range map[string]struct {
		pid       int
		out       string
		protected bool
	}{
		"free": {s.pid, "", false}, "an ancestor": {os.Getpid(), "", true}, "paused": {os.Getpid(), "paused", false}, "no process": {0, "exited", false},
	} {
		l := experiment.Listed{Kind: "docker", Name: "web", PID: c.pid, Out: c.out}
		a.look(t.Context(), &l)
		if (l.Protected != "") != c.protected || c.out != "" && l.Out != c.out || (l.Cgroup != "") != (c.pid > 0) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// TestWatch looks again until it is interrupted.
func TestWatch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := l.command("targets", "process", "--watch", "-o", "json")
	var out, errs syncBuffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(in.Addr().String())
	await(t, "the port", func() bool { return strings.Contains(out.String(), ":"+port) })
	in.Close()
	_ = c.Process.Signal(os.Interrupt)
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, errs.String())
	}
}
