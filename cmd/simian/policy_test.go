package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicy holds run, inject and plan to the host's policy, by the same path
// as on a host, but under a name that only a test can give.
func TestPolicy(t *testing.T) {
	t.Parallel()
	s := newSleeper(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file, x := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "x.yaml")
	if err := os.WriteFile(x, []byte("apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: test}\nspec:\n  method:\n"+freeze(s.pid, "50ms")), 0o600); err != nil {
		t.Fatal(err)
	}
	simian := func(args ...string) (code int, text string) {
		var out bytes.Buffer
		a := newApp(strings.NewReader(""), &out, &out)
		a.policy, a.policyOwner, a.dir = file, os.Geteuid(), filepath.Join(dir, "state")
		code = a.run(context.Background(), append([]string{"--state", a.dir}, args...))
		return code, out.String()
	}
	inject := []string{"inject", "freeze", "--process", fmt.Sprint(s.pid), "--for", "50ms"}
	for _, c := range []struct {
		spec string
		args []string
		code int
		want string
	}{
		{"  faults: [latency]\n", []string{"run", x}, 6, "fault freeze is not allowed on this host: latency are"},
		{"  faults: [latency]\n", []string{"plan", x}, 6, "fault freeze is not allowed"},
		{"  faults: [latency]\n", inject, 6, "fault freeze is not allowed"},
		{"  runtimes: [native]\n", inject, 6, "targets of type process are not allowed"},
		{"  requireOptIn: true\n", inject, 6, "has not opted in"},
		{"  blastRadius: {targets: 1}\n", append(inject, "--blast-targets", "2"), 6, "2 targets are more than the 1 allowed"},
		{"  faults: [freze]\n", inject, 6, `nothing is called "freze" (did you mean "freeze"?)`},
		{"  fault: [freeze]\n", inject, 6, `unknown field "fault" (did you mean "faults"?)`},
		{"  faults: [freeze]\n", []string{"plan", x}, 0, "nothing was changed"},
		{"  faults: [freeze]\n  blastRadius: {targets: 1}\n", []string{"check"}, 0, "faults freeze; blast radius 1"},
	} {
		if err := os.WriteFile(file, []byte("apiVersion: simian.dev/v1\nkind: Policy\nspec:\n"+c.spec), 0o644); err != nil {
			t.Fatal(err)
		}
		code, text := simian(c.args...)
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s%v: exit %d\n%s\nwant exit %d, %s", c.spec, c.args, code, text, c.code, c.want)
		}
		if code == 6 && !strings.Contains(text, file+":4") {
			t.Errorf("%s: the place in the policy is not named: %s", c.spec, text)
		}
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if code, text := simian(inject...); code != 6 || !strings.Contains(text, "may be written by others") {
		t.Errorf("exit %d: %s", code, text)
	}
	if done, _ := filepath.Glob(filepath.Join(dir, "state", "done", "*")); len(done) > 0 {
		t.Errorf("a run was begun: %v", done)
	}
	s.runs(t)
}
