package httprelay

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/simianhq/simian/internal/helper"
)

// Stats is what came to a relay.
type Stats struct {
	Requests int `json:"requests"`
	Matched  int `json:"matched"`
	Struck   int `json:"struck"`
	Raw      int `json:"raw"` // connections that spoke no HTTP/1
}

// mostSeen is how many different requests are kept for a hint.
const mostSeen = 100

type stats struct {
	mu sync.Mutex
	Stats
	seen map[string]int // requests that did not match, by method and path
}

func newStats() *stats { return &stats{seen: map[string]int{}} }

func (s *stats) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.Stats)
}

func (s *stats) request(r *http.Request, matched, struck bool) {
	s.count(func(n *Stats) {
		n.Requests++
		if matched {
			n.Matched++
		}
		if struck {
			n.Struck++
		}
		key := r.Method + " " + r.URL.Path
		if _, known := s.seen[key]; !matched && (known || len(s.seen) < mostSeen) {
			s.seen[key]++
		}
	})
}

// Report tells what came of the rule so far.
func (r *Relay) Report() helper.Report {
	r.stats.mu.Lock()
	defer r.stats.mu.Unlock()
	s := r.stats.Stats
	report := helper.Report{Felt: "yes", What: fmt.Sprintf("%d requests seen, %d matched, %d %s", s.Requests, s.Matched, s.Struck, r.match.rule.done())}
	if s.Raw > 0 {
		report.What += fmt.Sprintf("; %d connections without HTTP/1 passed on", s.Raw)
	}
	if s.Struck == 0 {
		report.Felt, report.Hint = "nothing", r.stats.hint()
	}
	return report
}

// done says what becomes of a request that is struck.
func (r *Rule) done() string {
	words := ""
	if r.DelayNs > 0 {
		words = fmt.Sprintf("delayed by %s", r.delay())
	}
	switch {
	case r.Abort:
		words += ", aborted"
	case r.Status != 0:
		words += fmt.Sprintf(", answered %d", r.Status)
	}
	return strings.TrimPrefix(words, ", ")
}

// hint says why nothing was struck.
func (s *stats) hint() string {
	switch {
	case s.Requests == 0 && s.Raw > 0:
		return "what came speaks no HTTP/1: TLS or HTTP/2 can't be looked into"
	case s.Requests == 0:
		return "no request came: connections that stand from before are not looked into"
	case s.Matched > 0:
		return "percent spared all of them"
	}
	names := make([]string, 0, len(s.seen))
	for name := range s.seen {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if s.seen[a] != s.seen[b] {
			return s.seen[b] - s.seen[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%d)", name, s.seen[name])
	}
	return "seen: " + strings.Join(names[:min(3, len(names))], ", ")
}
