package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// tally counts what became of the trials.
type tally struct {
	options
	order []string

	mu      sync.Mutex
	rows    map[string]*row
	leaks   []string // each with all that is needed to see it again
	late    int      // ended before the blow fell, and were done again
	swept   int
	drifted []string // no leak: others may change this host too
}

// row is all trials with one blow.
type row struct {
	lab, net    bool
	runs, leaks int
	mended      []time.Duration

	gone, back   []time.Duration            // of labs
	stiff, whole []time.Duration            // gone, where something was frozen, or most were up
	flows        map[string][]time.Duration // by who took the fault back: until packets flowed
	exits        map[string]int
}

func newTally(o options, blows []blow) *tally {
	t := &tally{options: o, rows: map[string]*row{}}
	for _, b := range blows {
		t.order = append(t.order, b.name)
		t.rows[b.name] = &row{lab: b.lab, net: b.net, exits: map[string]int{}, flows: map[string][]time.Duration{}}
	}
	return t
}

func (t *tally) countLeaks() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.leaks)
}

func (t *tally) add(one *trial) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rows[one.blow.name]
	if len(one.leaks) > 0 {
		r.leaks++
		t.leaks = append(t.leaks, t.explain(one))
	}
	for _, d := range one.drift {
		t.drifted = append(t.drifted, fmt.Sprintf("run %d (try %d): %s", one.number, one.try, d))
	}
	if !one.struck {
		t.late++
		return
	}
	r.runs++
	if one.swept {
		t.swept++
	}
	if one.mended >= 0 {
		r.mended = append(r.mended, one.mended)
	}
	r.addLab(one)
	if one.flow != nil {
		r.flows[one.flow.by] = append(r.flows[one.flow.by], one.flow.took)
	}
	r.exits[one.exit()]++
}

// exit is the runner's exit code and the report's verdict.
func (t *trial) exit() string {
	code, verdict := fmt.Sprint(t.code), t.verdict
	if t.code < 0 {
		code = "killed"
	}
	if verdict == "" {
		verdict = "no journal"
	}
	if t.blow.stands {
		return verdict
	}
	if t.runner != nil && t.wrapped() {
		code = "?"
	}
	return code + " " + verdict
}

// explain is all that is needed to look into a leak.
func (t *tally) explain(one *trial) string {
	return fmt.Sprintf("LEAK in %s  -seed %d -only %d; the blow fell at boot time %d; all is kept in %s\n", one.said(), t.seed, one.number, one.blown, one.work)
}

// said is all that was done in a trial, and what was left.
func (t *trial) said() string {
	var b strings.Builder
	fmt.Fprintf(&b, "run %d (try %d), %s:\n", t.number, t.try, t.blow.name)
	for _, n := range t.notes {
		fmt.Fprintln(&b, "  "+n)
	}
	for _, l := range t.leaks {
		fmt.Fprintln(&b, "  left: "+strings.TrimSpace(l))
	}
	return b.String()
}

// print writes the leaks, and the table.
func (t *tally) print(w io.Writer) error {
	for _, l := range t.leaks {
		fmt.Fprintln(w, l)
	}
	if err := errors.Join(t.printRuns(w), t.printLabs(w), t.printNets(w)); err != nil {
		return err
	}
	fmt.Fprintf(w, `
-seed %d; %d runs were killed before they had broken anything, and swept; %d more ended before the blow, and were done again
`, t.seed, t.swept, t.late)
	for _, d := range t.drifted {
		fmt.Fprintf(w, "drift: %.300s\n", d)
	}
	return nil
}

// printRuns writes the table of the runs that break what others have started.
func (t *tally) printRuns(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "blow\truns\tleaks\tbroken\tmedian ms\tp99\tmax\t  exit and verdict")
	all := row{exits: map[string]int{}}
	for _, name := range t.order {
		r := t.rows[name]
		if r.lab || r.net {
			continue
		}
		r.print(tw, name, true)
		all.runs, all.leaks, all.mended = all.runs+r.runs, all.leaks+r.leaks, append(all.mended, r.mended...)
	}
	all.print(tw, "all", false)
	fmt.Fprint(tw, `
broken: victims did not run when the blow fell, or later; the times are from then until all ran again
        (runner stopped: from the deadline, or the call of rollback; both killed: from the call of the sweep)
`)
	return tw.Flush()
}

func (r *row) print(w io.Writer, name string, exits bool) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t", name, r.runs, r.leaks, len(r.mended), spread(r.mended))
	if exits {
		fmt.Fprintf(w, "  %s", r.seen())
	}
	fmt.Fprintln(w)
}

// seen lists how often which exit codes and verdicts were seen.
func (r *row) seen() string {
	var seen []string
	for _, e := range slices.Sorted(maps.Keys(r.exits)) {
		seen = append(seen, fmt.Sprintf("%s ×%d", e, r.exits[e]))
	}
	return strings.Join(seen, ", ")
}

// spread gives the median, the 99th percentile and the most of m, in three
// columns.
func spread(m []time.Duration) string {
	if len(m) == 0 {
		return "–\t–\t–"
	}
	slices.Sort(m)
	return ms(m[len(m)/2]) + "\t" + ms(m[len(m)*99/100]) + "\t" + ms(m[len(m)-1])
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
