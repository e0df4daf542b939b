package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// TestInjectOneOfEach strikes one container of each service of a lab that
// stands, and lists them before.
func TestInjectOneOfEach(t *testing.T) {
	l := newLab(t)
	s := l.up(l.compose(webService, clientService))
	l.ready(s)
	var rows []experiment.Listed
	if err := json.Unmarshal([]byte(l.expect(0, "targets", "-o", "json").stdout), &rows); err != nil {
		t.Fatal(err)
	}
	for _, b := range s.Boxes {
		ours := slices.DeleteFunc(slices.Clone(rows), func(r experiment.Listed) bool { return r.PID != b.Process.PID })
		if len(ours) != 1 || ours[0].Kind != "native" || ours[0].Workload != "shop/"+b.Service || ours[0].Out != "" {
			t.Errorf("%s is listed as %+v", b.Name, ours)
		}
	}
	args := []string{"inject", "freeze", "--native=", "--lab", "shop", "--group-by", "workload", "--for", "50ms"}
	printed := l.expect(0, append(args, "--print")...).stdout
	if !strings.Contains(printed, "groupBy: workload") {
		t.Error(printed)
	}
	var r struct {
		Verdict string
		Faults  []struct{ Targets []struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(l.expect(0, append(args, "-o", "json")...).stdout), &r); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, target := range r.Faults[0].Targets {
		names = append(names, target.Name)
	}
	slices.Sort(names)
	if r.Verdict != "pass" || !slices.Equal(names, []string{"client-1", "web-1"}) {
		t.Errorf("%s, struck %v", r.Verdict, names)
	}
	o := l.simian("inject", "freeze", "--native", "wep-1", "--lab", "shop", "--for", "50ms")
	if o.code != 2 || !strings.Contains(o.stderr, `--native: no container of the lab is name "wep-1" (did you mean "web-1"?)`) {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	if o := l.simian("inject", "freeze", "--native", "web", "--lab", "shap", "--for", "50ms"); o.code != 2 || !strings.Contains(o.stderr, "--lab: no lab is called shap") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	l.expect(0, "lab", "down", "shop")
	l.noLab()
}
