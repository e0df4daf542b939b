package main

import (
	"regexp"
	"slices"
	"strings"
)

// mark begins the lines that /init itself prints; see init.sh.
const mark = "\x1e"

// results folds the output of one test binary, run with -test.v, into what
// became of each test. It is what test2json knows, without its markers: a line
// belongs to the test that was last named.
type results struct {
	tests map[string]*test
	order []*test // as they began
	last  *test   // the one that lines belong to
	loose []string
}

// test is one test or subtest.
type test struct {
	name    string
	outcome string // PASS, FAIL, SKIP; "" where it did not end
	lines   []string
}

func newResults() *results { return &results{tests: make(map[string]*test)} }

var (
	// "=== RUN   TestX/y", and so for CONT and NAME: what follows is of this test.
	named = regexp.MustCompile(`^=== (RUN|CONT|NAME|PAUSE) +(\S.*)$`)
	// "    --- FAIL: TestX/y (0.01s)"; a test that prints without a newline is before it.
	ended = regexp.MustCompile(`^(.*)--- (PASS|FAIL|SKIP): (\S+) \(\d+\.\d+s\)$`)
)

// line takes the next line.
func (r *results) line(line string) {
	if m := named.FindStringSubmatch(line); m != nil {
		r.last = r.test(m[2])
		return
	}
	if m := ended.FindStringSubmatch(line); m != nil {
		r.line(strings.TrimSpace(m[1]))
		r.last = r.test(m[3])
		r.last.outcome = m[2]
		return
	}
	switch {
	case line == "PASS" || line == "FAIL" || line == "":
	case r.last == nil:
		r.loose = append(r.loose, line)
	default:
		r.last.lines = append(r.last.lines, line)
	}
}

func (r *results) test(name string) *test {
	t := r.tests[name]
	if t == nil {
		t = &test{name: name}
		r.tests[name] = t
		r.order = append(r.order, t)
	}
	return t
}

// with returns the tests that ended so.
func (r *results) with(outcome string) []*test {
	return slices.DeleteFunc(slices.Clone(r.order), func(t *test) bool { return t.outcome != outcome })
}

// reason is why a test was skipped: the last it said, without file and line.
func (t *test) reason() string {
	if len(t.lines) == 0 {
		return "no reason given"
	}
	said := strings.TrimSpace(t.lines[len(t.lines)-1])
	if _, after, found := strings.Cut(said, ".go:"); found {
		_, said, _ = strings.Cut(after, ": ")
	}
	return said
}
