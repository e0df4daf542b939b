package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata")

const booted = mark + "boot 6.1.0-56-cloud-amd64 cpu io memory\n"

// Each case is what a machine that runs p/one and p/two prints; its golden file
// is what becomes of it.
func TestReport(t *testing.T) {
	t.Parallel()
	passing := mark + "begin p/one\n=== RUN   TestA\n--- PASS: TestA (0.00s)\nPASS\n\n" + mark + "end p/one 0\n"
	two := strings.ReplaceAll(passing, "p/one", "p/two") + mark + "done\n"
	for name, c := range map[string]struct {
		said    string
		err     error
		verbose bool
		maySkip string
		ok      bool
		again   string // the tests that may be run once more
	}{
		"passed":  {said: booted + passing + two, ok: true},
		"verbose": {said: booted + passing + two, ok: true, verbose: true},
		"failed": {said: booted + mark + "begin p/one\n" +
			"=== RUN   TestA\n=== PAUSE TestA\n=== RUN   TestB\n    b_test.go:3: of b\n=== RUN   TestB/sub\n    b_test.go:4: of sub\n" +
			"=== NAME  TestB\n    b_test.go:5: b again\n--- FAIL: TestB (0.01s)\n    --- FAIL: TestB/sub (0.00s)\n" +
			"=== CONT  TestA\n    a_test.go:1: of a\n--- PASS: TestA (1.00s)\nFAIL\n\n" + mark + "end p/one 1\n" + two, again: "map[p/one:[TestB]]"},
		"skipped": {said: booted + mark + "begin p/one\n" +
			"=== RUN   TestA\n    a_test.go:1: no cgroup v1: go away\n--- SKIP: TestA (0.00s)\n" +
			"=== RUN   TestB\n    b_test.go:17: no cgroup v1: go away\n--- SKIP: TestB (0.00s)\n" +
			"=== RUN   TestC\n--- SKIP: TestC (0.00s)\nPASS\n\n" + mark + "end p/one 0\n" + two, ok: true},
		"skipped for a wrong reason": {said: booted + mark + "begin p/one\n" +
			"=== RUN   TestA\n    a_test.go:1: no cgroup v1\n--- SKIP: TestA (0.00s)\n" +
			"=== RUN   TestB\n    b_test.go:2: no netem\n--- SKIP: TestB (0.00s)\nPASS\n\n" + mark + "end p/one 0\n" + two, maySkip: "cgroup v1"},
		"panic in a test": {said: booted + mark + "begin p/one\n" +
			"=== RUN   TestA\npanic: nil map\n\ngoroutine 7 [running]:\n\n" + mark + "end p/one 2\n" + two},
		"no test ran":    {said: booted + mark + "begin p/one\nsh: ./vm.test: not found\n\n" + mark + "end p/one 127\n" + two},
		"printed glued":  {said: booted + mark + "begin p/one\n=== RUN   TestA\nready--- FAIL: TestA (0.00s)\nFAIL" + mark + "end p/one 1\n" + two, again: "map[p/one:[TestA]]"},
		"left behind":    {said: booted + strings.Replace(passing, mark+"end", mark+"left cgroup /sys/fs/cgroup/x\n"+mark+"end", 1) + two},
		"module missing": {said: mark + "lost module /lab/module/veth.ko\n" + booted + passing + two},
		"command":        {said: booted + mark + "run\nit says\n" + mark + "ran 0\n" + mark + "done\n", ok: true},
		"command failed": {said: booted + mark + "run\nit says" + mark + "ran 3\n" + mark + "done\n"},
		"machine ended": {
			said: booted + passing + mark + "begin p/two\n=== RUN   TestA\n    a_test.go:1: about to\n",
			err:  errors.New("the kernel says:\nKernel panic - not syncing"),
		},
		"ended between two": {said: booted + passing},
		"never booted":      {said: "init: not found\n", err: errors.New("end the machine: no test ran within 1m0s")},
		"not to its end":    {said: booted + passing + strings.TrimSuffix(two, mark+"done\n")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			r := newReport(&b, c.verbose, nil)
			if c.maySkip != "" {
				r.maySkip = regexp.MustCompile(c.maySkip)
			}
			r.now = func() time.Time { return r.start.Add(1500 * time.Millisecond) }
			for _, pkg := range []string{"p/one", "p/two"} {
				r.expect(binary{pkg: pkg, path: "x"})
			}
			r.expect(binary{pkg: "p/none"})
			for line := range lines(strings.NewReader(c.said)) {
				r.line(line)
			}
			if ok := r.conclude(c.err); ok != c.ok {
				t.Errorf("it is all well: %v", ok)
			}
			if again := r.flaky(); len(again) > 0 && fmt.Sprint(again) != c.again || len(again) == 0 && c.again != "" {
				t.Errorf("once more: %v, want %s", again, c.again)
			}
			golden(t, strings.ReplaceAll(name, " ", "-"), b.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if d := cmp.Diff(string(want), got); d != "" {
		t.Error(d)
	}
}
