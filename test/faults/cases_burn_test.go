package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func burnCases() []faultCase {
	const shared = "others would pay for what is burnt: it has no cgroup of its own with the %s controller (give it one, as a container or a systemd unit has): unsupported"
	refused := func(controller string) func(kind) string {
		return always(word(shared, controller), process)
	}
	return []faultCase{
		{
			Name: "burn.cpu", Section: "{type: burn.cpu, load: 60}", Refused: refused("cpu"),
			Feel: busy, Well: "idle", Ill: "busy",
		},
		{
			Name: "burn.memory", Section: "{type: burn.memory, size: 24MiB}", Refused: refused("memory"),
			Feel: full, Well: "room", Ill: "full",
		},
		{
			Name: "burn.io", Section: "{type: burn.io, path: $DATA, bytesPerSecond: 4MiB, file: 8MiB}", Refused: refused("io"),
			Feel: writes, Well: "quiet", Ill: "writes",
		},
	}
}

// busy tells whether much processor time goes in the subject's cgroup.
func busy(s *subject) string {
	before, start := s.used(), time.Now()
	time.Sleep(400 * time.Millisecond)
	if (s.used()-before)/time.Since(start).Seconds() > 0.25 {
		return "busy"
	}
	return "idle"
}

// used sums up the processor time of all that runs in the subject's cgroup, in
// seconds.
func (s *subject) used() (sum float64) {
	const tick = 100 // a second, fields 14 and 15 of proc_pid_stat(5)
	dir, _ := s.cgroup("cpu")
	pids, _ := host.CgroupMembers(dir)
	for _, pid := range pids {
		data, _ := os.ReadFile(filepath.Join(host.Proc, strconv.Itoa(pid), "stat"))
		_, rest, _ := strings.Cut(string(data), ") ")
		if words := strings.Fields(rest); len(words) > 12 {
			sum += (number(words[11]) + number(words[12])) / tick
		}
	}
	return sum
}

// full tells whether much memory is in use in the subject's cgroup.
func full(s *subject) string {
	now := s.knob("memory", "memory.usage_in_bytes")
	if now == "" {
		now = s.knob("", "memory.current")
	}
	if number(now) > 24<<20 {
		return "full"
	}
	return "room"
}

// writes tells whether the subject's cgroup writes to disks.
func writes(s *subject) string {
	written := func() float64 {
		sum := 0.0
		for line := range strings.Lines(s.knob("blkio", "blkio.throttle.io_service_bytes_recursive")) {
			if words := strings.Fields(line); len(words) == 3 && words[1] == "Write" {
				sum += number(words[2])
			}
		}
		for word := range strings.FieldsSeq(s.knob("", "io.stat")) {
			if bytes, ok := strings.CutPrefix(word, "wbytes="); ok {
				sum += number(bytes)
			}
		}
		return sum
	}
	before := written()
	time.Sleep(300 * time.Millisecond)
	if written() > before+128<<10 {
		return "writes"
	}
	return "quiet"
}

// knob reads a file of the subject's own cgroup: version 1's of a controller,
// or version 2's where none is named; "" where there is none.
func (s *subject) knob(controller, file string) string {
	dir, v2 := s.cgroup(controller)
	if v2 != (controller == "") {
		return ""
	}
	data, _ := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(data))
}

// cgroup is the subject's own with a controller: version 1's where there is
// one, or else version 2's.
func (s *subject) cgroup(controller string) (dir string, v2 bool) {
	group, err := host.Cgroup(s.born.PID)
	if err != nil {
		return "", false
	}
	if v1 := group.V1[controller].Path; v1 != "" {
		return v1, false
	}
	return group.V2.Path, true
}
