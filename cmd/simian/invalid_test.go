package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestInvalidFiles runs every file that Simian must refuse, with the real
// faults, targets and probes. The text beside it is all that is said, and
// nothing is touched. (experiment/testdata has the ones about the format.)
func TestInvalidFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			o := l.simian("run", file)
			got := fmt.Sprintf("exit %d\n%s%s", o.code, o.stdout, o.stderr)
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if done, _ := filepath.Glob(filepath.Join(l.dir, "done", "*")); len(done) > 0 {
				t.Errorf("a run was begun: %v", done)
			}
			l.clean()
		})
	}
}

// TestNotRoot breaks somebody else's process without being root.
func TestNotRoot(t *testing.T) {
	needRoot(t)
	s := newSleeper(t)
	dir, err := os.MkdirTemp("", "simian-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	for name, method := range map[string]string{
		"freeze": freeze(s.pid, "1s"),
		"kill":   fmt.Sprintf("  - {fault: {type: kill}, target: {type: process, pid: %d}, irreversible: true}\n", s.pid),
	} {
		t.Run(name, func(t *testing.T) {
			l := &lab{t: t, dir: filepath.Join(dir, "state")}
			file := filepath.Join(dir, name+".yaml")
			if err := os.WriteFile(file, []byte("apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: test}\nspec:\n  method:\n"+method), 0o644); err != nil {
				t.Fatal(err)
			}
			l.user = &syscall.Credential{Uid: 65534, Gid: 65534}
			o := l.simian("run", file)
			if o.code != 6 || !strings.Contains(o.stderr, file+":6: spec.method[0].fault") || !strings.Contains(o.stderr, "needs root") {
				t.Errorf("exit %d, want 6\n%s%s", o.code, o.stdout, o.stderr)
			}
			s.runs(t)
			l.clean()
		})
	}
}

// TestWithoutRoot runs a whole experiment as an ordinary user, on a process of
// that user's.
func TestWithoutRoot(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("", "simian-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	s := newSleeperAs(t, nobody)
	file := filepath.Join(dir, "own.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: test}\nspec:\n  method:\n"+freeze(s.pid, "50ms")), 0o644); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, dir: filepath.Join(dir, "state"), user: nobody}
	o := l.expect(0, "run", file)
	if !strings.Contains(o.stdout, "PASS") {
		t.Error(o.stdout)
	}
	l.clean()
	s.runs(t)
}
