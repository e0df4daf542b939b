package faults

import (
	"slices"
	"strings"
	"time"
)

// cases are all of them, by fault, in the order of the table.
func cases() []faultCase {
	return slices.Concat(
		killCases(), freezeCases(), partitionCases(), latencyCases(), dnsCases(), throttleCases(), burnCases(), fileCases(),
		execCases(), exhaustCases(), clockCases(), keeperCases(), httpCases(),
	)
}

// word puts a word into a message.
func word(message, word string) string { return strings.Replace(message, "%s", word, 1) }

// always is a Refused that says the same of these kinds on every kernel.
func always(why string, of ...kind) func(kind) string {
	return func(k kind) string {
		if slices.Contains(of, k) {
			return why
		}
		return ""
	}
}

// either is a Refused for kinds that are refused with different errors.
func either(these ...func(kind) string) func(kind) string {
	return func(k kind) string {
		for _, refused := range these {
			if why := refused(k); why != "" {
				return why
			}
		}
		return ""
	}
}

// counts tells whether the program runs.
func counts(s *subject) string {
	before := s.count()
	time.Sleep(60 * time.Millisecond)
	if s.count() == before {
		return "stands still"
	}
	return "counts"
}

// dials sends a word to its peer, and tells whether it comes back.
func dials(network string) func(s *subject) string {
	return func(s *subject) string {
		switch said := s.answer("dial", network, "$PEER:$PORT"); {
		case number(said) >= 0.3:
			return "late"
		case number(said) >= 0:
			return "answered"
		case strings.Contains(said, "timeout"):
			return "lost"
		case strings.Contains(said, "refused"), strings.Contains(said, "reset"):
			return "turned away"
		case strings.Contains(said, "unreachable"), strings.Contains(said, "no route"), strings.Contains(said, "permission"), strings.Contains(said, "invalid argument"):
			return "told"
		case strings.Contains(said, "cannot assign"):
			return "no port"
		default:
			return said
		}
	}
}
