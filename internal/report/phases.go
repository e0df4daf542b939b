package report

import (
	"slices"

	"github.com/simianhq/simian/experiment"
)

// The phases, as indexes of tallies. Settling is the time before the first
// mark: the before phase is marked once it is seen to be steady, and a run
// that never is has no other samples.
const (
	before = iota
	during
	recovery
	after
	settling
	phaseCount
)

func phaseIndex(p experiment.Phase) int {
	return slices.Index([]experiment.Phase{
		experiment.PhaseBefore, experiment.PhaseDuring, experiment.PhaseRecovery, experiment.PhaseAfter,
	}, p)
}

// marks are the phases begun so far, in order.
type marks []mark

type mark struct {
	phase int
	since experiment.BootTime
}

// add takes a mark in. Phases only go forward; one that claims to have begun
// before its predecessor began with it.
func (m *marks) add(p *experiment.PhaseMark) {
	if p == nil {
		return
	}
	next := mark{phaseIndex(p.Name), p.Since}
	if n := len(*m); n > 0 {
		last := (*m)[n-1]
		if next.phase <= last.phase {
			return
		}
		next.since = max(next.since, last.since)
	}
	if next.phase >= 0 {
		*m = append(*m, next)
	}
}

// of returns the phase that the window from–to lies in, and false where it
// lies in none as a whole.
func (m marks) of(from, to experiment.BootTime) (int, bool) {
	if len(m) == 0 {
		return settling, true
	}
	for i := len(m) - 1; i >= 0; i-- {
		if from >= m[i].since {
			return m[i].phase, i == len(m)-1 || to <= m[i+1].since
		}
	}
	return 0, false
}

// since returns when phase began, and false where it has not.
func (m marks) since(phase int) (experiment.BootTime, bool) {
	for _, k := range m {
		if k.phase == phase {
			return k.since, true
		}
	}
	return 0, false
}
