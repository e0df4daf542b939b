package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// How often things may be shown.
const (
	liveEvery = 100 * time.Millisecond // the live line is written anew
	turnEvery = time.Second            // a check that breaks and holds by turns is told of
)

// eraseLine goes to the start of the line and erases it (ECMA-48 CR, EL).
const eraseLine = "\r\x1b[K"

// Progress shows a run while it goes on: a line for each event of note and,
// on a terminal, one line below them that is written anew in place. It never
// waits for what it writes to, and does not mind where that is gone. Its
// methods may be called by several goroutines.
type Progress struct {
	mu       sync.Mutex
	out      *outbox
	style    Style
	terminal bool

	header *experiment.Header
	start  experiment.BootTime
	phase  experiment.Phase
	until  experiment.BootTime // when the phase should end; 0 where that is not known
	undone int                 // steps taken back, and not told of yet
	again  map[int]*strikes    // by action: what repeats
	tried  map[int]string      // by step: why its undo failed
	checks []liveCheck
	live   bool // a live line stands
	lived  experiment.BootTime
}

// strikes are those of an action that repeats.
type strikes struct {
	n, toldOf int
	who       string              // is struck by the latest
	told      experiment.BootTime // when a line was last written
}

// liveCheck is a check as it was last seen.
type liveCheck struct {
	seen, held bool
	value      string
	told       bool // as held; what the last line said
	toldAt     experiment.BootTime
}

// NewProgress returns a Progress that writes to w, with a live line where w is
// a terminal. Close ends it.
func NewProgress(w io.Writer, style Style, terminal bool) *Progress {
	return &Progress{out: newOutbox(w), style: style, terminal: terminal, tried: map[int]string{}, again: map[int]*strikes{}}
}

// Event shows e, if it is worth it. It keeps no reference to e.
func (p *Progress) Event(e *experiment.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case experiment.EventBegin:
		p.begin(e)
	case experiment.EventSample:
		p.sample(e)
	case experiment.EventPhase:
		p.enter(e)
	case experiment.EventUndone:
		p.undone++
		if e.Superseded != nil {
			p.tell(e, yellow, e.Superseded.Error())
		}
	case experiment.EventUndoFail:
		p.undoFailed(e)
	case experiment.EventReverted:
		p.reverted(e)
	default:
		p.other(e)
	}
}

// Close erases the live line and waits until all is written, though not
// longer than a second. What is written afterwards follows cleanly.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.out.close()
}

// other tells of the events that need no more than their words.
func (p *Progress) other(e *experiment.Event) {
	switch e.Kind {
	case experiment.EventGuardian:
		p.guardian(e)
	case experiment.EventLabUp:
		p.labUp(e)
	case experiment.EventContain:
		p.contain(e)
	case experiment.EventPlan:
		p.plan(e)
	case experiment.EventInjected:
		p.injected(e)
	case experiment.EventLeft:
		p.tell(e, yellow, p.name(e.Action)+": "+e.Message)
	case experiment.EventReinjected:
		p.tell(e, bold, fmt.Sprintf("%s: %s, after %s", p.name(e.Action), e.Message, humanSeconds(e.Seconds)))
	case experiment.EventMissed:
		p.tell(e, yellow, p.name(e.Action)+" is not in force"+prefixed(": ", e.Message))
	case experiment.EventTakeBack:
		p.takeBack(e)
	case experiment.EventWarning:
		p.tell(e, yellow, "warning: "+e.Message)
	case experiment.EventEnd:
		p.end(e)
	default:
		p.leftovers(e)
	}
}

func (p *Progress) begin(e *experiment.Event) {
	if e.Header == nil || p.header != nil {
		return
	}
	p.header, p.start = e.Header, e.Boot
	p.checks = make([]liveCheck, len(e.Header.Experiment.Checks))
	run := ""
	if e.Run != "" {
		run = "run " + string(e.Run) + " of "
	}
	x := e.Header.Experiment
	p.tell(e, plain, fmt.Sprintf("%s%s, seed %d", run, x.Name, e.Header.Seed))
	p.phase = experiment.PhaseBefore
	if x.Lab != nil && x.Lab.Struck == "" {
		p.tell(e, plain, "launching the lab "+x.Lab.Name)
		return
	}
	p.awaitSteady(e)
}

// awaitSteady tells what has to hold before anything is broken.
func (p *Progress) awaitSteady(e *experiment.Event) {
	if p.header == nil {
		return
	}
	x := p.header.Experiment
	if n := len(x.Checks); n > 0 {
		p.tell(e, plain, fmt.Sprintf("waiting for %s to hold for %s", plural(n, "check", "checks"), humanSeconds(x.SteadyFor.D().Seconds())))
	}
}

func (p *Progress) enter(e *experiment.Event) {
	if e.Phase == nil || p.header == nil {
		return
	}
	p.phase = e.Phase.Name
	x := p.header.Experiment
	n := plural(len(x.Checks), "check", "checks")
	switch {
	case p.phase == experiment.PhaseRecovery:
		p.until = e.Phase.Since.Add(x.RecoveryWithin.D())
		if len(x.Checks) > 0 {
			p.tell(e, plain, fmt.Sprintf("waiting for %s to hold again, %s at the most", n, humanSeconds(x.RecoveryWithin.D().Seconds())))
		}
		return
	case p.phase == experiment.PhaseBefore && len(x.Checks) > 0:
		p.tell(e, green, fmt.Sprintf("steady: %s held for %s", n, humanSeconds(x.SteadyFor.D().Seconds())))
	case p.phase == experiment.PhaseAfter && len(x.Checks) > 0:
		p.tell(e, green, "steady again")
	}
	if p.phase != experiment.PhaseDuring {
		p.until = 0
	}
}

func (p *Progress) guardian(e *experiment.Event) {
	if e.Guardian == nil {
		return
	}
	p.tell(e, plain, fmt.Sprintf("guardian armed (%s)", e.Guardian.Process))
	if e.Guardian.Warning != "" {
		p.tell(e, yellow, "warning: "+e.Guardian.Warning)
	}
}

func (p *Progress) plan(e *experiment.Event) {
	if e.Plan == nil {
		return
	}
	var a actionFold
	a.plan(e.Plan)
	t := Fault{Targets: a.targets, Scope: a.scope}
	if e.Plan.Strike > 1 {
		p.strikes(e.Action).who = t.who() // told with it
		return
	}
	p.tell(e, plain, p.name(e.Action)+" → "+t.who())
	if a.limited != "" {
		p.tell(e, dim, "limited to "+a.limited)
	}
}

func (p *Progress) injected(e *experiment.Event) {
	s := p.strikes(e.Action)
	if s.n++; s.n > 1 {
		p.struckAgain(e, s)
		return
	}
	if a := p.action(e.Action); a != nil && a.For > 0 {
		p.until = max(p.until, e.Boot.Add(a.For.D()))
	}
	s.toldOf, s.told = 1, e.Boot
	p.tell(e, bold, fmt.Sprintf("%s in force after %s", p.name(e.Action), humanSeconds(e.Seconds)))
}

func (p *Progress) strikes(action int) *strikes {
	if p.again[action] == nil {
		p.again[action] = &strikes{}
	}
	return p.again[action]
}

// struckAgain tells of the strikes since the last line, once in a while.
func (p *Progress) struckAgain(e *experiment.Event, s *strikes) {
	if e.Boot.Sub(s.told) < turnEvery {
		return
	}
	p.tell(e, bold, fmt.Sprintf("%s in force again → %s (%s so far)", p.name(e.Action), s.who, plural(s.n, "strike", "strikes")))
	s.toldOf, s.told = s.n, e.Boot
}

func (p *Progress) takeBack(e *experiment.Event) {
	if e.Cause == experiment.CauseEnd {
		return // its end says enough
	}
	what := "everything"
	if e.Action > 0 {
		what = p.name(e.Action)
	}
	p.tell(e, yellow, fmt.Sprintf("taking back %s: %s", what, e.Cause)+parens(e.Message))
}

func (p *Progress) reverted(e *experiment.Event) {
	if a := p.action(e.Action); a != nil && a.Repeat != nil && p.strikes(e.Action).toldOf < p.strikes(e.Action).n {
		return // its strike was not told of either
	}
	if p.undone == 0 {
		p.tell(e, plain, p.name(e.Action)+" is over")
		return
	}
	p.tell(e, plain, fmt.Sprintf("%s taken back: %s in %s", p.name(e.Action), p.countUndone(), humanSeconds(e.Seconds)))
}

// undoFailed tells of a step that could not be taken back, and not again
// until there is another reason.
func (p *Progress) undoFailed(e *experiment.Event) {
	if why, told := p.tried[e.Step]; told && why == e.Error {
		return
	}
	p.tried[e.Step] = e.Error
	p.tell(e, red, fmt.Sprintf("step %d is not taken back yet, trying again: %s", e.Step, e.Error))
}

func (p *Progress) leftovers(e *experiment.Event) {
	for _, l := range e.Lines {
		if e.Kind == experiment.EventResidue {
			p.tell(e, red, "left: "+l)
		}
	}
	for _, d := range e.Drift {
		p.tell(e, yellow, "drift: "+d.Object+" is not as it was before, and no step explains it")
	}
	for _, g := range e.Gaps {
		p.tell(e, red, fmt.Sprintf("%s has %d of %d running", g.Workload, g.Now, g.Before))
	}
}

func (p *Progress) end(e *experiment.Event) {
	if p.undone > 0 {
		p.tell(e, plain, p.countUndone()+" taken back")
	}
	if e.Error != "" {
		p.tell(e, red, "error: "+e.Error)
		return
	}
	p.tell(e, plain, "over")
	p.erase()
}

// countUndone says how many steps were taken back since it was last asked.
func (p *Progress) countUndone() string {
	n := p.undone
	p.undone = 0
	return plural(n, "step", "steps")
}

func (p *Progress) action(n int) *experiment.ActionSummary {
	if p.header == nil || n < 1 || n > len(p.header.Experiment.Actions) {
		return nil
	}
	return &p.header.Experiment.Actions[n-1]
}

// name names action n.
func (p *Progress) name(n int) string {
	a := p.action(n)
	if a == nil {
		return fmt.Sprintf("action %d", n)
	}
	if a.Name == "" || a.Name == a.Type {
		return fmt.Sprintf("action %d %s", n, a.Type)
	}
	return fmt.Sprintf("action %d %s (%s)", n, a.Name, a.Type)
}

// tell writes one line, with the time since the run began. Off a terminal too.
func (p *Progress) tell(e *experiment.Event, c color, text string) {
	p.erase()
	at := time.Duration(0)
	if p.header != nil {
		at = max(0, e.Boot.Sub(p.start))
	}
	p.out.send(fmt.Sprintf("%8.2f s  ", at.Seconds()) + p.style.paint(c, p.style.clean(text)) + "\n")
}

// erase removes the live line.
func (p *Progress) erase() {
	if p.live {
		p.out.send(eraseLine)
		p.live = false
	}
}

// sample takes in how a check does, and tells of a turn.
func (p *Progress) sample(e *experiment.Event) {
	s := e.Sample
	if s == nil || s.Check < 0 || s.Check >= len(p.checks) {
		return
	}
	c, x := &p.checks[s.Check], &p.header.Experiment.Checks[s.Check]
	first := !c.seen
	c.seen, c.held, c.value = true, s.Held, "not measured"
	if s.Error == "" {
		c.value = humanValue(s.Value, x.Unit)
	}
	if first {
		c.told = true // a check that holds from the start needs no line
	}
	if c.held != c.told && (c.toldAt == 0 || e.Boot.Sub(c.toldAt) >= turnEvery) {
		c.told, c.toldAt = c.held, e.Boot
		p.turn(e, c, x)
	}
	p.refresh(e)
}

func (p *Progress) turn(e *experiment.Event, c *liveCheck, x *experiment.CheckSummary) {
	if c.held {
		p.tell(e, green, fmt.Sprintf("%s holds again: %s", x.Name, c.value))
		return
	}
	bounds := (&Check{Min: number(x.Min), Max: number(x.Max), Unit: x.Unit}).bounds()
	p.tell(e, red, fmt.Sprintf("%s BROKE: %s%s", x.Name, c.value+prefixed(": ", e.Sample.Error), parens(bounds)))
}

// refresh writes the live line anew, if it is time.
func (p *Progress) refresh(e *experiment.Event) {
	if !p.terminal || p.out.busy() || p.live && e.Boot.Sub(p.lived) < liveEvery {
		return
	}
	width := p.style.Width
	if width <= 0 {
		width = defaultWidth
	}
	text := p.style.fit(p.style.clean(p.status(e.Boot)), width-1)
	p.out.send(eraseLine + p.style.paint(dim, text))
	p.live, p.lived = true, e.Boot
}

// status says how things stand: the phase, what is left of it, each check.
func (p *Progress) status(now experiment.BootTime) string {
	parts := []string{string(p.phase)}
	if left := p.until.Sub(now); p.until > 0 && left > 0 {
		parts[0] += fmt.Sprintf("  %.0f s left", left.Seconds())
	}
	for _, broken := range []bool{true, false} { // what is cut off at the edge holds
		for i, c := range p.checks {
			if !c.seen || c.held == broken {
				continue
			}
			text := p.header.Experiment.Checks[i].Name + " " + c.value
			if broken {
				text += " BROKE"
			}
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " · ")
}
