package chaos

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/vdso"
)

// vdsoDigest tells one state of a process's vDSO from another.
func vdsoDigest(id experiment.ProcessID) string {
	m, err := vdso.Open(host.Proc, id.PID)
	if err != nil {
		return "gone"
	}
	defer m.Close()
	code, err := m.At(0, 2*os.Getpagesize())
	return fmt.Sprintf("%x %v", sha256.Sum256(code), err)
}

func newClock(c Clock) *Clock {
	c.host = op.NewHost(host)
	return &c
}

func TestClockConformance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Clock{"offset": {Offset: Offset(-24 * time.Hour)}, "to": {To: Instant(time.Date(2038, 1, 19, 3, 14, 0, 0, time.UTC))}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *prey
			experimenttest.Fault(t, experimenttest.FaultCase{
				Fault: newClock(c), Ops: op.All(host),
				Target:   func(t testing.TB) experiment.Target { p = newPrey(t); return p.target(t) },
				Snapshot: func(t experiment.Target) string { return snapshot(t) + "\n" + vdsoDigest(t.PIDs[0]) },
				Gone:     func(testing.TB, experiment.Target) { p.kill() },
			})
		})
	}
}

// TestClockCgroup shifts the clock of all that run in the target's own cgroup,
// also of who came later, but of nobody else.
func TestClockCgroup(t *testing.T) {
	t.Parallel()
	p := newPrey(t).inCgroup(t, op.FreezerV2)
	other := newPrey(t)
	untouched := vdsoDigest(p.id)
	steps, err := newClock(Clock{Offset: Offset(time.Hour)}).Plan(t.Context(), "abcd23", p.target(t))
	must(t, err)
	late := newPrey(t)
	must(t, os.WriteFile(p.cgroup+"/cgroup.procs", fmt.Append(nil, late.id.PID), 0))
	t.Cleanup(late.kill)
	must(t, steps[0].Do.Apply(t.Context()))
	e, err := steps[0].Do.(experiment.Verifier).Verify(t.Context())
	if err != nil || !e.InForce || !strings.HasPrefix(e.What, "2 processes by the vDSO: time of day +1h0m0s, ") {
		t.Errorf("%+v, %v", e, err)
	}
	if vdsoDigest(p.id) == untouched || vdsoDigest(late.id) == vdsoDigest(newPrey(t).id) {
		t.Error("a clock is not shifted")
	}
	if vdsoDigest(other.id) != vdsoDigest(newPrey(t).id) {
		t.Error("another's clock is shifted")
	}
	must(t, steps[0].Undo.Apply(t.Context()))
	if vdsoDigest(p.id) != untouched {
		t.Error("its vDSO is not as it was")
	}
}

// TestClockTwice meets the shift of another run.
func TestClockTwice(t *testing.T) {
	t.Parallel()
	p := newPrey(t)
	c := newClock(Clock{Offset: Offset(time.Hour)})
	steps, err := c.Plan(t.Context(), "abcd23", p.target(t))
	must(t, err)
	must(t, steps[0].Do.Apply(t.Context()))
	defer func() { must(t, steps[0].Undo.Apply(t.Context())) }()
	if _, err := c.Plan(t.Context(), "efgh45", p.target(t)); !errors.Is(err, experiment.ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
}

func TestClockRefuses(t *testing.T) {
	t.Parallel()
	target := newPrey(t).target(t)
	for _, c := range []struct {
		clock Clock
		says  string
	}{
		{Clock{Offset: 1, Clock: clockMonotonic}, "only a container that Simian launched can be started again in a time namespace"},
		{Clock{Offset: 1, Clock: clockBoottime}, "only a container that Simian launched can be started again in a time namespace"},
		{Clock{Offset: Offset(-100 * 365 * 24 * time.Hour)}, "the time of day begins in 1970"},
	} {
		_, err := newClock(c.clock).Plan(t.Context(), "abcd23", target)
		if !errors.Is(err, experiment.ErrUnsupported) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.clock, err)
		}
	}
	if _, err := newClock(Clock{Offset: 1}).Plan(t.Context(), "abcd23", experiment.Target{}); !errors.Is(err, experiment.ErrUnsupported) {
		t.Errorf("no process: %v", err)
	}
}

func TestClockGolden(t *testing.T) {
	t.Parallel()
	p := newPrey(t)
	numbers := strings.NewReplacer(p.id.String(), "pid 812", p.id.Handle(), "process:812:99123")
	for name, c := range map[string]Clock{"clock": {Offset: Offset(-24 * time.Hour)}, "clock-to": {To: Instant(time.Date(2038, 1, 19, 3, 14, 0, 0, time.UTC))}} {
		steps, err := newClock(c).Plan(t.Context(), "abcd23", p.target(t))
		must(t, err)
		golden(t, name, numbers.Replace(describe(steps)))
	}
}

func TestClockFields(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"-24h": "-24h0m0s", "+5m": "5m0s", "90s": "1m30s", "-1.5s": "-1.5s",
	} {
		var o Offset
		if err := o.UnmarshalText([]byte(text)); err != nil || o.String() != want {
			t.Errorf("%q: %v, %v", text, o, err)
		}
	}
	for text, want := range map[string]string{
		"0s": "an offset of 0 changes nothing", "-1ns": "finer than a microsecond", "yesterday": "is not a duration", "-9000h": "longer than a year", "-+5m": "has two signs",
	} {
		if err := new(Offset).UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"2038-01-19T03:14:00Z": "", "2038-01-19T03:14:00.5+02:00": "", "2038-01-19": "is not a date and a time", "1969-07-20T20:17:40Z": "before 1970", "2401-01-01T00:00:00Z": "after 2200",
	} {
		if err := new(Instant).UnmarshalText([]byte(text)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestClockValidate(t *testing.T) {
	t.Parallel()
	at := Instant(time.Unix(1, 0))
	for _, c := range []struct {
		clock Clock
		want  string
	}{
		{Clock{Offset: 1}, ""},
		{Clock{To: at, Clock: clockRealtime}, ""},
		{Clock{Offset: 1, Clock: clockMonotonic}, ""},
		{Clock{}, "want an offset such as -24h or +5m, or to: an instant"},
		{Clock{Offset: 1, To: at}, "it is an offset, or an instant, and not both"},
		{Clock{To: at, Clock: clockBoottime}, "the clock boottime tells no date: give an offset"},
		{Clock{Offset: 1, Clock: "tai"}, "unknown clock \"tai\"\n        clocks: realtime monotonic boottime"},
		{Clock{Offset: 1, Calls: callsCatch}, ""},
		{Clock{Offset: 1, Calls: "trace"}, `"trace" is neither catch nor leave`},
		{Clock{Offset: 1, Clock: clockMonotonic, Calls: callsLeave}, "of the clock monotonic all calls tell the same: it is the kernel's own"},
	} {
		if err := c.clock.Validate(); (err == nil) != (c.want == "") || err != nil && !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.clock, err, c.want)
		}
	}
}

// TestClockCalls plans what is done about system calls, by what the kernel lets
// us do.
func TestClockCalls(t *testing.T) {
	t.Parallel()
	able := op.CanCatchClockCalls(op.NewHost(host)) == nil
	target := newPrey(t).target(t)
	for calls, want := range map[string]struct{ caught, noted, refused bool }{
		"":         {caught: able, noted: !able},
		callsCatch: {caught: able, refused: !able},
		callsLeave: {},
	} {
		steps, err := newClock(Clock{Offset: Offset(time.Hour), Calls: calls}).Plan(t.Context(), "abcd23", target)
		if want.refused {
			if !errors.Is(err, experiment.ErrUnsupported) {
				t.Errorf("calls %q: %v, want ErrUnsupported", calls, err)
			}
			continue
		}
		must(t, err)
		do := steps[0].Do.(*op.Clock)
		if (do.Program != "") != want.caught || (len(do.Notes()) > 0) != want.noted {
			t.Errorf("calls %q: program %q, notes %q", calls, do.Program, do.Notes())
		}
	}
}

// TestClockQuick tells how long it takes on a process that is quiet.
func TestClockQuick(t *testing.T) {
	t.Parallel()
	p := newPrey(t)
	steps, err := newClock(Clock{Offset: Offset(time.Hour)}).Plan(t.Context(), "abcd23", p.target(t))
	must(t, err)
	var in, out []time.Duration
	for range 50 {
		began := time.Now()
		must(t, steps[0].Do.Apply(t.Context()))
		done := time.Now()
		must(t, steps[0].Undo.Apply(t.Context()))
		in, out = append(in, done.Sub(began)), append(out, time.Since(done))
	}
	t.Logf("in %s, out %s (medians of 50)", medianOf(in), medianOf(out))
}

func medianOf(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}
