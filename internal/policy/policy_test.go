package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

const head = "apiVersion: simian.dev/v1\nkind: Policy\nspec:\n"

func parsed(t *testing.T, spec string) *Policy {
	t.Helper()
	p, err := Parse("policy.yaml", []byte(head+spec))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTarget(t *testing.T) {
	t.Parallel()
	web := experiment.Target{Name: "web", Labels: map[string]string{"simian.dev/enabled": "true", "tier": "front"}, Object: &experiment.ObjectRef{Namespace: "team-a"}}
	for _, c := range []struct{ spec, want string }{
		{"  faults: [kill]\n", ""},
		{"  namespaces: [team-a]\n", ""},
		{"  namespaces: [\"team-*\"]\n", ""},
		{"  namespaces: [prod]\n", "web is in namespace team-a, which is not allowed: prod are\n        policy.yaml:4: spec.namespaces says so, and no flag overrides it"},
		{"  requireOptIn: true\n", ""},
		{"  protect: tier=front\n", "web is protected: it has the labels tier=front"},
		{"  protect: {tier: back}\n", ""},
	} {
		err := parsed(t, c.spec).Target(web)
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.spec, err, c.want)
		}
	}
	err := parsed(t, "  requireOptIn: true\n").Target(experiment.Target{Name: "db"})
	if !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), "db has not opted in") {
		t.Error(err)
	}
	for _, c := range []struct {
		target experiment.Target
		want   string
	}{
		{web, "team-a"},
		{experiment.Target{Runtime: &experiment.RuntimeRef{Namespace: "k8s.io"}}, "k8s.io"},
		{experiment.Target{Runtime: &experiment.RuntimeRef{Namespace: "k8s.io"}, Labels: map[string]string{"io.kubernetes.pod.namespace": "shop"}}, "shop"},
		{experiment.Target{Runtime: &experiment.RuntimeRef{}}, ""},
		{experiment.Target{}, ""},
	} {
		if got := Namespace(c.target); got != c.want {
			t.Errorf("%+v is in %q, want %q", c.target, got, c.want)
		}
	}
	if err := (*Policy)(nil).Target(web); err != nil {
		t.Error(err)
	}
}

func TestAction(t *testing.T) {
	t.Parallel()
	kill := experiment.Action{Type: "kill", Target: experiment.TargetSpec{Type: "docker"}}
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) // a Wednesday
	for _, c := range []struct {
		spec, field, want string
	}{
		{"  faults: [kill]\n", "", ""},
		{"  faults: [latency, freeze]\n", "fault", "fault kill is not allowed on this host: latency, freeze are"},
		{"  runtimes: [native]\n", "target", "targets of type docker are not allowed on this host: native are"},
		{"  hours: {from: \"13:00\", to: \"15:00\", timeZone: Europe/Brussels}\n", "", ""},
		{"  hours: {from: \"13:00\", to: \"15:00\", timeZone: UTC}\n", "fault", "it is Wed 12:00 UTC: nothing may be broken but from 13:00 to 15:00 UTC"},
	} {
		field, err := parsed(t, c.spec).Action(kill, noon)
		if field != c.field || (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %s, %v, want %q", c.spec, field, err, c.want)
		}
	}
}

func TestHours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		hours Hours
		at    string // in UTC; 1 July 2026 is a Wednesday
		want  bool
	}{
		{Hours{"09:00", "17:00", nil, "UTC"}, "2026-07-01T09:00:00Z", true},
		{Hours{"09:00", "17:00", nil, "UTC"}, "2026-07-01T08:59:59Z", false},
		{Hours{"09:00", "17:00", nil, "UTC"}, "2026-07-01T17:00:00Z", false},
		{Hours{"22:00", "06:00", nil, "UTC"}, "2026-07-01T23:00:00Z", true},
		{Hours{"22:00", "06:00", nil, "UTC"}, "2026-07-01T05:59:00Z", true},
		{Hours{"22:00", "06:00", nil, "UTC"}, "2026-07-01T06:00:00Z", false},
		{Hours{"22:00", "06:00", []string{"wed"}, "UTC"}, "2026-07-02T05:00:00Z", true},
		{Hours{"22:00", "06:00", []string{"wed"}, "UTC"}, "2026-07-01T05:00:00Z", false},
		{Hours{"09:00", "17:00", []string{"mon", "tue"}, "UTC"}, "2026-07-01T12:00:00Z", false},
		{Hours{"09:00", "17:00", nil, "America/New_York"}, "2026-07-01T12:59:00Z", false},
		{Hours{"09:00", "17:00", nil, "America/New_York"}, "2026-07-01T13:00:00Z", true},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.hours.within(at); got != c.want {
			t.Errorf("%s at %s: %v", &c.hours, c.at, got)
		}
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	p := parsed(t, "  blastRadius: {targets: 2, percent: 30}\n")
	x := &experiment.Experiment{}
	if _, err := p.Limit(x); err != nil || x.Spec.BlastRadius.Targets != 2 || *x.Spec.BlastRadius.Percent != 30 {
		t.Errorf("%+v, %v", x.Spec.BlastRadius, err)
	}
	x.Spec.BlastRadius.Targets = 1
	if _, err := p.Limit(x); err != nil || x.Spec.BlastRadius.Targets != 1 {
		t.Errorf("%+v, %v", x.Spec.BlastRadius, err)
	}
	x.Spec.BlastRadius.Targets = 3
	if field, err := p.Limit(x); field != "targets" || err == nil || !strings.HasPrefix(err.Error(), "3 targets are more than the 2 allowed on this host") {
		t.Errorf("%s, %v", field, err)
	}
	half := experiment.Percent(50)
	x.Spec.BlastRadius = experiment.BlastRadius{Percent: &half}
	if field, err := p.Limit(x); field != "percent" || err == nil {
		t.Errorf("%s, %v", field, err)
	}
}

func TestBadPolicy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":             "policy.yaml: is empty",
		"kind: Policy": "apiVersion is missing",
		"apiVersion: simian.dev/v1\nkind: Experiment":                                     "it knows Policy",
		head + "  runtime: [docker]":                                                      `policy.yaml:4: spec: unknown field "runtime" (did you mean "runtimes"?)`,
		head + "  faults: kill":                                                           "policy.yaml:4: spec.faults: want a list of text",
		head + "  faults: []":                                                             "an empty list allows nothing at all",
		head + "  namespaces: [\"[\"]":                                                    `policy.yaml:4: spec.namespaces[0]: "[" is not a name`,
		head + "  requireOptIn: 1":                                                        "policy.yaml:4: spec.requireOptIn: want true or false, not a number",
		head + "  blastRadius: {targets: -1}":                                             "-1 is not a number of targets",
		head + "  blastRadius: {percent: 101}":                                            "101 is not a percentage",
		head + "  blastRadius: {percent: 0}":                                              "0 allows no target at all",
		head + "  protect: \"a in b\"":                                                    "is not a label selector",
		head + "  hours: {from: 9, to: \"17:00\", timeZone: UTC}":                         "want text",
		head + "  hours: {from: \"9:00\", to: \"17:00\", timeZone: UTC}":                  `"9:00" is not a time of day`,
		head + "  hours: {from: \"09:00\", to: \"25:00\", timeZone: UTC}":                 `"25:00" is not a time of day`,
		head + "  hours: {from: \"09:00\", to: \"09:00\", timeZone: UTC}":                 "is the same as from",
		head + "  hours: {from: \"09:00\", to: \"17:00\"}":                                "timeZone: is missing",
		head + "  hours: {from: \"09:00\", to: \"17:00\", timeZone: Mars/Olympus}":        `"Mars/Olympus" is not a time zone`,
		head + "  hours: {from: \"09:00\", to: \"17:00\", timeZone: UTC, days: [monday]}": `spec.hours.days[0]: "monday" is not a day`,
	} {
		_, err := Parse("policy.yaml", []byte(text))
		var f *experiment.FileError
		if !errors.As(err, &f) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	p := parsed(t, "  faults: [kil]\n")
	if err := p.Known(nil, []string{"kill"}); err == nil || err.Error() != `policy.yaml:4: spec.faults: nothing is called "kil" (did you mean "kill"?)` {
		t.Error(err)
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, me := filepath.Join(dir, "policy.yaml"), os.Geteuid()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	if p, err := Load(file, me); p != nil || err != nil {
		t.Errorf("where there is none: %v, %v", p, err)
	}
	if p, err := Load(filepath.Join(dir, "none", "policy.yaml"), me); p != nil || err != nil {
		t.Errorf("where there is no directory: %v, %v", p, err)
	}
	must(os.WriteFile(file, []byte(head+"  faults: [kill]\n"), 0o644))
	if p, err := Load(file, me); p == nil || err != nil {
		t.Errorf("%v, %v", p, err)
	}
	refused := func(what, want string) {
		t.Helper()
		if p, err := Load(file, me); p != nil || !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", what, p, err)
		}
	}
	must(os.Chmod(file, 0o664))
	refused("a file that a group may write", "may be written by others")
	must(os.Chmod(file, 0o644))
	must(os.Chmod(dir, 0o777))
	refused("a directory that all may write", "may be written by others")
	must(os.Chmod(dir, 0o755))
	if _, err := Load(file, me+1); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "belongs to uid") {
		t.Error(err)
	}
	must(os.Rename(file, file+".real"))
	must(os.Symlink(file+".real", file))
	refused("a symbolic link", "is a symbolic link")
	must(os.Remove(file))
	must(os.Mkdir(file, 0o755))
	refused("a directory", "is not a regular file")
	link := filepath.Join(t.TempDir(), "simian")
	must(os.Symlink(dir, link))
	if _, err := Load(filepath.Join(link, "policy.yaml"), me); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a directory that is a symbolic link: %v", err)
	}
}

// FuzzPolicy reads anything: it never panics, each error is a FileError, and
// what is read can be asked.
func FuzzPolicy(f *testing.F) {
	for _, spec := range []string{"", "  faults: [kill]\n", "  hours: {from: \"22:00\", to: \"06:00\", timeZone: UTC}\n", "  protect: a in (b)\n", "  namespaces: [\"a*\"]\n"} {
		f.Add([]byte(head + spec))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("policy.yaml", data)
		var file *experiment.FileError
		if err != nil {
			if !errors.As(err, &file) {
				t.Errorf("%T is no FileError: %v", err, err)
			}
			return
		}
		_ = p.Target(experiment.Target{Name: "a", Labels: map[string]string{"a": "b"}, Object: &experiment.ObjectRef{Namespace: "a"}})
		_, _ = p.Action(experiment.Action{Type: "kill"}, time.Unix(1_800_000_000, 0))
		_, _ = p.Limit(&experiment.Experiment{})
		_ = p.String()
	})
}
