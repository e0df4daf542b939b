package main

import (
	"fmt"
	"slices"
	"time"
)

// report is what comes out.
type report struct {
	Host     Host     `json:"host"`
	Launches []Launch `json:"launches,omitempty"`
	Goals    []Goal   `json:"goals"`
}

// Launch is one contender.
type Launch struct {
	Name    string        `json:"name"`
	Gives   string        `json:"gives"`             // what a container gets
	Missing string        `json:"missing,omitempty"` // why it could not be measured
	At      map[int]*Many `json:"at,omitempty"`      // by how many were launched at once
}

// Many is several containers launched at once, over all rounds.
type Many struct {
	Up   times `json:"up_ms"`   // from the call until the first instruction of the last; of a lab: until up has returned
	Down times `json:"down_ms"` // of one: from the call until nothing of it is left; of several: from the word to end. Of a lab: of the command
}

// Goal is one line of the table.
type Goal struct {
	What     string `json:"what"`
	Goal     string `json:"goal"`
	Measured string `json:"measured"`
	Met      *bool  `json:"met"` // null: it could not be measured
}

// times are durations; as JSON, milliseconds.
type times []time.Duration

// median returns the middle one, 0 of none.
func (t times) median() time.Duration { return t.at(50) }

func (t times) worst() time.Duration { return t.at(100) }

// at returns a percentile.
func (t times) at(percent int) time.Duration {
	if len(t) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(t))
	return s[min(len(s)-1, len(s)*percent/100)]
}

// MarshalJSON implements json.Marshaler.
func (t times) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, d := range t {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%.3f", d.Seconds()*1000)
	}
	return append(b, ']'), nil
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
}

func (r *report) launch(c contender) *Launch {
	i := slices.IndexFunc(r.Launches, func(l Launch) bool { return l.Name == c.name })
	if i < 0 {
		r.Launches = append(r.Launches, Launch{Name: c.name, Gives: c.gives, At: map[int]*Many{}})
		i = len(r.Launches) - 1
	}
	return &r.Launches[i]
}

func (r *report) add(c contender, n int, f flight) {
	l := r.launch(c)
	if l.At[n] == nil {
		l.At[n] = &Many{}
	}
	l.At[n].Up, l.At[n].Down = append(l.At[n].Up, f.up), append(l.At[n].Down, f.down)
}

// lack notes a contender that is not there.
func (r *report) lack(c contender, why error) { r.launch(c).Missing = why.Error() }

// of returns what was measured of a contender; nil where nothing was.
func (r *report) of(name string, n int) *Many {
	for i := range r.Launches {
		if r.Launches[i].Name == name {
			return r.Launches[i].At[n]
		}
	}
	return nil
}

// judge adds a goal, met or not.
func (r *report) judge(what, goal, measured string, met bool) {
	r.Goals = append(r.Goals, Goal{what, goal, measured, &met})
}

// unknown adds a goal that could not be measured.
func (r *report) unknown(what, goal, why string) {
	r.Goals = append(r.Goals, Goal{What: what, Goal: goal, Measured: why})
}
