package engine

import (
	"time"

	"github.com/simianhq/simian/experiment"
)

// beat is what comes next in an action.
type beat int

const (
	beatEnd     beat = iota // the action is over
	beatRelease             // what is held is taken back
	beatStrike              // it strikes once more
)

// rhythm is when an action strikes, and when it takes back in between. Strikes
// keep to the times that the file says, so that their sum is what it says too:
//
//	every: 10s        ├─ 1 ─────┼─ 2 ─────┼─ 3 ─────┤
//	pulse: on, off    ├─ 1 ┤    ├─ 2 ┤    ├─ 3 ┤    ┊
//	                  start                         until
type rhythm struct {
	repeat *experiment.Repeat // nil: it strikes once
	start  time.Time          // the first strike was in force
	until  time.Time          // the action's end
	n      int                // strikes so far, those left out included
	since  time.Time          // the last one was in force
	holds  bool               // what it put in force is to be taken back before the next

	counted bool // the action is over once it has struck as often as it may
}

func newRhythm(a experiment.Action, now time.Time) *rhythm {
	counted := a.Repeat != nil && a.Repeat.Times > 0 && a.For == a.Repeat.Takes()
	return &rhythm{repeat: a.Repeat, start: now, until: now.Add(a.For.D()), n: 1, since: now, counted: counted}
}

// due is when strike n, from 1, is.
func (y *rhythm) due(n int) time.Time {
	return y.start.Add(time.Duration(n-1) * y.repeat.Period())
}

// next returns what comes next, and when. Nothing begins at the action's end.
func (y *rhythm) next() (time.Time, beat) {
	at, what := y.until, beatEnd
	switch {
	case y.repeat == nil:
		return at, what
	case y.counted && y.n >= y.repeat.Times && y.holds: // the last, if late, is held as long as the others
		return y.since.Add(y.repeat.Held()), beatEnd
	}
	due := y.due(y.n + 1)
	more := y.repeat.Times == 0 || y.n < y.repeat.Times
	switch over := y.since.Add(y.repeat.Held()); {
	case y.holds && more && y.repeat.Pulse == nil && due.Before(over):
		at, what = due, beatRelease
	case y.holds:
		at, what = over, beatRelease
	case more:
		at, what = due, beatStrike
	}
	if !at.Before(y.until) {
		return y.until, beatEnd
	}
	return at, what
}

// skip leaves out the strikes whose time has gone by at now, and returns how
// many of them are pulses. What strikes at an interval strikes late instead,
// once for all that it missed.
func (y *rhythm) skip(now time.Time) int {
	before := y.n
	if y.repeat.Pulse == nil {
		for !now.Before(y.due(y.n + 2)) {
			y.n++
		}
		return 0
	}
	for now.After(y.due(y.n + 1)) {
		y.n++
	}
	return y.n - before
}
