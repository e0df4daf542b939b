package faults

import (
	"strconv"
	"strings"
)

func exhaustCases() []faultCase {
	return []faultCase{
		{ // a few are left, by which it answers
			Name: "exhaust", Form: "files", Section: "{type: exhaust, what: files, leave: 16}",
			Feel: gets("open", 40), Well: "all", Ill: "some",
		},
		{
			Name: "exhaust", Form: "pids", Section: "{type: exhaust, what: pids, leave: 6}",
			Feel: gets("fork", 12), Well: "all", Ill: "some",
			Refused: either(
				always("others would have no pids left either: it has no cgroup of its own with the pids controller (give it one, as a container or a systemd unit has): unsupported", process),
				// Kubernetes limits the pids of a pod at the most, in the cgroup above.
				always("it has no limit of pids (pids.max): the host's would be exhausted: unsupported", pod),
			),
		},
		{
			Name: "exhaust", Form: "connections", Section: "{type: exhaust, what: connections, port: $PORT, count: 100}",
			Feel: crowded, Well: "quiet", Ill: "crowded", Sees: crowded,
		},
		{
			Name: "exhaust", Form: "ports", Net: true, Section: "{type: exhaust, what: ports}",
			Feel: dials("tcp"), Well: "answered", Ill: "no port",
			Refused: always("the network of NAME is the host's own, whose ports all need: protected", service, process),
		},
	}
}

// gets asks for so many of something, and tells whether there were as many.
func gets(what string, n int) func(s *subject) string {
	return func(s *subject) string {
		if strings.Contains(s.answer(what, strconv.Itoa(n)), " ") { // and why there were no more
			return "some"
		}
		return "all"
	}
}

// crowded tells whether the subject has many files open: sockets, here.
func crowded(s *subject) string {
	if open, _ := host.OpenFiles(s.born.PID); len(open) > 80 {
		return "crowded"
	}
	return "quiet"
}
