package report

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// Where text stands on a line.
const (
	widestPage  = 100 // more than that is not read as one line
	labelStart  = 2
	bodyStart   = 12
	mostReasons = 6
	mostTargets = 3

	mostWitnesses = 6 // more than that are for -o json
)

// Text writes r for people: what was normal, what was done, how each check
// bore it, and whether all is put back. The last lines say how it ended and
// what to do next.
func Text(w io.Writer, r *Result, style Style) error {
	p := &page{Style: style, r: r, wide: min(style.width(), widestPage)}
	p.head()
	p.lab()
	p.before()
	for i := range r.Faults {
		p.fault(i, &r.Faults[i])
	}
	p.ends()
	p.checks()
	p.after()
	p.putBack()
	p.notes()
	p.end()
	_, err := io.WriteString(w, p.b.String())
	return err
}

// page is a text in the making.
type page struct {
	Style
	r    *Result
	wide int // columns to keep to
	b    strings.Builder
}

// say writes one labelled item, wrapped below itself. What is written is made
// clean here, and nowhere else.
func (p *page) say(label, text string) { p.sayIn(plain, label, text) }

func (p *page) sayIn(c color, label, text string) {
	for _, line := range wrap(p.clean(text), p.wide-bodyStart) {
		p.line(left(strings.Repeat(" ", labelStart)+label, bodyStart) + p.paint(c, line))
		label = ""
	}
}

// line writes a line that is clean, and fits, already.
func (p *page) line(text string) { p.b.WriteString(strings.TrimRight(text, " ") + "\n") }

// apart writes two clean texts at both ends of a line, or on two lines where
// one has no room for both.
func (p *page) apart(a, b string, c color) {
	gap := p.wide - columns(a) - columns(b)
	if gap < 2 {
		p.line(p.paint(c, a))
		p.line(right(b, p.wide))
		return
	}
	p.line(p.paint(c, a) + strings.Repeat(" ", gap) + b)
}

func (p *page) head() {
	run := p.clean("run " + string(p.r.Run))
	name := p.fit(p.clean(orElse(p.r.Experiment, "experiment unknown")), p.wide-columns(run)-2)
	p.apart(name, run, bold)
	about := []string{}
	if p.r.File != "" {
		about = append(about, p.r.File)
	}
	for _, key := range slices.Sorted(maps.Keys(p.r.Labels)) {
		about = append(about, key+"="+p.r.Labels[key])
	}
	if p.r.Experiment != "" {
		about = append(about, fmt.Sprintf("seed %d", p.r.Seed))
	}
	if len(about) > 0 {
		p.sayIn(dim, "file", strings.Join(about, " · "))
	}
}

// injected tells whether any fault was in force.
func (r *Result) injected() bool {
	return slices.ContainsFunc(r.Faults, func(t Fault) bool { return t.Injected })
}

func (p *page) before() {
	held, measured := 0, 0
	for _, c := range p.r.Checks {
		if c.Before.Count > 0 {
			measured++
		}
		if c.Before.Count > 0 && !c.Before.broke(c.Allow) {
			held++
		}
	}
	of := fmt.Sprintf("%d/%d checks held", held, len(p.r.Checks))
	switch {
	case measured == 0:
	case p.r.Cause == experiment.CauseNotSteady:
		p.say("before", "not steady  "+of)
	case p.r.injected():
		p.say("before", "steady  "+of+" for "+humanSeconds(p.r.SteadyFor))
	default:
		p.say("before", of)
	}
}

func (p *page) fault(i int, t *Fault) {
	what := t.Type
	if len(t.Targets) > 0 {
		what += " → " + t.who()
	}
	if t.Name != t.Type {
		what = t.Name + "   " + what
	}
	p.say(fmt.Sprintf("action %d", i+1), what)
	switch {
	case t.Missed != "":
		p.sayIn(yellow, "", "not in force: "+t.Missed)
	case t.Injected:
		p.say("", t.story())
	case len(t.Evidence) == 0 && len(t.Targets) == 0:
		p.sayIn(dim, "", "not begun")
	default:
		p.say("", "never in force")
	}
	for _, l := range t.besides() {
		p.sayIn(dim, "", l)
	}
	for _, w := range merged(t.Warnings) {
		p.sayIn(yellow, "", "warning: "+w)
	}
}

// besides is what a page tells of t below its story.
func (t *Fault) besides() []string {
	var lines []string
	if t.Injected && t.Missed == "" {
		lines = append(lines, t.witnesses()...)
	}
	lines = append(append(lines, t.measured()...), counted(t.Notes)...)
	if t.Limited != "" {
		lines = append(lines, "limited to "+t.Limited)
	}
	return lines
}

// witnesses are what was read back about the steps, but for what the story
// tells already: a line for each target, where they do not all say the same.
func (t *Fault) witnesses() []string {
	targets, said := t.said()
	var lines []string
	switch {
	case len(targets) == 0:
		return nil
	case t.alike(targets, said):
		lines = said[targets[0]][1:]
	default:
		for _, id := range targets {
			lines = append(lines, t.nameOf(id)+": "+strings.Join(said[id], ", "))
		}
	}
	if more := len(lines) - mostWitnesses; more > 1 {
		lines = append(lines[:mostWitnesses:mostWitnesses], fmt.Sprintf("… and %d more", more))
	}
	return lines
}

// said returns what was read back, by target, each thing once, and the targets
// in order.
func (t *Fault) said() (targets []string, said map[string][]string) {
	said = map[string][]string{}
	for _, e := range t.Evidence {
		if e.What == "" || slices.Contains(said[e.Target], e.What) {
			continue
		}
		if said[e.Target] == nil {
			targets = append(targets, e.Target)
		}
		said[e.Target] = append(said[e.Target], e.What)
	}
	return targets, said
}

// alike tells whether the same was read back at each target.
func (t *Fault) alike(targets []string, said map[string][]string) bool {
	for _, id := range targets {
		if !slices.Equal(said[id], said[targets[0]]) {
			return false
		}
	}
	return true
}

// counted returns lines with those together that say the same.
func counted(lines []string) []string {
	times := map[string]int{}
	for _, l := range lines {
		times[l]++
	}
	var out []string
	for _, l := range lines {
		switch n := times[l]; {
		case n > 1:
			out = append(out, fmt.Sprintf("%s (%d times)", l, n))
		case n == 1:
			out = append(out, l)
		}
		times[l] = 0
	}
	return out
}

// who lists the targets of t. One that was struck anew each time it came back
// is named once.
func (t *Fault) who() string {
	var order []string
	pids := map[string][]int{}
	for _, target := range t.Targets {
		if _, ok := pids[target.Name]; !ok || target.Kind != "native" { // others may share a name
			order = append(order, target.Name)
		}
		pids[target.Name] = append(pids[target.Name], target.PID)
	}
	names := []string{}
	for i, name := range order {
		if i == mostTargets && len(order) > mostTargets+1 {
			names = append(names, fmt.Sprintf("%d more", len(order)-i))
			break
		}
		names = append(names, named(name, pids[name], len(order) == len(t.Targets)))
		pids[name] = pids[name][1:]
	}
	s := strings.Join(names, ", ")
	if t.Scope > len(order) {
		s += fmt.Sprintf("   %d of %d", len(order), t.Scope)
	}
	return s
}

// named is a target with its pid, or how many processes of it there were, one
// after the other.
func named(name string, pids []int, alone bool) string {
	switch {
	case len(pids) > 1 && !alone:
		return fmt.Sprintf("%s (%d processes, one after the other)", name, len(pids))
	case pids[0] != 0:
		return fmt.Sprintf("%s (pid %d)", name, pids[0])
	}
	return name
}

// leftOut matches the warning that one strike of several was left out.
var leftOut = regexp.MustCompile(`^strike \d+ was left out: (.*)`)

// merged returns warnings with those together that say the same of several
// strikes.
func merged(warnings []string) []string {
	why := func(w string) string {
		if m := leftOut.FindStringSubmatch(w); m != nil {
			return m[1]
		}
		return ""
	}
	count := map[string]int{}
	for _, w := range warnings {
		count[why(w)]++
	}
	var out []string
	for _, w := range warnings {
		reason := why(w)
		switch n := count[reason]; {
		case reason == "" || n == 1:
			out = append(out, w)
		case n > 1:
			out = append(out, fmt.Sprintf("%d strikes were left out: %s", n, reason))
			count[reason] = 0
		}
	}
	return out
}

// story says what became of t, in one line.
func (t *Fault) story() string {
	parts := []string{"in force"}
	if t.Inject != nil {
		parts[0] += " after " + humanSeconds(*t.Inject)
	}
	if targets, said := t.said(); len(targets) > 0 && t.alike(targets, said) {
		parts[0] += parens(said[targets[0]][0])
	}
	if t.Strikes > 1 {
		parts = append(parts, fmt.Sprintf("struck %d times", t.Strikes)+parens(t.Repeat)+t.inAll())
	}
	if t.Again > 0 {
		parts = append(parts, fmt.Sprintf("reinjected %s", plural(t.Again, "time", "times")))
	}
	if t.Backend != "" {
		parts = append(parts, "by "+t.Backend)
	}
	if t.Revert != nil {
		parts = append(parts, "taken back in "+humanSeconds(*t.Revert))
	}
	return strings.Join(parts, " · ")
}

// inAll says how long t was in force, where it was so again and again.
func (t *Fault) inAll() string {
	if t.Held == 0 {
		return ""
	}
	return ", " + humanSeconds(t.Held) + " in all"
}

// after says whether the system came back by itself.
func (p *page) after() {
	if !p.r.injected() || len(p.r.Checks) == 0 {
		return
	}
	if p.r.Cause == experiment.CauseAbortAfter || p.r.Cause == experiment.CauseRestarted {
		p.say("", "taken back early"+prefixed(": ", p.r.CauseMessage))
	}
	settled := slices.ContainsFunc(p.r.Checks, func(c Check) bool { return c.After.Count > 0 })
	watched := slices.ContainsFunc(p.r.Checks, func(c Check) bool { return c.Recovery.Count > 0 || c.Unsteady })
	switch {
	case settled && p.r.RecoverySeconds == nil:
		p.say("after", "steady all along")
	case settled && p.r.Steps.Undoable > 0:
		p.say("after", fmt.Sprintf("steady again %s after the fault was taken back", humanSeconds(*p.r.RecoverySeconds)))
	case settled:
		p.say("after", fmt.Sprintf("steady again %s after the fault", humanSeconds(*p.r.RecoverySeconds)))
	case p.r.Unfinished || p.r.cutShort() || !watched:
		p.sayIn(dim, "after", "not watched")
	default:
		p.sayIn(red, "after", fmt.Sprintf("not steady again within %s", humanSeconds(p.r.RecoveryWithin)))
	}
}

func (p *page) putBack() {
	n, touched := p.r.Steps, p.r.injected() || p.r.Steps.Undoable > 0
	steps := fmt.Sprintf("%s of %s steps", count(n.TakenBack), count(n.Undoable))
	behind := "nothing left behind"
	switch {
	case len(p.r.Residue) > 0:
		p.sayIn(red, "put back", fmt.Sprintf("%s, %s left behind", steps, plural(len(p.r.Residue), "thing", "things")))
		for _, l := range p.r.Residue {
			p.say("left", l)
		}
	case p.r.Unfinished:
		p.say("put back", steps+" so far")
	case !touched:
		p.say("put back", "nothing was changed")
	case n.Undoable == 0:
		p.say("put back", "nothing to take back, "+behind)
	default:
		p.say("put back", steps+", "+behind)
	}
}

// notes tells what somebody should know, whatever the verdict.
func (p *page) notes() {
	for _, s := range p.r.Superseded {
		p.sayIn(yellow, "changed", s.Error())
	}
	for _, d := range p.r.Drift {
		p.sayIn(yellow, "drift", d.Object+" is not as it was before, and no step explains it")
		for _, l := range d.Gone {
			p.say("", "gone  "+l)
		}
		for _, l := range d.New {
			p.say("", "new   "+l)
		}
	}
	for _, w := range p.r.Warnings {
		p.sayIn(yellow, "warning", w)
	}
}
