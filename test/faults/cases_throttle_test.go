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
			Feel: computes, Well: "fast", Ill: "slow",
		},
		{
			Name: "throttle", Form: "io", Section: "{type: throttle, io: [{path: $DATA, writeOps: 2}]}", Refused: refused("with the io controller "),
			Feel: syncs, Well: "fast", Ill: "slow",
		},
		{
			Name: "throttle", Form: "devices", Section: "{type: throttle, denyDevices: [{device: /dev/null}]}", Refused: refused("in which a device could be denied "),
			Feel: opensNull, Well: "opens it", Ill: "denied", Sees: opensNull,
		},
	}
}

// computes tells how much of a processor the subject gets.
func computes(s *subject) string {
	if number(s.answer("burn", "1", "400ms")) > 0.35 {
		return "fast"
	}
	return "slow"
}

// syncs tells how long a few synchronous writes take.
func syncs(s *subject) string {
	if took := number(s.answer("write", "$DATA/throttled", "24576", "4096", "sync")); took >= 0 && took < 2 {
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
