package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// checkJournal wants a journal to add up, and its report to say what happened.
func (t *trial) checkJournal(path string) {
	data, err := os.ReadFile(path)
	lines, perr := parseLines(data)
	if err != nil || perr != nil {
		t.leak("journal %s: %v %v", path, err, perr)
		return
	}
	for _, what := range wrongs(lines) {
		t.leak("journal %s: %s", path, what)
	}
	struck := t.tail != nil && runOf(path) == t.tail.run
	verdict, code := t.checkReport(path)
	if !struck {
		return
	}
	t.verdict = verdict
	t.measure(lines)
	t.measureNet(lines)
	if why := t.passedWithout(lines, verdict); why != "" {
		t.leak("%s", why)
	}
	if t.code >= 0 && t.code != code {
		t.leak("the runner ended with exit %d, the report of %s with %d", t.code, path, code)
	}
	if t.early(lines) && verdict == string(experiment.Pass) {
		t.leak("journal %s: struck before its end, and it passes", path)
	}
	if t.blow.may != nil && t.code >= 0 && t.early(lines) {
		if why := t.blow.may(t, t.code, lines); why != "" {
			t.leak("%s", why)
		}
	}
}

// early tells whether the run was struck before what it had to reach.
func (t *trial) early(lines []line) bool {
	if !t.struck || t.blow.until == "" {
		return false
	}
	i := t.reached(lines)
	return i < 0 || lines[i].Boot.Sub(t.blown) > hurry
}

// reached returns where the run has come to where no blow makes it worse any
// more, -1 where it has not. That is its last action's take-back for a run
// that only loses its guardian, and its end for one that dies.
func (t *trial) reached(lines []line) int {
	last := -1
	for i, l := range lines {
		if l.Kind == t.blow.until && (l.Action > 0 || last < 0) {
			last = i
		}
	}
	return last
}

// wrongs says what in a finished journal does not add up.
func wrongs(lines []line) []string {
	var out []string
	undone, action, closed := map[int]int{}, map[int]int{}, map[int]bool{}
	var undoable []int
	for _, l := range lines {
		switch l.Kind {
		case experiment.EventAnnounce:
			undoable = append(undoable, l.undoable()...)
			for _, s := range l.Steps {
				action[s.N] = l.Action
			}
		case experiment.EventApplied:
			if closed[0] || closed[action[l.Step]] {
				out = append(out, fmt.Sprintf("step %d is applied after its take-back", l.Step))
			}
		case experiment.EventTakeBack:
			closed[l.Action] = true
		case experiment.EventUndone:
			undone[l.Step]++
		}
	}
	for _, n := range undoable {
		if undone[n] != 1 {
			out = append(out, fmt.Sprintf("step %d is taken back %d times", n, undone[n]))
		}
	}
	if count(lines, experiment.EventEnd) == 0 {
		out = append(out, "it has no end")
	}
	return out
}

// count counts the events of a kind.
func count(lines []line, kind experiment.EventKind) int {
	n := 0
	for _, l := range lines {
		if l.Kind == kind {
			n++
		}
	}
	return n
}

// checkReport wants the report to fold, and to show that nothing was left.
func (t *trial) checkReport(path string) (verdict string, code int) {
	code, out, err := t.simianRun("report", runOf(path), "-o", "json")
	var r struct {
		Verdict experiment.Verdict
		Residue []string
		Drift   []json.RawMessage
		Error   string
	}
	if jerr := json.Unmarshal([]byte(out), &r); err != nil || jerr != nil {
		t.leak("report of %s: %v %v: %s", path, err, jerr, out)
		return "", code
	}
	for _, d := range r.Drift {
		t.drifted(d)
	}
	unarmed := t.struck && strings.Contains(r.Error, "arm the guardian") // it was killed meanwhile
	switch {
	case r.Verdict == "" || r.Verdict.ExitCode() != code:
		t.leak("report of %s: verdict %q and exit %d", path, r.Verdict, code)
	case r.Verdict == experiment.Residue && !(t.mayFail(path) && onlyGaps(r.Residue)):
		t.leak("report of %s: residue: %q", path, r.Residue)
	case r.Verdict == experiment.Errored && !unarmed && !t.mayFail(path):
		t.leak("report of %s: error: %s", path, r.Error)
	}
	return string(r.Verdict), code
}

// drifted takes in what a report says has changed of a target. Nobody changes
// the networks of a wire but the run, and the blow.
func (t *trial) drifted(text json.RawMessage) {
	var d struct {
		Object    string
		Gone, New []string
	}
	if t.recipe == nil || t.recipe.wire == nil || json.Unmarshal(text, &d) != nil || !strings.HasPrefix(d.Object, "net:") {
		t.drift = append(t.drift, string(text))
		return
	}
	for _, line := range t.recipe.wire.differences(d.Gone, d.New) {
		t.leak("the report shows drift of %s: %s", d.Object, line)
	}
}

// mayFail tells whether a run may end with an error: what it needs was taken
// from it, or frozen. So it is with those that strike a lab which goes down.
func (t *trial) mayFail(path string) bool {
	return t.blow.fails || t.handFrozen || t.clashes() || t.blow.stands && runOf(path) != t.tail.run
}

// clashes tells whether two actions of a recipe may want the root of one link,
// or a queue for one target, at a time, which the second is refused.
func (t *trial) clashes() bool {
	return t.recipe != nil && t.recipe.parallel && t.recipe.latencies > 1
}

// onlyGaps tells whether nothing was left but containers that nobody starts
// again: who would have is stopped, or was killed.
func onlyGaps(residue []string) bool {
	return !slices.ContainsFunc(residue, func(line string) bool { return !strings.Contains(line, " running; by hand: start ") })
}
