package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// The columns of the table of checks.
const (
	widestName   = 26
	leastName    = 12
	widestValue  = 16
	widestBound  = 26
	trendColumns = 20
	leastTrend   = 10
	gutter       = 2
)

// row is one check in the table.
type row struct {
	check                     *Check
	name, value, bound, state string
	more                      []string // said where there is room
	color                     color
}

// layout is how wide the columns are.
type layout struct{ name, value, trend, bound, state int }

func (l layout) width() int {
	w := bodyStart + l.name + l.value + l.bound + l.state + 3*gutter
	if l.trend > 0 {
		w += l.trend + gutter
	}
	return w
}

// checks writes the table of checks, their trends, and below them when the
// fault stood.
func (p *page) checks() {
	rows := p.rows()
	if len(rows) == 0 {
		return
	}
	label := "before"
	if p.r.injected() {
		label = "during"
	}
	l := p.lay(rows)
	for _, r := range rows {
		p.line(left(strings.Repeat(" ", labelStart)+label, bodyStart) + p.row(r, l))
		label = ""
	}
	if mark := p.r.Timeline.mark(l.trend); mark != "" {
		p.line(strings.Repeat(" ", bodyStart+l.name+l.value+2*gutter) + p.paint(dim, p.clean(mark)))
	}
}

// rows returns the checks that were measured; all of them, where a fault was
// in force.
func (p *page) rows() []row {
	var rows []row
	for i := range p.r.Checks {
		c := &p.r.Checks[i]
		if c.Before.Count == 0 && !p.r.injected() {
			continue
		}
		value, state, more, color := c.state(p.r)
		rows = append(rows, row{
			check: c, name: p.clean(c.Name), state: state, more: more, color: color,
			value: p.fit(p.clean(value), widestValue), bound: p.fit(p.clean(c.bounds()), widestBound),
		})
	}
	return rows
}

// lay finds the widest columns that keep to the page: it takes from the
// trends first, then from the names.
func (p *page) lay(rows []row) layout {
	var l layout
	for _, r := range rows {
		l.name = min(widestName, max(l.name, columns(r.name)))
		l.value = max(l.value, columns(r.value))
		l.trend = max(l.trend, min(trendColumns, columns(r.check.Trend)))
		l.bound = max(l.bound, columns(r.bound))
		l.state = max(l.state, columns(r.state))
	}
	if over := l.width() - p.wide; over > 0 {
		l.trend = max(min(leastTrend, l.trend), l.trend-over)
	}
	if over := l.width() - p.wide; over > 0 {
		l.name = max(min(leastName, l.name), l.name-over)
	}
	if l.width() > p.wide {
		l.trend = 0
	}
	return l
}

func (p *page) row(r row, l layout) string {
	gap := strings.Repeat(" ", gutter)
	line := left(p.fit(r.name, l.name), l.name) + gap + right(r.value, l.value) + gap
	if l.trend > 0 {
		line += left(p.clean(r.check.shorten(l.trend)), l.trend) + gap
	}
	line += left(r.bound, l.bound) + gap
	more := ""
	room := p.wide - l.width() - gutter
	for _, part := range r.more {
		part = p.clean(prefixed(" · ", part))
		if more == "" {
			part = strings.TrimLeft(part, " ·-")
		}
		if room -= columns(part); room < 0 {
			break
		}
		more += part
	}
	return line + p.paint(r.color, left(r.state, l.state)) + prefixed(gap, more)
}

// bounds writes what the check must keep: ≥ 99 %, ≤ 100 ms, 1–5.
func (c *Check) bounds() string {
	switch {
	case c.Min != nil && c.Max != nil:
		return humanBound(*c.Min, c.Unit) + " – " + humanBound(*c.Max, c.Unit)
	case c.Min != nil:
		return "≥ " + humanBound(*c.Min, c.Unit)
	case c.Max != nil:
		return "≤ " + humanBound(*c.Max, c.Unit)
	}
	return ""
}

// state says in a word how the check bore the run, with the value that shows
// it: the mean where it held, the worst where it did not. more is said where
// there is room.
func (c *Check) state(r *Result) (value, state string, more []string, _ color) {
	s := &c.During
	if !r.injected() {
		s = &c.Before
	}
	failed := fmt.Sprintf("%s of %s failed", count(s.Failed), count(s.Count))
	switch {
	case s.broke(c.Allow) && c.Impact != nil:
		return c.value(s.Worst), "BROKE", []string{humanSeconds(*c.Impact) + " after the fault", failed}, red
	case s.broke(c.Allow):
		return c.value(s.Worst), "BROKE", []string{failed}, red
	case c.After.broke(c.Allow):
		return c.value(c.After.Worst), "BROKE", []string{"after the fault was over"}, red
	case c.Unsteady:
		return c.value(c.Recovery.Worst), "BROKE", []string{"not steady again"}, red
	case !c.Held && r.injected():
		return c.unproven(r)
	case s.Failed > 0:
		more = []string{failed, exact(float64(c.Allow)) + " % allowed"}
	case c.value(s.Worst) != c.value(c.Mean):
		more = []string{"worst " + c.value(s.Worst)}
	}
	return c.value(c.Mean), "held", more, green
}

// unproven says what is missing to show that the check held.
func (c *Check) unproven(r *Result) (value, state string, more []string, _ color) {
	switch {
	case c.During.Count == 0:
		return c.value(c.Mean), "not measured", nil, red
	case r.Unfinished || r.cutShort():
		return c.value(c.Mean), "held", []string{"until then"}, green
	}
	return c.value(c.Mean), "held", []string{"not seen after"}, yellow
}

// cutShort tells whether the run was not left to see how the system recovers.
func (r *Result) cutShort() bool {
	return r.Error != "" || r.Cause != "" && r.Cause != experiment.CauseAbortAfter
}

// value writes one of c's values.
func (c *Check) value(v *float64) string {
	if v == nil {
		return "–"
	}
	return humanValue(*v, c.Unit)
}

// mark draws when the fault stood below a trend of so many columns.
func (t *Timeline) mark(columns int) string {
	if t == nil || t.FaultFrom == nil || t.FaultTo == nil || columns == 0 || !(t.Seconds > 0) {
		return ""
	}
	scale := float64(columns) / t.Seconds
	from := min(int(*t.FaultFrom*scale), columns-1)
	to := min(max(int(math.Ceil(*t.FaultTo*scale))-1, from), columns-1)
	n := to - from - 1
	if n < 0 {
		return strings.Repeat(" ", from) + "┊"
	}
	word := "fault"
	if n < len(word) {
		word = ""
	}
	dots := n - len(word)
	return strings.Repeat(" ", from) + "┊" + strings.Repeat("·", dots/2) + word + strings.Repeat("·", dots-dots/2) + "┊"
}
