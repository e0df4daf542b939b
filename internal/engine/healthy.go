package engine

import (
	"context"
	"fmt"

	"github.com/simianhq/simian/experiment"
)

// grouper is an ability of a selector that can list all running targets of a
// workload, those that it does not select among them.
type grouper interface {
	Group(ctx context.Context, workload string) ([]experiment.Target, error)
}

// identity tells a target by its first process: two selectors may find one
// container under two names.
func identity(t experiment.Target) string {
	if len(t.PIDs) > 0 {
		return t.PIDs[0].Handle()
	}
	return t.ID
}

// reserve holds to blastRadius.minHealthy: of each workload so many targets
// run, are healthy where that is known, and have no fault of this run on them.
// A nil reserve keeps nothing.
type reserve struct {
	keep  experiment.AtLeast
	held  map[string]bool // by identity: a fault of this run is on it, or is about to be
	whole map[string]int  // by workload: how many there were at first sight
	free  map[string]int  // by workload: how many are healthy and untouched
	short string          // the first workload that had none to spare
}

// reserve counts the workloads of found. Running has those of which more run
// than the selector finds.
func (p *planner) reserve(ctx context.Context, selector experiment.Selector, found []experiment.Target, running map[string]int) (*reserve, error) {
	keep := p.x.Spec.BlastRadius.MinHealthy
	if keep == nil {
		return nil, nil
	}
	s := &reserve{keep: *keep, held: p.held(), whole: p.whole, free: map[string]int{}}
	for _, t := range found {
		if _, known := s.free[t.Workload]; known {
			continue
		}
		all, err := group(ctx, selector, t.Workload, found)
		if err != nil {
			return nil, err
		}
		s.count(t.Workload, all, running[t.Workload])
	}
	return s, nil
}

// group lists the running targets of a workload, as far as they can be told.
func group(ctx context.Context, selector experiment.Selector, workload string, found []experiment.Target) ([]experiment.Target, error) {
	if g, ok := selector.(grouper); ok {
		return g.Group(ctx, workload)
	}
	var all []experiment.Target
	for _, t := range found {
		if t.Workload == workload {
			all = append(all, t)
		}
	}
	return all, nil
}

// count notes how many of a workload are free: those listed, and those that are
// only counted.
func (s *reserve) count(workload string, all []experiment.Target, running int) {
	free := max(0, running-len(all))
	for _, t := range all {
		if !t.Unhealthy && !s.held[identity(t)] {
			free++
		}
	}
	s.free[workload] = free
	s.whole[workload] = max(s.whole[workload], running, len(all))
}

// take tells whether t may be struck, and counts it as held then. One that is
// not healthy, or held already, leaves no fewer.
func (s *reserve) take(t experiment.Target) bool {
	if s == nil {
		return true
	}
	counts := 1
	if t.Unhealthy || s.held[identity(t)] {
		counts = 0
	}
	if s.free[t.Workload]-counts < s.keep.Of(s.whole[t.Workload]) {
		if s.short == "" {
			s.short = t.Workload
		}
		return false
	}
	s.free[t.Workload] -= counts
	s.held[identity(t)] = true
	return true
}

// refused says why a target could not be taken, "" where each could.
func (s *reserve) refused() string {
	if s == nil || s.short == "" {
		return ""
	}
	return fmt.Sprintf("minHealthy: %s of %d %s", s.keep, s.whole[s.short], s.short)
}

// none says why no target could be taken.
func (s *reserve) none() error {
	n, are := s.free[s.short], "are healthy and have no fault on them"
	if n == 1 {
		are = "is healthy and has no fault on it"
	}
	return fmt.Errorf("%s: %d %s now, so none may be struck", s.refused(), n, are)
}
