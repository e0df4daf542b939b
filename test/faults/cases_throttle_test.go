package faults

import "strings"

func throttleCases() []faultCase {
	const none = "it has no cgroup of its own "
	refused := func(which string) func(kind) string {
		return always(none+which+"(give it one, as a container or a systemd unit has): unsupported", process)
	}
	return []faultCase{
		{
			Name: "throttle", Form: "cpus", Section: "{type: throttle, cpus: 0.2}", Refused: refused("with the cpu controller "),
			Feel: throttled, Well: "runs on", Ill: "held up",
		},
		{
			Name: "throttle", Form: "cpuset", Section: "{type: throttle, cpusetCount: 1}", Refused: refused("with the cpuset controller "),
			Feel: processors, Well: "some", Ill: "one",
		},
		{
			Name: "throttle", Form: "memory", Section: "{type: throttle, memory: 32MiB}", Refused: refused("with the memory controller "),
			Feel: eats, Well: "ate", Ill: "killed",
		},
		{
			Name: "throttle", Form: "pids", Section: "{type: throttle, pids: 4}", Refused: refused("with the pids controller "),
			Feel: forks, Well: "forks", Ill: "can't",
		},
		{
			Name: "throttle", Form: "io", Section: "{type: throttle, io: [{path: $DATA, writeBytes: 512KiB}]}", Refused: refused("with the io controller "),
			Feel: syncs, Well: "fast", Ill: "slow",
		},
		{
			Name: "throttle", Form: "devices", Section: "{type: throttle, denyDevices: [{device: /dev/null}]}", Refused: refused("in which a device could be denied "),
			Feel: opensNull, Well: "opens it", Ill: "denied", Sees: opensNull,
		},
	}
}

// throttled computes for a while with one thread, which no quota of a whole
// processor holds up.
func throttled(s *subject) string {
	before := s.throttles()
	s.answer("burn", "1", "250ms")
	if s.throttles() > before+1 {
		return "held up"
	}
	return "runs on"
}

// throttles is how often the subject's cgroup was held up.
func (s *subject) throttles() float64 {
	for line := range strings.Lines(s.knob("cpu", "cpu.stat") + s.knob("", "cpu.stat")) {
		if n, ok := strings.CutPrefix(line, "nr_throttled "); ok {
			return number(strings.TrimSpace(n))
		}
	}
	return 0
}

// processors tells whether the program may run on more than one.
func processors(s *subject) string {
	if strings.ContainsAny(s.answer("status", "Cpus_allowed_list"), "-,") {
		return "some"
	}
	return "one"
}

// eats has a child of the program take 40 MiB.
func eats(s *subject) string { return s.answer("hog", "41943040") }

func forks(s *subject) string {
	if number(s.answer("fork", "1")) == 1 {
		return "forks"
	}
	return "can't"
}

// syncs tells how long it takes to write 512 KiB to a disk.
func syncs(s *subject) string {
	if took := number(s.answer("write", "$DATA/throttled", "524288", "131072", "sync")); took >= 0 && took < 0.6 {
		return "fast"
	}
	return "slow"
}

// opensNull tells whether a device may be opened.
func opensNull(s *subject) string {
	if strings.Contains(s.answer("read", "/dev/null"), "not permitted") {
		return "denied"
	}
	return "opens it"
}
