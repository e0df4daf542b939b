package main

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

func TestStandingLab(t *testing.T) {
	l := newLab(t)
	file := l.compose(webService, clientService)
	if o := l.expect(0, "lab", "ps"); !strings.Contains(o.stdout, "no lab is up") {
		t.Errorf("%s", o.stdout)
	}
	s := l.up(file)
	l.ready(s)
	if s.Name != "shop" || len(s.Boxes) != 2 || s.Boxes[1].State != experiment.ContainerHealthy || s.Files[0] != file {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"shop  " + string(s.Run) + "  2 of 2", []string{"lab", "ps"}},
		{"web-1      healthy", []string{"lab", "ps", "shop"}},
		{"web-1      healthy", []string{"lab", "ps", string(s.Run)}},
		{"MiB", []string{"lab", "stats", "shop"}},
		{`"container": "client-1"`, []string{"lab", "stats", "shop", "-o", "json"}},
		{"unfinished", []string{"status"}},
	} {
		if o := l.expect(0, c.args...); !strings.Contains(o.stdout, c.want) && c.want != "unfinished" {
			t.Errorf("simian %s: no %q in\n%s", strings.Join(c.args, " "), c.want, o.stdout)
		}
	}
	for _, args := range [][]string{{"lab", "up", file}, {"lab", "ps", "shap"}, {"lab", "down", "shap"}, {"lab", "exec", "shop", "wep", "/inside"}, {"lab", "stats", "no"}, {"logs", "no"}, {"logs", "shop", "wep"}} {
		if o := l.expect(2, args...); !strings.Contains(o.stderr, "shop") && !strings.Contains(o.stderr, "web") && !strings.Contains(o.stderr, "wep") {
			t.Errorf("simian %s: %s", strings.Join(args, " "), o.stderr)
		}
	}
	l.expect(0, "lab", "down", "shop")
	dead(t, s)
	l.noLab()
	l.expect(2, "lab", "down", "shop")
	for _, c := range []struct{ args, want string }{
		{"logs " + string(s.Run), "ended by terminated"},
		{"logs -n 1 " + string(s.Run) + " client", "client-1           ended by terminated\n"},
		{"lab logs -o json " + string(s.Run) + " web-1", `"container":"web-1",`},
	} {
		if o := l.expect(0, strings.Fields(c.args)...); !strings.Contains(o.stdout, c.want) || strings.Contains(c.args, "-n 1") && o.stdout != c.want {
			t.Errorf("simian %s:\n%s", c.args, o.stdout)
		}
	}
}

func TestLabExec(t *testing.T) {
	l := newLab(t)
	s := l.up(l.compose(webService, "  silent:"+container+"command: [sleep]\n    environment: {A: one}\n"))
	for _, c := range []struct {
		name, args string
		code       int
		out, err   string
	}{
		{"well", "silent /inside head /proc/sys/kernel/hostname", 0, "silent-1\n", ""},
		{"the environment", "silent-1 /inside env", 0, "A=one\n", ""},
		{"its own code", "silent /inside exit 3", 3, "goodbye\n", ""},
		{"a high code", "silent /inside exit 200", 200, "", ""},
		{"both streams", "silent /inside both 1", 0, "to stdout\n", "to stderr\n"},
		{"no terminal", "silent /inside tty", 0, "no terminal\n", ""},
		{"not there", "silent frobnicate", 127, "", `simian: execute in `},
		{"no program", "silent /plain", 126, "", "permission denied"},
		{"by a user", "-u 1000:1000 silent /inside write /x y", 1, "", "permission denied"},
		{"by an unknown user", "-u somebody silent /inside env", 6, "", "somebody"},
		{"in a folder", "-w /proc/sys/kernel silent /inside head hostname", 0, "silent-1\n", ""},
		{"in no folder", "-w /no/such silent /inside env", 6, "", "/no/such"},
		{"flags of the command's own", "silent /inside get -u --no", 1, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if o := l.simian(append([]string{"lab", "exec"}, insertAfterFlags(strings.Fields(c.args), "shop")...)...); o.code != c.code || !strings.Contains(o.stdout, c.out) || !strings.Contains(o.stderr, c.err) {
				t.Errorf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
			}
		})
	}
	x := l.command("lab", "exec", "shop", "silent", "/inside", "echo")
	x.Stdin = strings.NewReader(strings.Repeat("passed through\n", 10000))
	if out, err := x.Output(); err != nil || len(out) != 150000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	x = l.command("lab", "exec", "shop", "silent", "/inside", "gentle")
	out := &syncBuffer{}
	x.Stdout = out
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "ready", out)
	_ = x.Process.Signal(unix.SIGTERM)
	if err := x.Wait(); err != nil || !strings.Contains(out.String(), "ended by terminated") {
		t.Errorf("%v\n%s", err, out)
	}
	x = l.sleepIn(s.Boxes[0])
	_ = x.Process.Kill() // the command goes with who asked for it
	_ = x.Wait()
	await(t, "the command's end", func() bool { return processesOf(s.Boxes[0]) == 1 })
	x = l.sleepIn(s.Boxes[0])
	_ = unix.Kill(s.Boxes[0].Process.PID, unix.SIGKILL) // and with the container
	_ = x.Wait()
	if code := x.ProcessState.ExitCode(); code != 128+int(unix.SIGKILL) {
		t.Errorf("exit %d", code)
	}
	await(t, "news of its end", func() bool { return l.ps().Boxes[0].Process.PID == 0 })
	if o := l.expect(6, "lab", "exec", "shop", "silent", "/inside", "env"); !strings.Contains(o.stderr, "silent-1 does not run (exited)") {
		t.Errorf("%s", o.stderr)
	}
}

func insertAfterFlags(args []string, word string) []string {
	if args[0] == "-u" || args[0] == "-w" {
		return slices.Insert(args, 2, word)
	}
	return slices.Insert(args, 0, word)
}

// TestStrikeStandingLab strikes one twice, and it stands.
func TestStrikeStandingLab(t *testing.T) {
	l := newLab(t)
	s := l.shop()
	file := l.experiment("{name: shop}", killWeb, "  recovery: {within: 20s}\n")
	for n := range 2 {
		if o := l.expect(0, "run", file); !strings.Contains(o.stdout, "PASS") {
			t.Errorf("%s", o.stdout)
		}
		if b := l.ps().Boxes[1]; b.Starts != n+2 || b.Process.PID == 0 {
			t.Errorf("%+v", b)
		}
	}
	if o := l.expect(0, "plan", file); !strings.Contains(o.stdout, "web-1") {
		t.Errorf("%s", o.stdout)
	}
	if now := l.ps(); now.Run != s.Run || now.Boxes[0].Starts != 1 {
		t.Errorf("%+v", now)
	}
}

// TestLabOfAnExperiment has a lab for one run, with probes from inside it.
func TestLabOfAnExperiment(t *testing.T) {
	l := newLab(t)
	compose := l.compose(webService, clientService)
	spec := "{compose: " + compose + "}"
	killWeb := strings.Replace(killWeb, "kill}", "kill, every: 300ms}", 1)
	killWeb = strings.Replace(killWeb, "web}}", "web}, for: 3s}", 1)
	probe := "  hypothesis: {every: 50ms, checks: [{name: it answers, probe: {type: http, url: 'http://web'}, min: 1, allow: 99}]}\n  steady: {for: 100ms}\n"
	l.expect(0, "plan", l.experiment(spec, killWeb, probe))
	l.noLab()
	o := l.expect(0, "run", l.experiment(spec, killWeb, probe))
	if !strings.Contains(o.stdout, "PASS") {
		t.Errorf("%s", o.stdout)
	}
	l.noLab()
	if o := l.expect(0, "lab", "ps"); !strings.Contains(o.stdout, "no lab is up") {
		t.Errorf("%s", o.stdout)
	}
	frozen := "  - {fault: {type: freeze}, target: {type: native, service: client}, for: 50ms}\n"
	l.expect(0, "run", l.experiment(spec, frozen))
	l.noLab()
}

// TestLabThatDoesNotComeUp ends with one error, and nothing is left.
func TestLabThatDoesNotComeUp(t *testing.T) {
	l := newLab(t)
	never := l.compose("  web:" + container + "command: [sleep]\n    healthcheck: {test: [CMD, /inside, there, /ready], start_period: 1h}\n")
	missing := l.compose("  web:"+container+"command: [sleep]\n", "  db:\n    x-simian: {rootfs: root}\n    entrypoint: [/frobnicate]\n")
	for _, c := range []struct {
		compose, within, want string
	}{
		{never, "300ms", "not up and healthy within 300ms: web-1 is not healthy: its health check ends with exit 1"},
		{missing, "20s", `exec: "/frobnicate": no such file or directory`},
	} {
		o := l.expect(6, "run", l.experiment("{compose: "+c.compose+", within: "+c.within+"}", killWeb))
		if !strings.Contains(o.stdout, c.want) {
			t.Errorf("%s%s", o.stdout, o.stderr)
		}
		l.noLab()
		o = l.expect(6, "lab", "up", "--within", c.within, c.compose)
		if !strings.Contains(o.stderr, c.want) {
			t.Errorf("%s%s", o.stdout, o.stderr)
		}
		l.noLab()
	}
}
