package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// report turns what the machine prints into a summary, and counts what failed.
type report struct {
	w       io.Writer
	verbose bool
	maySkip *regexp.Regexp // reasons to skip a test; nil is all
	now     func() time.Time
	start   time.Time

	kernel  string   // release; "" until it has booted
	missing []string // packages that are to run yet
	failed  bool
	again   map[string][]string // by package: tests that failed, where nothing else was wrong with it
	broken  bool                // something else was wrong

	pkg   string // the one that runs; "" between two
	began time.Time
	seen  *results
	left  []string
	done  bool // /init came to its end
}

func newReport(w io.Writer, verbose bool, maySkip *regexp.Regexp) *report {
	return &report{w: w, verbose: verbose, maySkip: maySkip, now: time.Now, start: time.Now(), again: map[string][]string{}}
}

// expect notes that a package's tests are to run.
func (r *report) expect(b binary) {
	if b.path == "" {
		fmt.Fprintf(r.w, "?     %s [no test files]\n", b.pkg)
		return
	}
	r.missing = append(r.missing, b.pkg)
}

// booted is true from the first words of /init on.
func (r *report) booted() bool { return r.kernel != "" }

// line takes the next line that the machine prints.
func (r *report) line(line string) {
	if before, said, found := strings.Cut(line, mark); found {
		if before != "" {
			r.line(before)
		}
		r.marked(strings.Fields(said))
		return
	}
	if r.verbose || r.pkg == "" && line != "" {
		fmt.Fprintln(r.w, line)
	}
	if r.seen != nil {
		r.seen.line(line)
	}
}

// marked takes a line of /init.
func (r *report) marked(words []string) {
	switch words[0] {
	case "boot":
		r.kernel = words[1]
		fmt.Fprintf(r.w, "vm    %s booted in %s; cgroup v2: %s\n", r.kernel, r.since(r.start), strings.Join(words[2:], " "))
	case "begin":
		r.pkg, r.began, r.seen, r.left = words[1], r.now(), newResults(), nil
	case "end":
		r.end(words[2] == "0")
	case "run":
		r.began = r.now()
	case "ran":
		r.ran(words[1])
	case "left":
		r.left = append(r.left, strings.Join(words[1:], " "))
	case "lost":
		r.failed, r.broken = true, true
		fmt.Fprintln(r.w, "FAIL  not in the machine: "+strings.Join(words[1:], " "))
	case "done":
		r.done = true
	}
}

// end sums up the package that ran. What it leaves behind is a failure, and so
// is a test skipped for another reason than is expected here.
func (r *report) end(ok bool) {
	skipped := r.seen.with("SKIP")
	wrong := slices.ContainsFunc(skipped, r.mustNotSkip)
	word := "ok  "
	if !ok || wrong || len(r.left) > 0 {
		word, r.failed = "FAIL", true
		r.tell()
		r.note(wrong)
	}
	fmt.Fprintf(r.w, "%s  %s (vm, kernel %s, cgroup v2) %s, %d tests", word, r.pkg, r.kernel, r.since(r.began), len(r.seen.order))
	if len(skipped) > 0 {
		fmt.Fprintf(r.w, ", %d skipped", len(skipped))
	}
	fmt.Fprintln(r.w)
	for _, line := range reasons(skipped) {
		fmt.Fprintln(r.w, "      skipped: "+line)
	}
	r.missing = slices.DeleteFunc(r.missing, func(p string) bool { return p == r.pkg })
	r.pkg, r.seen = "", nil
}

// most is how many failed tests may be by chance.
const most = 5

// note keeps which tests of the package have failed.
func (r *report) note(wrong bool) {
	failed := r.seen.with("FAIL")
	if wrong || len(r.left) > 0 || len(failed) == 0 || len(r.seen.with("")) > 0 {
		r.broken = true
		return
	}
	for _, t := range failed {
		name, _, _ := strings.Cut(t.name, "/")
		if !slices.Contains(r.again[r.pkg], name) {
			r.again[r.pkg] = append(r.again[r.pkg], name)
		}
	}
}

// flaky returns the tests that failed, by package, where they are few and all
// else went well; else nothing.
func (r *report) flaky() map[string][]string {
	n := 0
	for _, names := range r.again {
		n += len(names)
	}
	if r.broken || !r.done || n > most {
		return nil
	}
	return r.again
}

// ran takes the end of a command that ran instead of tests. What it printed has
// been shown.
func (r *report) ran(status string) {
	word := "ok  "
	if status != "0" {
		word, r.failed, r.broken = "FAIL", true, true
	}
	fmt.Fprintf(r.w, "%s  exit status %s (vm, kernel %s, cgroup v2) %s\n", word, status, r.kernel, r.since(r.began))
	r.missing = nil // it was all that was to run
}

func (r *report) mustNotSkip(t *test) bool {
	return r.maySkip != nil && !r.maySkip.MatchString(t.reason())
}

// tell prints what a failed package said: of its failed tests and of those
// that did not end, and what belongs to none.
func (r *report) tell() {
	for _, t := range slices.Concat(r.seen.with("FAIL"), r.seen.with("")) {
		word := t.outcome
		if word == "" {
			word = "no end"
		}
		fmt.Fprintf(r.w, "--- %s: %s\n", word, t.name)
		r.print(t.lines)
	}
	r.print(r.seen.loose)
	for _, t := range r.seen.with("SKIP") {
		if r.mustNotSkip(t) {
			fmt.Fprintf(r.w, "--- must not be skipped here: %s\n", t.name)
			r.print(t.lines)
		}
	}
	for _, what := range r.left {
		fmt.Fprintln(r.w, "    left behind: "+what)
	}
}

// print prints what has been printed already where all is.
func (r *report) print(lines []string) {
	if r.verbose {
		return
	}
	for _, line := range lines {
		fmt.Fprintln(r.w, line)
	}
}

// reasons are the reasons of skipped tests, each with how many tests gave it.
func reasons(skipped []*test) []string {
	count := make(map[string]int)
	var order []string
	for _, t := range skipped {
		if count[t.reason()]++; count[t.reason()] == 1 {
			order = append(order, t.reason())
		}
	}
	for i, reason := range order {
		if n := count[reason]; n > 1 {
			order[i] = fmt.Sprintf("%s (%d times)", reason, n)
		}
	}
	return order
}

// conclude says what became of the machine, and returns whether all is well:
// all packages ran and passed, and the machine came to its end by itself.
func (r *report) conclude(err error) bool {
	if r.pkg != "" {
		r.failed = true
		r.tell()
		fmt.Fprintf(r.w, "FAIL  %s (vm, kernel %s, cgroup v2) %s: the machine ended\n", r.pkg, r.kernel, r.since(r.began))
	}
	for _, pkg := range r.missing {
		if pkg != r.pkg {
			r.failed, r.broken = true, true
			fmt.Fprintf(r.w, "FAIL  %s: did not run\n", pkg)
		}
	}
	if err != nil {
		fmt.Fprintf(r.w, "FAIL  vm: %v\n", err)
	}
	if err == nil && !r.done {
		fmt.Fprintln(r.w, "FAIL  vm: the machine ended before its time")
	}
	return !r.failed && r.done && err == nil
}

func (r *report) since(t time.Time) string { return fmt.Sprintf("%.1fs", r.now().Sub(t).Seconds()) }
