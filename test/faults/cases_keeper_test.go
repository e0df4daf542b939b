package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func keeperCases() []faultCase {
	const only = "nothing here could start it again: only a container that Simian launched can be %s (a lab's, found by a target of type native): unsupported"
	raw := []kind{service, process}
	return []faultCase{
		{
			Name: "stop", Section: "{type: stop}", NoUndo: raw, Restarts: true,
			Feel: counts, Well: "counts", Ill: "stands still",
		},
		{
			Name: "remove", Section: "{type: remove}", Refused: always(word(only, "removed"), raw...), Restarts: true,
			Feel: counts, Well: "counts", Ill: "stands still",
		},
		{
			Name: "capabilities", Section: "{type: capabilities, drop: NET_RAW}", Refused: always(word(only, "restarted without a capability"), raw...),
			Restarts: true, Feel: netRaw, Well: "has it", Ill: "lacks it", Sees: bounding,
		},
	}
}

// bounding is the set of capabilities that a container's process can ever have.
func bounding(s *subject) string {
	found, err := s.selected()
	if err != nil {
		return "down"
	}
	data, _ := os.ReadFile(filepath.Join(host.Proc, strconv.Itoa(found[0].PIDs[0].PID), "status"))
	_, rest, _ := strings.Cut(string(data), "CapBnd:")
	set, _, _ := strings.Cut(rest, "\n")
	return "CapBnd" + set
}

// netRaw tells whether the program may open a raw socket.
func netRaw(s *subject) string {
	const bit = 13 // CAP_NET_RAW of include/uapi/linux/capability.h
	set, err := strconv.ParseUint(s.answer("status", "CapEff"), 16, 64)
	switch {
	case err != nil:
		return err.Error()
	case set&(1<<bit) != 0:
		return "has it"
	}
	return "lacks it"
}
