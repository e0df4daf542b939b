package faults

import (
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/vdso"
)

func clockCases() []faultCase {
	shifted := func(form, fields string) faultCase {
		return faultCase{
			Name: "clock", Form: form, Section: "{type: clock, " + fields + "}",
			Feel: wallClock, Well: "the host's time", Ill: "another time", Sees: seeVDSO,
		}
	}
	monotonic := shifted("monotonic", "offset: +1h, clock: monotonic")
	monotonic.Refused = notOurs("started again in a time namespace", " (clock: realtime shifts the time of day)")
	monotonic.Restarts, monotonic.Feel, monotonic.Sees = true, uptime, timeNamespace
	monotonic.Well, monotonic.Ill = "the host's", "another"
	return []faultCase{shifted("back", "offset: -24h"), shifted("to an instant", "to: 2038-01-19T03:14:00Z"), monotonic}
}

// wallClock compares what the program reads with the time of day here.
func wallClock(s *subject) string {
	var its int64
	said := s.answer("time")
	if _, err := fmt.Sscan(said, &its); err != nil {
		return said
	}
	if d := time.Since(time.Unix(0, its)).Abs(); d < time.Minute {
		return "the host's time"
	}
	return "another time"
}

// timeNamespace tells whether a container has one of its own (time_namespaces(7)).
func timeNamespace(s *subject) string {
	found, err := s.selected()
	if err != nil {
		return "down"
	}
	its, err1 := os.Readlink(fmt.Sprintf("%s/%d/ns/time", host.Proc, found[0].PIDs[0].PID))
	ours, err2 := os.Readlink(host.Proc + "/self/ns/time")
	return fmt.Sprintf("a time namespace of its own: %v %v %v", its != ours, err1, err2)
}

// uptime compares the monotonic clock that the program reads with this host's.
func uptime(s *subject) string {
	var wall, call, monotonic int64
	said := s.answer("time")
	if _, err := fmt.Sscan(said, &wall, &call, &monotonic); err != nil {
		return said
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err.Error()
	}
	if d := now.Nano() - monotonic; d > -60e9 && d < 60e9 {
		return "the host's"
	}
	return "another"
}

// seeVDSO tells one state of the program's vDSO from another.
func seeVDSO(s *subject) string {
	m, err := vdso.Open(host.Proc, s.born.PID)
	if err != nil {
		return "no vDSO"
	}
	defer m.Close()
	code, err := m.At(0, 2*os.Getpagesize())
	return fmt.Sprintf("vDSO %x %v", sha256.Sum256(code), err)
}
