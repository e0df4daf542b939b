package faults

import "strings"

func killCases() []faultCase {
	// Of a signal that a process handles nobody can tell afterwards whether it came.
	return []faultCase{
		{Name: "kill", Section: "{type: kill}", NoUndo: kinds(), Feel: lives, Well: "lives", Ill: "gone"},
		{
			Name: "kill", Form: "by name", Section: "{type: kill, process: subject, pattern: ' serve '}",
			NoUndo: kinds(), Feel: lives, Well: "lives", Ill: "gone",
		},
	}
}

// lives tells whether the process that it was at first is there. A container
// is started again, as another.
func lives(s *subject) string {
	if host.Alive(s.born) {
		return "lives"
	}
	return "gone"
}

func freezeCases() []faultCase {
	const none = "it has no cgroup of its own with a freezer: unsupported (leave backend out, or say signal)"
	frozen := faultCase{Name: "freeze", Feel: counts, Well: "counts", Ill: "stands still"}
	var all []faultCase
	for _, backend := range []string{"", "cgroup", "signal"} {
		c := frozen
		c.Section = "{type: freeze}"
		if backend != "" {
			c.Form, c.Section = "by "+backend, strings.Replace(c.Section, "}", ", backend: "+backend+"}", 1)
		}
		if backend == "cgroup" {
			c.Refused = always(none, process)
		}
		all = append(all, c)
	}
	return all
}
