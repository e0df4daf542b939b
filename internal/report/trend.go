package report

import (
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// A trend is the worst sample of each equal part of a run as a glyph, so that
// a glance tells when a check broke. Height is the value's share of the
// largest value or bound, but bent where that would hide a break: what lies
// below its min is ▄ at the most and what holds ▅ at least; what lies above
// its max is █ and what holds ▇ at the most. × could not be measured; a space
// was not sampled.
const (
	levels   = "▁▂▃▄▅▆▇█"
	lost     = '×'
	unseen   = ' '
	topLevel = 8 // █
)

// What a grid keeps of a run, however long it is.
const (
	gridCells    = 256
	gridFinest   = experiment.BootTime(10 * time.Millisecond)
	gridCoarsest = experiment.BootTime(1) << 52 // two months a cell: no run has more
	mostColumns  = 40                           // of a trend in a result
)

// cell is the worst of what one check measured in one part of the run.
type cell struct {
	worst float64
	seen  bool
	lost  bool // something could not be measured
}

// grid is the time axis that the trends of all checks share: gridCells parts
// of one width, which doubles each time the run outgrows them.
type grid struct {
	begun  bool
	origin experiment.BootTime // the first sample
	last   experiment.BootTime // the end of the latest
	width  experiment.BootTime
}

// add puts s into c's cells: at the end of its window or, where a probe took
// its time, all that time.
func (g *grid) add(all []*checkFold, c *checkFold, s *sample) {
	if !g.begun {
		*g = grid{true, s.to, s.to, gridFinest}
	}
	for max(0, s.to-g.origin)/g.width >= gridCells && g.width < gridCoarsest {
		g.width *= 2
		for _, each := range all {
			each.halve()
		}
	}
	if c.cells == nil {
		c.cells = make([]cell, gridCells)
	}
	g.last = max(g.last, s.to)
	first, last := g.cell(s.from), g.cell(s.to)
	if c.Window > 0 {
		first = last
	}
	for i := first; i <= last; i++ {
		c.cells[i].add(c, s)
	}
}

// cell returns the index of the cell that t lies in.
func (g *grid) cell(t experiment.BootTime) int {
	return int(min(max(0, t-g.origin)/g.width, gridCells-1))
}

func (k *cell) add(c *checkFold, s *sample) {
	if !s.measured() {
		k.lost = true
		return
	}
	k.merge(c, cell{worst: s.value, seen: true})
}

// merge takes in other, of the same check.
func (k *cell) merge(c *checkFold, other cell) {
	k.lost = k.lost || other.lost
	if other.seen && (!k.seen || c.badness(other.worst) > c.badness(k.worst)) {
		k.worst, k.seen = other.worst, true
	}
}

// halve merges neighbouring cells, so that each covers twice the time.
func (c *checkFold) halve() {
	for i := range len(c.cells) / 2 {
		two := c.cells[2*i]
		two.merge(c, c.cells[2*i+1])
		c.cells[i] = two
	}
	clear(c.cells[len(c.cells)/2:])
}

// span is the time from the first sample to the last.
func (g *grid) span() experiment.BootTime { return max(0, g.last-g.origin) }

// columns returns how many glyphs a trend has: no more than there are samples
// of the check that has the most, so that there are no holes.
func (g *grid) columns(all []*checkFold) int {
	n := 0
	for _, c := range all {
		n = max(n, c.total)
	}
	return min(n, mostColumns, int(min(g.span()/max(1, g.width), gridCells))+1)
}

// trend draws c in so many columns.
func (g *grid) trend(c *checkFold, columns int) string {
	if c.total == 0 {
		return ""
	}
	parts := make([]cell, columns)
	used := g.cell(g.last) + 1
	for i, k := range c.cells[:used] {
		parts[i*columns/used].merge(c, k)
	}
	top := c.top(parts)
	out := make([]rune, columns)
	for i, k := range parts {
		out[i] = c.glyph(k, top)
		if out[i] == unseen && i > 0 && parts[i-1] != (cell{}) {
			out[i] = out[i-1] // it was sampled a little less often than there are columns
		}
	}
	return string(out)
}

// top is the value drawn full.
func (c *checkFold) top(parts []cell) float64 {
	top := 0.0
	if c.Unit == "ratio" {
		top = 1
	}
	for _, b := range []*experiment.Bound{c.Min, c.Max} {
		if b != nil {
			top = max(top, b.Value)
		}
	}
	for _, k := range parts {
		top = max(top, k.worst)
	}
	return top
}

func (c *checkFold) glyph(k cell, top float64) rune {
	switch {
	case k.lost:
		return lost
	case !k.seen:
		return unseen
	}
	level := 1
	if top > 0 {
		level = 1 + int(max(0, k.worst/top)*(topLevel-0.001))
	}
	return []rune(levels)[c.bend(min(level, topLevel), k.worst)-1]
}

// bend sets what breaks a bound apart from what keeps it.
func (c *checkFold) bend(level int, value float64) int {
	if c.Max != nil {
		if value > c.Max.Value {
			return topLevel
		}
		level = min(level, topLevel-1)
	}
	if c.Min != nil {
		if value < c.Min.Value {
			return min(level, topLevel/2)
		}
		level = max(level, topLevel/2+1)
	}
	return level
}

// timeline returns the time that the trends cover, and when in it the fault
// stood.
func (f *Folder) timeline() *Timeline {
	if !f.grid.begun {
		return nil
	}
	t := &Timeline{Seconds: time.Duration(f.grid.span()).Seconds()}
	if from, ok := f.marks.since(during); ok {
		to, over := f.marks.since(recovery)
		if !over {
			to = f.grid.last
		}
		t.FaultFrom, t.FaultTo = f.grid.place(from), f.grid.place(to)
	}
	return t
}

// place returns t in seconds from the first sample.
func (g *grid) place(t experiment.BootTime) *float64 {
	return seconds(min(max(0, t.Sub(g.origin)), time.Duration(g.span())))
}

// shorten draws the trend of c in fewer columns, the worst of those merged.
func (c *Check) shorten(columns int) string {
	glyphs := []rune(c.Trend)
	if columns <= 0 || len(glyphs) <= columns {
		return c.Trend
	}
	out := slices.Repeat([]rune{unseen}, columns)
	for i, g := range glyphs {
		at := i * columns / len(glyphs)
		out[at] = c.worse(out[at], g)
	}
	return string(out)
}

// worse returns the one of two glyphs that tells of the worse.
func (c *Check) worse(a, b rune) rune {
	high, low := max(a, b), min(a, b)
	switch {
	case a == unseen || b == lost:
		return b
	case b == unseen || a == lost:
		return a
	case c.Min == nil || c.Max != nil && strings.HasSuffix(levels, string(high)):
		return high
	}
	return low
}
