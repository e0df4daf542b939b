package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const ms = time.Millisecond

// newTestRecord has one request due each 10 ms, the first at 10 ms, and room
// for some seconds.
func newTestRecord(remember time.Duration) (r *record, at func(time.Duration) time.Time) {
	r = newRecord(10 * ms)
	r.remember = remember
	r.begin(time.Now())
	return r, r.began.Add
}

// putOutcome notes that n was over after latency.
func putOutcome(r *record, n uint64, latency time.Duration, ok bool) {
	r.put(n, r.began.Add(time.Duration(n+1)*r.per+latency), ok)
}

func TestWindowBounds(t *testing.T) {
	t.Parallel()
	r, at := newTestRecord(time.Minute)
	for n := range uint64(100) {
		putOutcome(r, n, time.Duration(n+1)*time.Microsecond, true)
	}
	for name, tt := range map[string]struct {
		from, to time.Duration
		first, n int
		err      string
	}{
		"from is in it":      {10 * ms, 20 * ms, 1, 1, ""},
		"to is not":          {10 * ms, 20*ms + 1, 1, 2, ""},
		"just after":         {10*ms + 1, 30*ms + 1, 2, 2, ""},
		"just before":        {10*ms - 1, 10 * ms, 0, 0, "no request was due"},
		"all":                {0, time.Second + 1, 1, 100, ""},
		"from long ago":      {-time.Hour, 30 * ms, 1, 2, ""},
		"before it began":    {-time.Hour, -time.Minute, 0, 0, "no request was due"},
		"between two":        {11 * ms, 19 * ms, 0, 0, "no request was due"},
		"empty":              {20 * ms, 20 * ms, 0, 0, "no request was due"},
		"the wrong way":      {30 * ms, 10 * ms, 0, 0, "no request was due"},
		"more than is known": {10 * ms, 2 * time.Minute, 0, 0, "no longer remembered (the last 1m0.01s is)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := r.window(t.Context(), at(tt.from), at(tt.to))
			checkError(t, err, tt.err)
			var want []outcome
			for n := range tt.n {
				want = append(want, outcome(time.Duration(tt.first+n)*time.Microsecond))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWindowWaits(t *testing.T) {
	t.Parallel()
	r, at := newTestRecord(time.Minute)
	order := rand.Perm(300)
	var windows sync.WaitGroup
	for i := range 30 {
		windows.Go(func() {
			from := time.Duration(i) * 100 * ms
			got, err := r.window(t.Context(), at(from), at(from+200*ms))
			if i < 29 && (err != nil || len(got) == 0) {
				t.Errorf("window %d: %d outcomes, %v", i, len(got), err)
			}
			for _, o := range got {
				if o == 0 {
					t.Errorf("window %d came before all was over", i)
				}
			}
		})
	}
	for _, n := range order {
		putOutcome(r, uint64(n), ms, true)
	}
	r.end() // the last window wants more than there ever was
	windows.Wait()
	if len(r.waiting) != 0 {
		t.Errorf("%d still wait", len(r.waiting))
	}
}

func TestWindowEndsWithContext(t *testing.T) {
	t.Parallel()
	r, at := newTestRecord(time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.window(ctx, at(0), at(time.Second)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if len(r.waiting) != 0 {
		t.Errorf("%d still wait", len(r.waiting))
	}
}

func TestWindowForgets(t *testing.T) {
	t.Parallel()
	r, at := newTestRecord(time.Second) // 101 outcomes
	putOutcome(r, 0, ms, true)
	putOutcome(r, 2, ms, true)
	early, err := r.wait(at(0), at(40*ms)) // 1 is missing
	checkError(t, err, "")
	for n := uint64(3); n < 150; n++ {
		putOutcome(r, n, time.Duration(n)*ms, true)
	}
	putOutcome(r, 1, ms, false) // too late to be remembered, and counted all the same
	if sent, failed := r.totals(); sent != 150 || failed != 1 {
		t.Errorf("sent %d, failed %d", sent, failed)
	}
	early.pending = 0
	_, err = r.copy(early)
	checkError(t, err, "no longer remembered")
	_, err = r.window(t.Context(), at(0), at(500*ms))
	checkError(t, err, "no longer remembered")
	got, err := r.window(t.Context(), at(500*ms), at(1501*ms))
	checkError(t, err, "")
	if len(got) != 101 || got[0] != outcome(49*ms) || got[100] != outcome(149*ms) {
		t.Errorf("got %d outcomes, %v to %v", len(got), got[0], got[len(got)-1])
	}
}

func TestWindowBeforeTheBeginning(t *testing.T) {
	t.Parallel()
	_, err := newRecord(ms).window(t.Context(), time.Now(), time.Now().Add(time.Hour))
	checkError(t, err, "the traffic has not started")
}

func TestMeasures(t *testing.T) {
	t.Parallel()
	hundred := make([]outcome, 100) // 1 s to 100 s, every tenth failed
	for i := range hundred {
		hundred[i] = outcome(time.Duration(i+1) * time.Second)
		if i%10 == 9 {
			hundred[i] = -hundred[i]
		}
	}
	rand.Shuffle(100, func(i, j int) { hundred[i], hundred[j] = hundred[j], hundred[i] })
	second := outcome(time.Second)
	for name, tt := range map[string]struct {
		of   []outcome
		want map[string]float64
	}{
		"hundred":    {hundred, map[string]float64{"success": 0.9, "rate": 45, "mean": 50.5, "p50": 50, "p95": 95, "p99": 99, "max": 100}},
		"one":        {[]outcome{3 * second}, map[string]float64{"success": 1, "rate": 0.5, "mean": 3, "p50": 3, "p95": 3, "p99": 3, "max": 3}},
		"one failed": {[]outcome{-3 * second}, map[string]float64{"success": 0, "rate": 0, "mean": 3, "p50": 3, "p95": 3, "p99": 3, "max": 3}},
		"two":        {[]outcome{-4 * second, 2 * second}, map[string]float64{"success": 0.5, "rate": 0.5, "mean": 3, "p50": 2, "p95": 4, "p99": 4, "max": 4}},
		"three":      {[]outcome{5 * second, second, 3 * second}, map[string]float64{"success": 1, "rate": 1.5, "mean": 3, "p50": 3, "p95": 5, "p99": 5, "max": 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]float64{}
			for name, measure := range measures {
				got[name] = measure(tt.of, 2*time.Second)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNth(t *testing.T) {
	t.Parallel()
	for size := range 60 {
		list := make([]outcome, size)
		for i := range list {
			list[i] = outcome(rand.IntN(size/2 + 1)) // some are alike
		}
		sorted := slices.Sorted(slices.Values(list))
		for n := range sorted {
			if got := nth(slices.Clone(list), n); got != sorted[n] {
				t.Errorf("%v: at %d stands %d, want %d", list, n, got, sorted[n])
			}
		}
	}
}

// Vegeta's pacer and the record agree on when a request is due, at any rate.
func TestDueAsPaced(t *testing.T) {
	t.Parallel()
	for _, per := range []time.Duration{10 * time.Microsecond, 333333333, time.Second, 2 * time.Second, 24 * time.Hour} {
		r := newRecord(per)
		r.began = time.Now()
		pace := vegeta.ConstantPacer{Freq: 1, Per: per}
		for _, n := range []uint64{0, 1, 2, 1000, 99_999} {
			due := time.Duration(n+1) * per
			if wait, stop := pace.Pace(due-1, n); wait != 1 || stop {
				t.Errorf("every %s: just before request %d is due vegeta waits %s (stop %v), want 1ns", per, n, wait, stop)
			}
			if wait, _ := pace.Pace(due, n); wait > 0 {
				t.Errorf("every %s: when request %d is due vegeta waits %s", per, n, wait)
			}
			if got := r.firstDue(r.began.Add(due)); got != n {
				t.Errorf("every %s: the first due at %s is %d, want %d", per, due, got, n)
			}
			if got := r.firstDue(r.began.Add(due + 1)); got != n+1 {
				t.Errorf("every %s: the first due after %s is %d, want %d", per, due, got, n+1)
			}
		}
	}
}
