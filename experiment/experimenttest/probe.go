package experimenttest

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// ProbeCase is a probe that can measure.
type ProbeCase struct {
	Probe experiment.Probe
	// Blocked, where given, gets no answer: only its context ends it.
	Blocked experiment.Probe
	// Gone, where given, measures what is gone, or never was.
	Gone experiment.Probe
}

// Probe asks of a probe what every probe must do: it measures a number in a
// unit that is known, heeds its context, and gives an error where what it
// measures is gone.
func Probe(t testing.TB, c ProbeCase) {
	t.Helper()
	part(t, "measures", func(t testing.TB) {
		value, err := c.Probe.Measure(bounded(t))
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			t.Errorf("it measures %v, %v", value, err)
		}
		if m, ok := c.Probe.(experiment.Measured); ok && !slices.Contains([]string{"s", "ratio", "/s", "B", ""}, m.Unit()) {
			t.Errorf("its unit %q is none that reports know", m.Unit())
		}
	})
	part(t, "a context that is over", func(t testing.TB) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		ends(ctx, t, c.Probe)
	})
	if c.Blocked != nil {
		part(t, "a context that ends", func(t testing.TB) {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			ends(ctx, t, c.Blocked)
		})
	}
	if c.Gone != nil {
		part(t, "gone", func(t testing.TB) {
			if value, err := c.Gone.Measure(bounded(t)); err == nil {
				t.Errorf("what it measures is gone, and it measures %v", value)
			}
		})
	}
}

// ends asks that p gives an error at once when ctx is over.
func ends(ctx context.Context, t testing.TB, p experiment.Probe) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := p.Measure(ctx)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Errorf("its context is over, and it gives no error")
		}
	case <-time.After(time.Second):
		t.Errorf("its context is over, and it does not end")
	}
}
