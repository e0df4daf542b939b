package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	page       = "../../docs/isolation.md"
	tableBegin = "<!-- attempts: written by test/hostile -->\n"
	tableEnd   = "<!-- end of attempts -->\n"
)

// TestIsolationPage holds the page's table against both golden files.
func TestIsolationPage(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	want := before + tableBegin + table(t) + tableEnd + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s (-want +got)\n%s", page, diff)
	}
}

// table has a row for each attempt.
func table(t *testing.T) string {
	t.Helper()
	ours, theirs := outcomes(t, "testdata/simian.golden"), outcomes(t, "testdata/docker.golden")
	why := map[string]string{}
	for _, a := range attempts(nil, true) {
		why[a.name] = a.harmless
	}
	var b strings.Builder
	b.WriteString("| attempt | Simian | Docker 20.10 | why it may be done |\n|---|---|---|---|\n")
	for i, o := range ours {
		if o[0] != theirs[i][0] {
			t.Fatalf("line %d: %q and %q: the golden files have other attempts", i+1, o[0], theirs[i][0])
		}
		note := ""
		if o[1] == "DONE" || theirs[i][1] == "DONE" {
			note = why[o[0]]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", o[0], o[1], theirs[i][1], note)
	}
	return b.String()
}

// outcomes reads a golden file: names and outcomes.
func outcomes(t *testing.T, file string) (list [][2]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, outcome, _ := strings.Cut(strings.TrimSpace(line), ": ")
		list = append(list, [2]string{name, outcome})
	}
	return list
}
