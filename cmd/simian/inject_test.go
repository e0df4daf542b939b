package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestInjectPrint has flags make files that validate accepts and that mean
// what the flags say.
func TestInjectPrint(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for name, c := range map[string]struct {
		args string
		want []string
	}{
		"latency": {
			"latency --process nginx --delay 100ms --for 30s --loss 5 --ports 5432,8000-9000 --on-existing replace",
			[]string{"name: inject-latency", "type: latency", "delay: 100ms", "loss: 5", "name: nginx", "for: 30s", "onExisting: replace"},
		},
		"camel case": {"latency --process nginx --delay 1ms --for 1s --onExisting refuse", []string{"onExisting: refuse"}},
		"pid":        {"freeze --process 812 --for 10s", []string{"type: process", "pid: 812"}},
		"names":      {"kill --native web,db --lab shop --mode all --irreversible", []string{"lab:", "name: shop", "names: [web, db]", "mode: all", "irreversible: true"}},
		"pattern":    {"kill --native re2:web-.* --lab shop --mode fixed:2", []string{`names: ["re2:web-.*"]`, "mode: fixed", "count: 2"}},
		"labels":     {"kill --native app=web,!canary --lab shop --mode fixed-percent:50", []string{`labels: "app=web,!canary"`, "percent: 50"}},
		"groups":     {"kill --native= --lab shop --group-by workload --seed 7 --blast-targets 2 --blast-percent 50 --min-healthy 1", []string{"groupBy: workload", "seed: 7", "targets: 2", "percent: 50", "minHealthy: 1"}},
		"set":        {"latency --process nginx --for 1s --set loss.percent=5 --set loss.correlation=25", []string{"loss:", "percent: 5", "correlation: 25"}},
		"target":     {"freeze --target type=process --target port=80 --for 1s --after 2s", []string{"type: process", "port: 80", "after: 2s"}},
		"clash":      {"kill --process nginx --kill-process worker --irreversible", []string{"process: worker", "name: nginx"}},
		"recovery":   {"kill --process nginx --irreversible --recovery 1s", []string{"recovery:", "within: 1s"}},
		"text":       {"kill --process true --pattern 12 --irreversible", []string{`pattern: "12"`, `name: "true"`}},
		"reference":  {"kill --process ${x} --irreversible", []string{`name: "$${x}"`}},
		"to":         {"latency --process nginx --delay 1ms --for 1s --to process:redis", []string{"to:", "name: redis"}},
		"command":    {"exec --process nginx --command touch --command /tmp/a,b --for 1s --irreversible", []string{`command: [touch, "/tmp/a,b"]`}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{"inject"}, strings.Fields(c.args)...), "--print")
			printed := l.expect(0, args...).stdout
			for _, want := range c.want {
				if !strings.Contains(printed, want) {
					t.Errorf("it lacks %s:\n%s", want, printed)
				}
			}
			file := filepath.Join(t.TempDir(), "x.yaml")
			if err := os.WriteFile(file, []byte(printed), 0o600); err != nil {
				t.Fatal(err)
			}
			l.expect(0, "validate", file)
		})
	}
}

// TestInjectRefuses names the flag, and touches nothing.
func TestInjectRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for args, want := range map[string]string{
		"":                            "FAULT is missing",
		"latncy --process x":          `unknown fault "latncy" (did you mean "latency"?)`,
		"freeze --for 1s":             "no target: say which, with one of --",
		"freeze --process x":          "for is missing",
		"freeze --process x --for 10": "--for: want a duration such as 250ms or 10s, not a number",
		"latency --process x --delay 1x --for 1s": `--delay: latency: "1x" is not a duration`,
		"latency --process x --dely 1s":           "unknown flag: --dely",
		"kill --process x --signal FOO":           `--signal: kill: unknown signal "FOO"`,
		"kill --process x --recovery 1":           "--recovery: want a duration",
		"kill --process x --mode some":            `--mode: process: unknown mode "some"`,
		"kill --process x --group-by team":        `--group-by: process: "team" groups nothing`,
		"kill --process 1 --process 2":            "--process is given twice",
		"kill --process x --native y":             "one type of target at a time",
		"kill --native web":                       "say which one stands, with --lab NAME",
		"kill --process x --target prot=80":       `--process: process: unknown field "prot" (did you mean "port"?)`,
		"kill --process x --set signal":           "--set signal: want path=value",
		"kill --process x --blast-percent 101":    "--blast-percent: 101 is not a percentage",
		"kill --process 1 --irreversible":         "--process: pid 1 is the host's init: protected",
		"kill --process no-such-one":              `--process: no target matches: no running process has name "no-such-one"`,
		"kill --process x extra":                  `unknown argument "extra"`,
		"freeze --process x --for 2h":             "--for: 2h0m0s is longer than 1h0m0s: say --long",
	} {
		o := l.simian(append([]string{"inject"}, strings.Fields(args)...)...)
		if o.code != 2 || !strings.Contains(o.stderr, want) {
			t.Errorf("%s: exit %d, %s\nwant %s", args, o.code, o.stderr, want)
		}
	}
	if done, _ := filepath.Glob(filepath.Join(l.dir, "done", "*")); len(done) > 0 {
		t.Errorf("a run was begun: %v", done)
	}
}

// TestInject freezes a process, and takes it back.
func TestInject(t *testing.T) {
	t.Parallel()
	l, s := newLab(t), newSleeper(t)
	o := l.expect(0, "inject", "freeze", "--process", fmt.Sprint(s.pid), "--for", "50ms", "-o", "json")
	var r struct {
		Verdict, Experiment string
		Faults              []struct{ Type string }
	}
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || r.Verdict != "pass" || r.Experiment != "inject-freeze" || r.Faults[0].Type != "freeze" {
		t.Errorf("%v: %s", err, o.stdout)
	}
	s.runs(t)
	l.clean()
}

// TestInjectKill ends a process that nothing starts again: by the rule of all
// runs that is not put back.
func TestInjectKill(t *testing.T) {
	t.Parallel()
	l, s := newLab(t), newSleeper(t)
	o := l.simian("inject", "kill", "--process", fmt.Sprint(s.pid), "--irreversible", "--recovery", "10ms")
	if o.code != 4 || !strings.Contains(o.stdout, " running; by hand: start 1") {
		t.Errorf("exit %d: %s%s", o.code, o.stdout, o.stderr)
	}
	l.clean()
}

// TestInjectCompletes completes faults and flags.
func TestInjectCompletes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for args, want := range map[string]string{
		"inject fre":               "freeze",
		"inject latency --del":     "--delay",
		"inject freeze --mode fix": "fixed:",
		"targets pro":              "process",
	} {
		if o := l.expect(0, append([]string{"__complete"}, strings.Fields(args)...)...); !strings.Contains(o.stdout, want) {
			t.Errorf("%s: %s", args, o.stdout)
		}
	}
	if o := l.expect(0, "inject", "latency", "--help"); !strings.Contains(o.stdout, "Its fields: ") || !strings.Contains(o.stdout, "one way, added to each packet") {
		t.Error(o.stdout)
	}
}
