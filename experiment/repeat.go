package experiment

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Repeat is how an action strikes again and again: at an interval, others each
// time; or the same targets in pulses.
type Repeat struct {
	Every Duration `json:"every,omitzero" jsonschema:"strikes anew at this interval, with targets drawn anew; what is held is taken back right before"`
	Times int      `json:"times,omitzero" jsonschema:"strikes at the most; left out, as many as fit into for"`
	Pulse *Pulse   `json:"pulse,omitempty" jsonschema:"holds the fault and takes it back by turns, on the same targets"`
}

// Pulse is how long a fault is held, and how long not, by turns. A pulse
// begins when on and off of the one before are over.
type Pulse struct {
	On  Duration `json:"on" jsonschema:"how long the fault is held; 20ms or more"`
	Off Duration `json:"off" jsonschema:"how long it is taken back; 20ms or more"`
}

// How quick an action may repeat.
const (
	leastEvery = Duration(10 * time.Millisecond) // of a fault that strikes and holds nothing
	leastHeld  = Duration(20 * time.Millisecond) // to put a fault in force, read it back and take it back takes a few
	mostTimes  = 1_000_000
)

// Validate implements Validator.
func (p Pulse) Validate() error {
	for _, part := range []struct {
		name string
		d    Duration
		what string
	}{{"on", p.On, "held"}, {"off", p.Off, "taken back"}} {
		switch {
		case part.d == 0:
			return Fieldf(part.name, "say how long the fault is %s in each pulse, %s at the least", part.what, leastHeld)
		case part.d < leastHeld:
			return Fieldf(part.name, "%s is too short: a fault is put in force and taken back in pulses of %s at the least", part.d, leastHeld)
		}
	}
	return nil
}

// Validate implements Validator.
func (r Repeat) Validate() error {
	switch {
	case r == (Repeat{}):
		return errors.New("says nothing: give every (such as 10s), or pulse (such as {on: 2s, off: 8s})")
	case r.Times < 0:
		return Fieldf("times", "%d is not a number of strikes", r.Times)
	case r.Times > mostTimes:
		return Fieldf("times", "%d strikes are more than a million: leave it out, and for ends them", r.Times)
	case r.Every > 0 && r.Pulse != nil:
		return Fieldf("every", "draws others at each strike, and pulse keeps to the same ones, on and off: say one of them")
	case r.Every == 0 && r.Pulse == nil:
		return Fieldf("times", "counts strikes, and nothing strikes again: say every or pulse besides")
	case r.Every > 0 && r.Every < leastEvery:
		return Fieldf("every", "%s is too quick: %s at the least", r.Every, leastEvery)
	}
	return nil
}

// Period returns the time from one strike to the next.
func (r *Repeat) Period() time.Duration {
	if r.Pulse != nil {
		return r.Pulse.On.D() + r.Pulse.Off.D()
	}
	return r.Every.D()
}

// Held returns how long each strike of a fault is held.
func (r *Repeat) Held() time.Duration {
	if r.Pulse != nil {
		return r.Pulse.On.D()
	}
	return r.Every.D()
}

// fits returns how many strikes begin within d.
func (r *Repeat) fits(d Duration) int {
	return int((d.D() + r.Period() - 1) / r.Period())
}

// Takes returns how long all strikes take together, and longestDuration where
// that is more.
func (r *Repeat) Takes() Duration {
	if r.Period() > longestDuration/time.Duration(r.Times) {
		return Duration(longestDuration)
	}
	return Duration(r.Period()*time.Duration(r.Times-1) + r.Held())
}

// String gives "every 10s, 3 times" or "2s on, 8s off"; "" where it is nil.
func (r *Repeat) String() string {
	if r == nil {
		return ""
	}
	s := fmt.Sprintf("every %s", r.Every)
	if r.Pulse != nil {
		s = fmt.Sprintf("%s on, %s off", r.Pulse.On, r.Pulse.Off)
	}
	if r.Times > 0 {
		s += fmt.Sprintf(", %d times", r.Times)
	}
	return s
}

// OnRestart is what an action does about a target that leaves while its fault
// is on.
type OnRestart string

// The words of onRestart.
const (
	RestartReinject OnRestart = "reinject" // what comes in its place is struck again
	RestartStop     OnRestart = "stop"     // it is done with; what was done to it is taken back
	RestartFail     OnRestart = "fail"     // the run is over, and has failed
)

var onRestarts = []string{string(RestartReinject), string(RestartStop), string(RestartFail)}

// Validate implements Validator.
func (o OnRestart) Validate() error {
	if o != "" && !slices.Contains(onRestarts, string(o)) {
		return fmt.Errorf("unknown word %s%s", quote(string(o)), valid("words", string(o), onRestarts))
	}
	return nil
}

// Instant tells whether the action's fault strikes and holds nothing.
func (a Action) Instant() bool {
	i, ok := a.Fault.(Instant)
	return ok && i.Instant()
}

// repeats tells how the fault strikes again, nil where it does not: as its
// action says, or as it says itself.
func (a Action) repeats() *Repeat {
	if f, ok := a.Fault.(Repeater); ok && a.Repeat == nil && f.Interval() > 0 {
		return &Repeat{Every: Duration(f.Interval())}
	}
	return a.Repeat
}

// lasts returns how long the action is held by what the file says.
func (a Action) lasts() Duration {
	if r := a.repeats(); a.For == 0 && r != nil && r.Times > 0 {
		return r.Takes()
	}
	return a.For
}

// checkRepeat refuses a rhythm that does not go with the fault, or with for.
func (a Action) checkRepeat() error {
	own, ok := a.Fault.(Repeater)
	r := a.Repeat
	switch {
	case r == nil:
		return nil
	case ok && own.Interval() > 0:
		return Fieldf("repeat", "the fault has every: %s of its own: say it once, here or there", own.Interval())
	case r.Pulse != nil && a.Instant():
		return Fieldf("repeat/pulse", "the fault strikes and holds nothing that could be taken back: say every")
	case r.Every > 0 && r.Every < leastHeld && !a.Instant():
		return Fieldf("repeat/every", "%s is too quick for a fault that is held and taken back: %s at the least", r.Every, leastHeld)
	case a.For == 0 && r.Times == 0:
		return errors.New("for is missing: say how long it is repeated, such as for: 10s, or how often (repeat.times)")
	case a.For == 0 && r.Takes() == Duration(longestDuration):
		return Fieldf("repeat/times", "%s: that takes longer than a year", r)
	case a.For > 0:
		return a.checkFits(r)
	}
	return nil
}

// checkFits refuses strikes that for leaves no time for.
func (a Action) checkFits(r *Repeat) error {
	fits := r.fits(a.For)
	switch {
	case r.Times > fits:
		return Fieldf("repeat/times", "for is %s, and only %d strikes begin in that time: give a longer for, or leave it out", a.For, fits)
	case r.Times != 1 && fits == 1:
		return Fieldf("repeat", "for is %s, and it would strike once only: the next would come after %s", a.For, r.Period())
	}
	return nil
}
