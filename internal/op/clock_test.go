package op

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/vdso"
)

// vdsoOf shows all of a process's vDSO.
func vdsoOf(t testing.TB, id experiment.ProcessID) string {
	t.Helper()
	m, err := openVDSO(host, id)
	if errors.Is(err, vdso.ErrGone) || errors.Is(err, vdso.ErrNone) {
		return "gone"
	}
	must(t, err)
	defer m.Close()
	code, err := m.At(0, 2*pageSize)
	must(t, err)
	return string(code)
}

func TestClockOp(t *testing.T) {
	t.Parallel()
	var p *prey
	experimenttest.Op(t, experimenttest.OpCase{
		Ops: All(host),
		Step: func(t testing.TB) experiment.Step {
			p = newPrey(t)
			return shiftOf(t, NewHost(host), -24*time.Hour, p.id)
		},
		Snapshot: func() string { return fmt.Sprintf("%x", vdsoOf(t, p.id)) },
		Gone:     func(testing.TB) { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() },
	})
}

// TestClockShift asks each function for the time.
func TestClockShift(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{-24 * time.Hour, 5 * time.Minute, -1300 * time.Millisecond, 250 * time.Millisecond, 100 * 365 * 24 * time.Hour} {
		t.Run(offset.String(), func(t *testing.T) {
			t.Parallel()
			p := newClockPrey(t, "0")
			step := shiftOf(t, NewHost(host), offset, p.id)
			checkReading(t, p, 0)
			must(t, step.Do.Apply(t.Context()))
			checkReading(t, p, offset)
			must(t, step.Undo.Apply(t.Context()))
			checkReading(t, p, 0)
		})
	}
}

// TestClockCalls asks the kernel itself for the time, past the vDSO.
func TestClockCalls(t *testing.T) {
	t.Parallel()
	if err := CanCatchClockCalls(NewHost(host)); err != nil {
		t.Skipf("%v", err)
	}
	p, other := newClockPrey(t, "0"), newClockPrey(t, "0")
	step := shiftOf(t, NewHost(host), -1300*time.Millisecond, p.id)
	must(t, step.Do.Apply(t.Context()))
	checkReading(t, p, -1300*time.Millisecond)
	checkReading(t, other, 0)
	ev, err := step.Do.(experiment.Verifier).Verify(t.Context())
	if err != nil || !ev.InForce || ev.Felt != experiment.FeltYes || !strings.HasSuffix(ev.What, "; 2 system calls caught") {
		t.Errorf("%+v, %v", ev, err)
	}
	must(t, step.Do.(*Clock).host.drop(step.Do.(*Clock).callsKey()).Close()) // as the kernel does when this process ends
	if ev, err = step.Do.(experiment.Verifier).Verify(t.Context()); err != nil || ev.InForce || !strings.Contains(ev.What, "is not there") {
		t.Errorf("its program is gone: %+v, %v", ev, err)
	}
	other2 := NewClock(NewHost(host), *step.Undo.(*Clock)).Undo // of another process
	must(t, other2.Apply(t.Context()))
	checkReading(t, p, 0)
	if ev, err = other2.(experiment.Verifier).Verify(t.Context()); err != nil || !ev.InForce {
		t.Errorf("%+v, %v", ev, err)
	}
}

func checkReading(t *testing.T, p *clockPrey, offset time.Duration) {
	t.Helper()
	before := time.Now()
	r, err := p.ask()
	must(t, err)
	var mono unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono))
	took := time.Since(before)
	const tick = 100 * time.Millisecond // of a coarse clock; and an emulated machine sets its own right meanwhile
	near := func(what string, got, from, slack time.Duration) {
		t.Helper()
		if d := got - from; d < -slack || d > took+slack {
			t.Errorf("%s is %s off, asked within %s", what, d, took)
		}
	}
	now := time.Duration(before.UnixNano())
	near("time.Now", time.Duration(r.GoNow), now+offset, tick)
	near("CLOCK_REALTIME", time.Duration(r.Realtime), now+offset, tick)
	near("CLOCK_REALTIME_COARSE", time.Duration(r.Coarse), now+offset, tick)
	near("CLOCK_TAI", time.Duration(r.TAI), now+offset, 40*time.Second)
	near("gettimeofday", time.Duration(r.Micros), now+offset, tick)
	near("time", time.Duration(r.Second)*time.Second, now+offset, time.Second+tick)
	if CanCatchClockCalls(NewHost(host)) != nil {
		offset = 0
	}
	near("a system call's", time.Duration(r.Direct), now+offset, tick)
	near("gettimeofday, by a system call,", time.Duration(r.DirectMicros), now+offset, tick)
	near("CLOCK_MONOTONIC", time.Duration(r.Monotonic), time.Duration(mono.Nano())-took, tick)
	if r.MicrosNull != 0 || r.SecondNull < r.Second || r.SecondNull > r.Second+1 || r.Wrong != 0 {
		t.Errorf("%+v", r)
	}
}

// TestClockHot shifts and puts back while threads do nothing but read the time.
func TestClockHot(t *testing.T) {
	t.Parallel()
	for _, signals := range []string{"", "signals"} {
		t.Run("with "+signals, func(t *testing.T) {
			t.Parallel()
			p := newClockPrey(t, "8", signals)
			untouched := vdsoOf(t, p.id)
			step := shiftOf(t, NewHost(host), -time.Hour, p.id)
			var in, out []time.Duration
			for end := time.Now().Add(20 * time.Second); len(in) < 200 && time.Now().Before(end); {
				in = append(in, applied(t, p.prey, step.Do))
				out = append(out, applied(t, p.prey, step.Undo))
				if vdsoOf(t, p.id) != untouched {
					t.Fatalf("round %d: its vDSO is not as it was", len(in))
				}
			}
			r, err := p.ask()
			must(t, err)
			t.Logf("in %s, out %s (medians of %d), %d rounds of its threads", median(in), median(out), len(in), r.Rounds)
			checkReading(t, p, 0)
		})
	}
}

// applied tells how long an op took. On a machine that is very busy, threads
// that do not sleep may not come to a stop in time: then it is tried again, as
// a rollback does.
func applied(t *testing.T, p *prey, do experiment.Op) time.Duration {
	t.Helper()
	began := time.Now()
	err := do.Apply(t.Context())
	for try := 0; try < 10 && errors.Is(err, experiment.ErrBusy); try++ {
		err = do.Apply(t.Context())
	}
	if err != nil {
		t.Fatalf("%s: %v (%s)", do, err, p.state())
	}
	return time.Since(began)
}

func median(d []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}
