package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// mostMeasured is how many targets' measurements a page shows.
const mostMeasured = 3

// measured says what t measured of its own effect, a line for each target.
func (t *Fault) measured() []string {
	var lines []string
	var ids []string
	for _, m := range t.Measured {
		if !slices.Contains(ids, m.Target) {
			ids = append(ids, m.Target)
		}
	}
	for i, id := range ids {
		if i == mostMeasured {
			lines = append(lines, fmt.Sprintf("… and at %d more", len(ids)-i))
			break
		}
		lines = append(lines, t.measuredAt(id, len(ids) > 1))
	}
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}

// measuredAt is what was measured at one target.
func (t *Fault) measuredAt(id string, several bool) string {
	before, during := t.measurement(id, experiment.PhaseBefore), t.measurement(id, experiment.PhaseDuring)
	shown := during
	if shown == nil || shown.Sent == 0 && before != nil && before.Sent > 0 {
		shown = before
	}
	if shown == nil { // of a phase that this version does not know
		return ""
	}
	line := shown.What
	if several {
		line = t.nameOf(id) + ": " + line
	}
	var parts []string
	switch {
	case before == nil || before.Sent == 0:
	case before.Lost >= before.Sent: // then nothing shows that the fault did it
		parts = append(parts, fmt.Sprintf("%d of %d lost before", before.Lost, before.Sent))
	default:
		parts = append(parts, humanSeconds(before.P50)+" before")
	}
	switch {
	case during == nil || during == shown && during.Sent == 0:
	case during.Sent == 0: // it says why
		parts = append(parts, during.What)
	default:
		parts = append(parts, wordsOf(during))
	}
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	return line
}

// measurement returns the latest of a target's in a phase.
func (t *Fault) measurement(id string, p experiment.Phase) *Measured {
	for _, m := range slices.Backward(t.Measured) {
		if m.Target == id && m.Phase == p {
			return &m
		}
	}
	return nil
}

func (t *Fault) nameOf(id string) string {
	for _, target := range t.Targets {
		if target.ID == id {
			return target.Name
		}
	}
	return id
}

// wordsOf says what a measurement found.
func wordsOf(m *Measured) string {
	lost := fmt.Sprintf("%d of %d lost", m.Lost, m.Sent)
	if m.Lost >= m.Sent {
		return lost + " during"
	}
	return fmt.Sprintf("%s during (p99 %s), %s", humanSeconds(m.P50), humanSeconds(m.P99), lost)
}
