package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// raws is why nothing can be done to a raw process that takes a start.
const raws = "nothing here could start it again: only a container that Simian launched can be %s (a lab's, found by a target of type native): unsupported"

// notOurs is why only what Simian launched can be started with other settings.
func notOurs(can, hint string) func(kind) string {
	return func(k kind) string {
		switch k {
		case launched:
			return ""
		case adopted, pod:
			return word("its runtime starts it only as it was made: only a container that Simian launched can be %s (a lab's, found by a target of type native): unsupported", can) + hint
		}
		return word(raws, can) + hint
	}
}

// keptByKubelet is why a pod's container is not stopped behind its back.
const keptByKubelet = "the kubelet keeps it, by its pod's restartPolicy (the fault delete has its pod replaced, scale takes it away)"

func keeperCases() []faultCase {
	const (
		notLie   = "stop NAME: " + keptByKubelet + ", which would not let it lie, or not have it back: unsupported"
		notWhole = "remove NAME: containerd only keeps what a client has set up, and that can't be removed as a whole; " + keptByKubelet + ": unsupported"
	)
	raw := []kind{service, process}
	return []faultCase{
		{
			Name: "stop", Section: "{type: stop}", Refused: always(notLie, pod), NoUndo: raw, Restarts: true,
			Feel: counts, Well: "counts", Ill: "stands still",
		},
		{
			Name: "remove", Section: "{type: remove}", Refused: either(always(word(raws, "removed"), raw...), always(notWhole, pod)), NoUndo: []kind{adopted}, Restarts: true,
			Feel: counts, Well: "counts", Ill: "stands still",
		},
		{
			Name: "capabilities", Section: "{type: capabilities, drop: NET_RAW}", Refused: notOurs("restarted without a capability", ""),
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
