package faults

import (
	"crypto/sha256"
	"fmt"
	"os"

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
	monotonic.Refused = always("the clock monotonic of NAME can be shifted only where its container is started again in a time namespace: unsupported (clock: realtime shifts the time of day)", launched, service, process)
	return []faultCase{shifted("back", "offset: -24h"), shifted("to an instant", "to: 2038-01-19T03:14:00Z"), monotonic}
}

// wallClock compares what the program reads with what the kernel says.
func wallClock(s *subject) string {
	var vdso, call int64
	said := s.answer("time")
	if _, err := fmt.Sscan(said, &vdso, &call); err != nil {
		return said
	}
	if d := vdso - call; d > -1e9 && d < 1e9 {
		return "the host's time"
	}
	return "another time"
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
