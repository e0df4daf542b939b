package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// leastColumn is what reasons need to be read beside the verdict.
const leastColumn = 50

// headline is a verdict as the last lines begin.
func (r *Result) headline() (string, color) {
	switch r.Verdict {
	case experiment.Pass:
		return "PASS", calm
	case experiment.Fail:
		return "FAIL", loud
	case experiment.Aborted:
		return "ABORTED", doubt
	case experiment.Residue:
		return "RESIDUE", loud
	case experiment.NotInjected:
		return "NOT INJECTED", doubt
	case experiment.Errored:
		return "ERROR", loud
	}
	return "UNFINISHED", doubt
}

// end writes the last lines: the verdict, why, and what to do next.
func (p *page) end() {
	word, c := p.r.headline()
	head := word
	if p.r.Score != nil {
		head += "  score " + decimal(floorShare(*p.r.Score))
	}
	foot := p.foot()
	if p.r.Verdict == experiment.Pass {
		if len(p.r.Checks) == 0 {
			head += "  injected, verified and put back"
		}
		p.apart(head, foot, c)
		return
	}
	p.beside(head, c, append(append(p.why(), p.next()...), foot))
}

// beside writes texts in a column right of head, or below it where that would
// be too narrow to read.
func (p *page) beside(head string, c color, texts []string) {
	indent := columns(head) + 4
	first := p.paint(c, head) + strings.Repeat(" ", 4)
	if p.wide-indent < leastColumn {
		p.line(p.paint(c, head))
		indent, first = labelStart, strings.Repeat(" ", labelStart)
	}
	for _, text := range texts {
		for _, line := range wrap(p.clean(text), p.wide-indent) {
			p.line(first + line)
			first = strings.Repeat(" ", indent)
		}
	}
}

// foot says how long it took, how it exits and where to read more.
func (p *page) foot() string {
	parts := []string{}
	if p.r.Verdict != experiment.Pass && !p.r.Unfinished {
		parts = append(parts, fmt.Sprintf("exit %d", p.r.ExitCode()))
	}
	if p.r.Seconds != nil {
		parts = append(parts, humanSeconds(*p.r.Seconds))
	}
	return p.clean(strings.Join(append(parts, "report: simian report "+string(p.r.Run)), " · "))
}

// why gives the reasons, the worst first, and not so many that the verdict
// scrolls away.
func (p *page) why() []string {
	if p.r.Unfinished {
		return []string{"its journal has no end: it is still running, or its process died"}
	}
	reasons := p.r.Reasons
	if len(reasons) > mostReasons+1 {
		return append(slices.Clone(reasons[:mostReasons]), fmt.Sprintf("… and %d more", len(reasons)-mostReasons))
	}
	return reasons
}

// next says what to do next.
func (p *page) next() []string {
	run, file := string(p.r.Run), orElse(p.r.File, "FILE")
	switch {
	case p.r.Unfinished:
		return []string{"simian status says which; simian rollback " + run + " takes it back"}
	case p.r.Verdict == experiment.Residue:
		return []string{"simian rollback " + run + " tries again; what is still left then is to be done by hand, as said above"}
	case p.r.Verdict == experiment.NotInjected:
		return p.r.hints(file)
	case p.r.Verdict == experiment.Errored:
		return []string{"simian check says what this host can do"}
	case p.r.Verdict == experiment.Aborted && p.r.Cause == experiment.CauseNotSteady:
		return []string{"let the system settle, or see whether the bounds are right, and run it again"}
	case p.r.Verdict == experiment.Aborted:
		return []string{"everything was put back"}
	}
	return nil
}

// hints says why nothing was in force, as far as that is known.
func (r *Result) hints(file string) []string {
	var out []string
	for _, t := range r.Faults {
		for _, e := range t.Evidence {
			if e.Hint != "" && (!e.InForce || t.Missed != "") && !slices.Contains(out, e.Hint) {
				out = append(out, e.Hint)
			}
		}
	}
	if len(out) == 0 {
		out = append(out, "simian plan "+file+" says what it would do, simian check what this host can do")
	}
	return out
}
