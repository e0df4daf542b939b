package dnsrelay

import (
	"cmp"
	"slices"
	"sync"
)

// Stats is what became of lookups so far.
type Stats struct {
	Seen       int64   `json:"seen"`       // lookups that came
	TCP        int64   `json:"tcp"`        // of these, by TCP
	Matched    int64   `json:"matched"`    // of these, that match the rule
	Struck     int64   `json:"struck"`     // of those that match, what the rule was done to: not all where it has a percentage
	Passed     int64   `json:"passed"`     // given to the server that was meant
	Answered   int64   `json:"answered"`   // of these, that it answered
	Silent     int64   `json:"silent"`     // of these, that had no answer in time
	Failed     int64   `json:"failed"`     // that could not be given to it, as the kernel said at once
	Overflow   int64   `json:"overflow"`   // lost because too many were under way
	Unreadable int64   `json:"unreadable"` // passed on as they were: no lookup that can be read
	Waiting    int64   `json:"waiting"`    // under way now
	Others     []Count `json:"others"`     // names that were asked for and did not match, the most frequent first
}

// Count says how often a name was asked for.
type Count struct {
	Name  string `json:"name"`
	Times int64  `json:"times"`
}

const (
	maxNames  = 1 << 10 // names that are counted: a target may ask for ever new ones
	showNames = 3
)

// ledger keeps Stats.
type ledger struct {
	mu    sync.Mutex
	stats Stats
	names map[string]int64
}

// note changes the counts.
func (l *ledger) note(change func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.stats)
}

// asked counts a lookup.
func (l *ledger) asked(q *question, tcp, matched, struck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Seen++
	for n, is := range map[*int64]bool{&l.stats.TCP: tcp, &l.stats.Matched: matched, &l.stats.Struck: struck} {
		if is {
			*n++
		}
	}
	if _, known := l.names[q.name]; !matched && (known || len(l.names) < maxNames) {
		l.names[q.name]++
	}
}

// read returns the counts, with the names that were most often asked for.
func (l *ledger) read() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	for name, times := range l.names {
		s.Others = append(s.Others, Count{name, times})
	}
	slices.SortFunc(s.Others, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Times, a.Times), cmp.Compare(a.Name, b.Name))
	})
	s.Others = s.Others[:min(len(s.Others), showNames)]
	return s
}
