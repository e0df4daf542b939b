package experiment_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// load loads a file of testdata, which must be valid.
func load(t testing.TB, name string, set map[string]string) *experiment.Experiment {
	t.Helper()
	e, err := loader().LoadFile(filepath.Join("testdata", name), set)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestValid(t *testing.T) {
	t.Parallel()
	for _, name := range names(t, "valid-*.yaml") {
		load(t, name, nil)
	}
}

func TestLoadAll(t *testing.T) {
	t.Parallel()
	e := load(t, "valid-all.yaml", nil)
	home, probe := e.Spec.Traffic[0], e.Spec.Hypothesis.Checks[4].Probe.(*httpProbe)
	slow, second := e.Spec.Method[2].Fault.(*latency), e.Spec.Method[1]
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"a parameter within a text", home.URL, "http://ann:s3cret@127.0.0.1:8080/?token=${NOT_ONE}"},
		{"an escaped reference", home.Headers["X-Cost"], "${PRICE}"},
		{"text beyond ASCII", home.Body, "ünïcode"},
		{"a rate in minutes", e.Spec.Traffic[1].Rate, experiment.Rate(0.25)},
		{"a rate in seconds", home.Rate, experiment.Rate(50)},
		{"what a constructor sets", probe.Status, 200},
		{"hexadecimal, octal and grouped numbers", probe.Expect, []int{200, 202, 204}},
		{"text that is quoted", e.Metadata.Labels["tier"], "2"},
		{"no steady state", *e.Spec.Steady.For, experiment.Duration(0)},
		{"a parameter that is a duration", second.For, experiment.Duration(10 * time.Second)},
		{"a parameter that is a number", second.Target.Selector.(*process).Port, 8080},
		{"a parameter that is a percentage", second.Target.Percent, experiment.Percent(12.5)},
		{"a parameter that is a pointer's", *slow.Loss, experiment.Percent(12.5)},
		{"a parameter that is true", second.Parallel, true},
		{"a parameter that is a type", e.Spec.Method[3].Type, "freeze"},
		{"a parameter that is a mode", e.Spec.Method[3].Target.Mode, experiment.ModeOne},
		{"a parameter read from text", second.Fault.(*kill).Signal, signal{9}},
		{"a duration of two parts", slow.Delay, experiment.Duration(90 * time.Second)},
		{"a duration without a whole part", slow.Jitter, experiment.Duration(500 * time.Microsecond)},
		{"the largest number", *slow.Seed, ^uint64(0)},
		{"an embedded field", slow.Ports, []uint16{80, 443}},
		{"a bound in seconds", *e.Spec.Hypothesis.Checks[1].Max, experiment.Bound{Value: 0.1, Seconds: true}},
		{"a name that is not ASCII", e.Spec.Hypothesis.Checks[0].Name, "home answers ≥ 99 %"},
		{"a target's type", second.Target.Type, "process"},
		{"a section that is a value", e.Spec.Hypothesis.Checks[3].Probe, experiment.Probe(tcpProbe{"127.0.0.1:8080"})},
	} {
		if diff := cmp.Diff(c.want, c.got, cmp.AllowUnexported(signal{})); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", c.what, diff)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	e, err := loader().Load("e.yaml", []byte(`
apiVersion: simian.dev/v1
kind: Experiment
metadata: {name: defaults}
spec:
  traffic: [{name: home, url: "http://localhost/", rate: 1/s}]
  hypothesis:
    checks:
      - {name: a, traffic: home, measure: success, min: 1}
      - {name: b, probe: {type: tcp, address: "localhost:80"}, max: 1}
  method: [{fault: {type: freeze}, target: {type: any}, for: 10s}]
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, second := e.Spec, experiment.Duration(time.Second)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"file", e.File, "e.yaml"},
		{"traffic method", s.Traffic[0].Method, "GET"},
		{"traffic timeout", s.Traffic[0].Timeout, second},
		{"every", s.Hypothesis.Every, second / 4},
		{"window of traffic", s.Hypothesis.Checks[0].Window, second},
		{"window of a probe", s.Hypothesis.Checks[1].Window, 0 * second},
		{"weight", *s.Hypothesis.Checks[0].Weight, 1.0},
		{"steady for", *s.Steady.For, 2 * second},
		{"steady within", s.Steady.Within, 30 * second},
		{"recovery within", s.Recovery.Within, 30 * second},
		{"action", s.Method[0].Name, "freeze"},
		{"mode", s.Method[0].Target.Mode, experiment.ModeOne},
		{"abort", s.Abort.After, 0},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", c.what, diff)
		}
	}
}

func TestWordsStayText(t *testing.T) {
	t.Parallel()
	e := load(t, "valid-words.yaml", nil)
	want := map[string]string{
		"a": "yes", "b": "no", "c": "on", "d": "12", "e": "true", "f": "2001-01-01",
		"g": "1.2.3", "h": "7", "i": "~user", "j": "null",
	}
	if diff := cmp.Diff(want, e.Metadata.Labels); diff != "" {
		t.Error(diff)
	}
	if name := e.Spec.Method[0].Target.Selector.(*process).Name; name != "off" {
		t.Errorf("off became %q", name)
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	e := load(t, "valid-anchors.yaml", nil)
	a, b := e.Spec.Method[0], e.Spec.Method[1]
	if a.Fault.(*latency).Delay != b.For || b.Target.Selector.(*process).Name != "web" {
		t.Errorf("the aliases became %+v", b)
	}
	if a.Fault == b.Fault || a.Target.Selector == b.Target.Selector {
		t.Error("two actions share one value")
	}
}

// TestSet fills in one parameter in several places.
func TestSet(t *testing.T) {
	t.Parallel()
	const file = `
apiVersion: simian.dev/v1
kind: Experiment
metadata: {name: set}
spec:
  parameters: {X: {default: "1"}, Y: {default: "${X}"}}
  method:
    - fault:
        type: latency
        %s
      target: {type: any}
      for: 1s
`
	for _, c := range []struct{ name, field, x, want string }{
		{"unquoted is a number", "limit: ${X}", "7", ""},
		{"quoted is text", `limit: "${X}"`, "7", "want a whole number of 0 or more, not text"},
		{"quoted where text belongs", `direction: "${X}"`, "7", ""},
		{"unquoted where text belongs", `direction: ${X}`, "7", "want text, not a number"},
		{"tagged as text", `direction: !!str ${X}`, "7", ""},
		{"folded is text", "direction: >-\n          ${X}", "7", ""},
		{"unquoted is true", "exact: ${X}", "true", ""},
		{"yes is text", "exact: ${X}", "yes", "want true or false, not text"},
		{"null is nothing", "exact: ${X}", "null", "has no value"},
		{"empty is nothing", "direction: ${X}", "", "has no value"},
		{"empty is text in quotes", `direction: "${X}"`, "", ""},
		{"no more than a scalar", "direction: ${X}", "{a: 1}", ""},
		{"no second line", "direction: ${X}", "a\n        exact: true", ""},
		{"two in one", "delay: ${X}${X}s", "1", ""},
		{"not twice", `direction: "${Y}"`, "1", ""},
		{"a dollar before", `direction: "$$${X}"`, "1", ""},
		{"not closed", `direction: "${X"`, "1", ""},
		{"no name", `direction: "${}"`, "1", "${} is not declared"},
		{"the merge key", `direction: ${X}`, "<<", "is not used here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, err := loader().Load("set.yaml", fmt.Appendf(nil, file, c.field), map[string]string{"X": c.x})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("it gave %v, want %q", err, c.want)
			}
			if c.name == "two in one" && e.Spec.Method[0].Fault.(*latency).Delay.D() != 11*time.Second {
				t.Errorf("delay is %v", e.Spec.Method[0].Fault.(*latency).Delay)
			}
		})
	}
}

func TestErrorAt(t *testing.T) {
	t.Parallel()
	e := load(t, "valid-all.yaml", nil)
	err := e.ErrorAt("/spec/method/1/target", experiment.ErrNoMatch)
	if want := "testdata/valid-all.yaml:49: spec.method[1].target: no target matches"; err.Error() != want || !errors.Is(err, experiment.ErrNoMatch) {
		t.Errorf("it says %q, want %q", err, want)
	}
}

func TestLong(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/invalid-for-too-long.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := loader()
	l.Long = true
	e, err := l.Load("long.yaml", data, nil)
	if err != nil || e.Spec.Method[0].For.D() != 2*time.Hour {
		t.Errorf("with Long it gave %v", err)
	}
}

// TestSampled looks at the edge of what is long enough.
func TestSampled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, method string
		ok           bool
	}{
		{"just long enough", "[{F, for: 1250ms}]", true},
		{"just too short", "[{F, for: 1249ms}]", false},
		{"two in a row", "[{F, for: 1s}, {F, for: 250ms}]", true},
		{"a wait between", "[{F, for: 1s}, {F, for: 1ms, after: 249ms}]", true},
		{"a wait before", "[{F, for: 1s, after: 10s}]", false},
		{"side by side", "[{F, for: 1s}, {F, for: 1s, parallel: true}]", false},
		{"one after the other begins", "[{F, for: 1s, after: 1s}, {F, for: 1s, after: 750ms, parallel: true}]", true},
		{"struck once", "[{K}]", false},
		{"struck, then watched", "[{K, for: 1250ms}]", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			method := strings.NewReplacer("F", "fault: {type: freeze}, target: {type: any}",
				"K", "fault: {type: kill}, target: {type: any}").Replace(c.method)
			_, err := loader().Load("e.yaml", []byte(`
apiVersion: simian.dev/v1
kind: Experiment
metadata: {name: sampled}
spec:
  traffic: [{name: home, url: "http://localhost/", rate: 1/s}]
  hypothesis: {checks: [{name: a, traffic: home, measure: success, min: 1}]}
  method: `+method), nil)
			if (err == nil) != c.ok {
				t.Errorf("it gave %v", err)
			}
		})
	}
}

func TestLoadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	least, err := os.ReadFile("testdata/valid-least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	exact := append(bytes.Clone(least), bytes.Repeat([]byte("#"), experiment.MaxFileSize-len(least))...)
	errs := []error{
		os.WriteFile(path("least.yaml"), least, 0o644),
		os.WriteFile(path("exact.yaml"), exact, 0o644),
		os.WriteFile(path("larger.yaml"), append(exact, '#'), 0o644),
		os.WriteFile(path("huge.yaml"), nil, 0o644),
		os.Truncate(path("huge.yaml"), 1<<30),
		os.WriteFile(path("secret.yaml"), least, 0),
		syscall.Mkfifo(path("fifo"), 0o644),
		os.Symlink("least.yaml", path("link.yaml")),
		os.Symlink("loop.yaml", path("loop.yaml")),
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"a file", path("least.yaml"), ""},
		{"a link to a file", path("link.yaml"), ""},
		{"as large as allowed", path("exact.yaml"), ""},
		{"a byte larger", path("larger.yaml"), "is larger than 1024 KiB: not an experiment file"},
		{"1 GB", path("huge.yaml"), "is larger than 1024 KiB: not an experiment file"},
		{"missing", path("none.yaml"), "no such file or directory"},
		{"no permission", path("secret.yaml"), "permission denied"},
		{"a directory", dir, "is a directory, not an experiment file"},
		{"a link to itself", path("loop.yaml"), "too many levels of symbolic links"},
		{"a FIFO", path("fifo"), "is not a regular file (to read standard input, say -)"},
		{"a device without end", "/dev/zero", "is not a regular file (to read standard input, say -)"},
		{"a file below a file", path("least.yaml/x"), "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "no permission" && os.Geteuid() == 0 {
				t.Skip("root may read it")
			}
			begun := time.Now()
			_, err := loader().LoadFile(c.path, nil)
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			var e *experiment.FileError
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.As(err, &e) || err.Error() != c.path+": "+c.want):
				t.Errorf("it gave %v, want %s: %s", err, c.path, c.want)
			}
		})
	}
	if _, err := loader().LoadFile(path("none.yaml"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is not fs.ErrNotExist: %v", err)
	}
}

// TestBombs loads small files that would be large if they were let.
func TestBombs(t *testing.T) {
	const head = "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: bomb}\nspec:\n"
	long := strings.Repeat("x", 400_000)
	var laughs strings.Builder
	laughs.WriteString(head + "  a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := range 20 {
		fmt.Fprintf(&laughs, "  a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	for name, file := range map[string]string{
		"billion laughs":     laughs.String(),
		"a long text, often": head + "  a: &a " + long + "\n  b: [" + strings.Repeat("*a,", 100_000) + "]\n",
		"a long key":         head + "  ? " + long + "\n  : [" + strings.Repeat("a,", 90_000) + "]\n",
		"a long parameter":   head + "  parameters: {A: {default: " + long + "}}\n  b: \"" + strings.Repeat("${A}", 100_000) + "\"\n",
		"many brackets":      head + "  a: " + strings.Repeat("[", 900_000) + "\n",
		"many dashes":        head + "  " + strings.Repeat("- ", 400_000) + "\n",
		"many keys":          head + strings.Repeat("  a: 1\n", 100_000),
		"many names":         head + "  method:\n" + strings.Repeat("    - {fault: {type: kill}, target: {type: any}}\n", 15_000),
	} {
		t.Run(name, func(t *testing.T) {
			if len(file) > experiment.MaxFileSize {
				t.Fatalf("it has %d bytes: that is no test", len(file))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun := time.Now()
			_, err := loader().Load("bomb.yaml", []byte(file), nil)
			runtime.ReadMemStats(&after)
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 512 {
				t.Errorf("it took %d MiB", mib)
			}
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if err == nil && name != "many names" {
				t.Error("it was loaded")
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestStdin(t *testing.T) {
	least, err := os.Open("testdata/valid-least.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer least.Close()
	defer func(f *os.File) { os.Stdin = f }(os.Stdin)
	os.Stdin = least
	e, err := loader().LoadFile("-", nil)
	if err != nil || e.File != "standard input" {
		t.Errorf("it gave %+v, %v", e, err)
	}
}
