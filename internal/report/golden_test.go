package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func textOf(t *testing.T, r *Result, s Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := Text(&b, r, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for name, tape := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tape.fold()
			verdict, _, _ := strings.Cut(name, "-")
			if want := verdictOf(name); r.Verdict != want {
				t.Errorf("verdict %q, want %q", r.Verdict, want)
			}
			text := textOf(t, r, Style{})
			golden(t, name+".text", text)
			if verdict != "unfinished" && !strings.Contains(text, "report: simian report 7f3k2q") {
				t.Error("the text does not say where to read on")
			}
			var b bytes.Buffer
			if err := JSON(&b, r); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", b.String())
			again(t, b.Bytes(), text)
		})
	}
}

func verdictOf(name string) experiment.Verdict {
	for _, v := range []experiment.Verdict{experiment.Pass, experiment.Fail, experiment.Aborted, experiment.Residue, experiment.NotInjected, experiment.Errored} {
		if strings.HasPrefix(name, string(v)) {
			return v
		}
	}
	return ""
}

// again reads the JSON back: it holds all that the text needs.
func again(t *testing.T, doc []byte, want string) {
	t.Helper()
	var r Result
	if err := json.Unmarshal(doc, &r, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, textOf(t, &r, Style{})); diff != "" {
		t.Errorf("text from JSON (-want +got):\n%s", diff)
	}
}

func TestStyles(t *testing.T) {
	t.Parallel()
	for name, style := range map[string]Style{
		"narrow": {Width: 60}, "ascii": {ASCII: true}, "color": {Color: true},
	} {
		for _, scenario := range []string{"pass", "fail", "residue"} {
			text := textOf(t, scenarios()[scenario].fold(), style)
			golden(t, scenario+"."+name, text)
			for _, line := range strings.Split(text, "\n") {
				if n := columns(line); !style.Color && n > style.width() {
					t.Errorf("%s %s: %d columns: %s", scenario, name, n, line)
				}
				if style.ASCII && strings.IndexFunc(line, func(r rune) bool { return r >= 0x80 }) >= 0 {
					t.Errorf("%s %s: not ASCII: %s", scenario, name, line)
				}
			}
		}
	}
}

// hostile are names that would like to break a terminal.
func hostile() *tape {
	evil := "\x1b[2J\x1b]0;owned\a\r\n\u202egnirts\x9b31m\xff 東京 café🐒"
	x := experiment.Summary{
		Name: "evil" + evil, Checks: []experiment.CheckSummary{{Name: evil, Unit: evil, Min: bound(1), Weight: 1}},
		Actions: []experiment.ActionSummary{{Name: evil, Type: "freeze", For: dur(5)}},
	}
	t := steady(x, 1).plan(3, 1, evil).apply(3, 1, 1, evil, evil).
		verified(3, 1, 1, experiment.Evidence{InForce: true, What: evil, Hint: evil}).injected(3, 1).phase(3, experiment.PhaseDuring, 3)
	t.values(3, 8, 0).unmeasured(0, 8, evil).takeBack(8, 0, experiment.CauseInterrupted, evil)
	t.add(9, experiment.Event{Kind: experiment.EventWarning, Message: evil})
	t.add(9, experiment.Event{Kind: experiment.EventResidue, Lines: []string{evil}})
	return t.add(9, experiment.Event{Kind: experiment.EventEnd, Error: evil})
}

func TestHostileNames(t *testing.T) {
	t.Parallel()
	var live bytes.Buffer
	p := NewProgress(&live, Style{}, false)
	for i := range hostile().events {
		p.Event(&hostile().events[i])
	}
	p.Close()
	var table bytes.Buffer
	if err := Table(&table, []string{"run\x1b[2J"}, [][]string{{"\u202e", "b"}, {}}); err != nil {
		t.Fatal(err)
	}
	text := textOf(t, hostile().fold(), Style{})
	golden(t, "hostile.text", text)
	for _, s := range []string{text, live.String(), table.String(), textOf(t, hostile().fold(), Style{ASCII: true})} {
		for _, r := range s {
			if r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffd) {
				t.Errorf("%q gets through", r)
			}
		}
	}
	var b bytes.Buffer
	if err := JSON(&b, hostile().fold()); err != nil {
		t.Error(err)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := Table(&b, []string{"RUN", "EXPERIMENT", "VERDICT"}, [][]string{
		{"7f3k2q", "東京", "pass"}, {"9c01xd", "checkout"}, {"aaaaaa", "x", "not-injected"},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "table", b.String())
}
