package gauge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

const ms = time.Millisecond

// script answers the nth probe after its nth time; a negative one never comes.
// The last one serves all that follow.
func script(times ...time.Duration) (measure ping, sent func() int) {
	var n atomic.Int64
	return func(ctx context.Context) (time.Duration, error) {
		takes := times[min(int(n.Add(1)), len(times))-1]
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		var answer <-chan time.Time
		if takes >= 0 {
			answer = time.After(takes)
		}
		select {
		case <-answer:
			return takes, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}, func() int { return int(n.Load()) }
}

func TestBefore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		times []time.Duration
		rtts  int
		lost  int
		takes time.Duration
	}{
		{"quick", []time.Duration{ms}, 5, 0, 5 * ms},
		{"cut short too early to tell", []time.Duration{15 * ms}, 3, 0, 50 * ms},
		{"the third is lost", []time.Duration{ms, ms, -1}, 2, 1, 50 * ms},
		{"no answer at all", []time.Duration{-1}, 0, 1, 50 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				measure, _ := script(test.times...)
				rtts, lost := before(t.Context(), measure)
				if len(rtts) != test.rtts || lost != test.lost || time.Since(began) != test.takes {
					t.Errorf("%d answers, %d lost in %v", len(rtts), lost, time.Since(began))
				}
			})
		})
	}
}

func TestBeforeCountsWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context) (time.Duration, error) { return 0, errors.New("no way") }
	if rtts, lost := before(t.Context(), refuse); len(rtts) != 0 || lost != 5 {
		t.Errorf("%v, %d lost", rtts, lost)
	}
}

func TestDuring(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name             string
		times            []time.Duration
		lasts            time.Duration
		sent, rtts, lost int
	}{
		{"slower than the interval", []time.Duration{250 * ms}, 1050 * ms, 11, 9, 0},
		{"some lost", []time.Duration{ms, -1, ms, -1, ms}, 5050 * ms, 51, 49, 2},
		{"lost and waiting", []time.Duration{-1}, 5050 * ms, 51, 0, 41},     // those of the last second may come yet
		{"a short while", []time.Duration{-1}, 550 * ms, 6, 0, 0},           // too short to tell
		{"slow ones wait", []time.Duration{900 * ms}, 2050 * ms, 21, 12, 0}, // fair is 2.7 s
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.lasts)
				defer cancel()
				measure, sent := script(test.times...)
				rtts, lost := during(ctx, measure)
				if sent() != test.sent || len(rtts) != test.rtts || lost != test.lost {
					t.Errorf("%d sent, %d answers, %d lost", sent(), len(rtts), lost)
				}
			})
		})
	}
}

// TestGoneIsNotLost: what can't be measured any more says nothing of the
// network.
func TestGoneIsNotLost(t *testing.T) {
	t.Parallel()
	gone := func(context.Context) (time.Duration, error) { return 0, fmt.Errorf("it: %w", experiment.ErrGone) }
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, before := before(ctx, gone)
		_, during := during(ctx, gone)
		if before != 0 || during != 0 {
			t.Errorf("%d and %d lost", before, during)
		}
	})
}

func TestSummarise(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100-i) * ms
	}
	for name, test := range map[string]struct {
		rtts []time.Duration
		lost int
		want experiment.Measurement
	}{
		"none":    {nil, 0, experiment.Measurement{}},
		"lost":    {nil, 3, experiment.Measurement{Sent: 3, Lost: 3}},
		"one":     {[]time.Duration{20 * ms}, 1, experiment.Measurement{Sent: 2, Lost: 1, Min: 0.02, Mean: 0.02, P50: 0.02, P99: 0.02, Max: 0.02}},
		"hundred": {hundred, 0, experiment.Measurement{Sent: 100, Min: 0.001, Mean: 0.0505, P50: 0.05, P99: 0.099, Max: 0.1, SD: 0.029011491975882}},
	} {
		test.want.Target, test.want.Phase, test.want.What = "web", experiment.PhaseDuring, "round trip"
		got := Summarise("web", experiment.PhaseDuring, "round trip", test.rtts, test.lost)
		near := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 })
		if diff := cmp.Diff(&test.want, got, near); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
