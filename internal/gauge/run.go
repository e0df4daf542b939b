package gauge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/simianhq/simian/experiment"
)

// How Before and During measure.
const (
	beforeProbes = 5
	beforeBound  = 50 * time.Millisecond
	interval     = 100 * time.Millisecond
	grace        = time.Second // what an answer may take at the end of During, at least
)

// Before measures at most 5 round trips, one after the other, in 50 ms at
// most. The one that this cuts short counts as lost where it has waited for
// more than three times the median of the others, or there are none.
func Before(ctx context.Context, s *Session) (rtts []time.Duration, lost int) {
	return before(ctx, s.Ping)
}

// ping is what measures one round trip.
type ping = func(context.Context) (time.Duration, error)

func before(ctx context.Context, measure ping) (rtts []time.Duration, lost int) {
	ctx, cancel := context.WithTimeout(ctx, beforeBound)
	defer cancel()
	for range beforeProbes {
		began := time.Now()
		rtt, err := measure(ctx)
		switch {
		case err == nil:
			rtts = append(rtts, rtt)
		case errors.Is(err, experiment.ErrGone):
			return rtts, lost
		case ctx.Err() == nil || time.Since(began) > 3*median(rtts):
			lost++
		}
		if ctx.Err() != nil {
			break
		}
	}
	return rtts, lost
}

// During measures a round trip every 100 ms until ctx ends, each on its own: a
// slow one holds up none. One that has no answer 3 s after it was sent, or
// that can't be sent, is lost. Of those that wait when ctx ends only the ones
// that had a fair chance count, as lost: three times the median of the others,
// and a second at least.
func During(ctx context.Context, s *Session) (rtts []time.Duration, lost int) {
	return during(ctx, s.Ping)
}

func during(ctx context.Context, measure ping) (rtts []time.Duration, lost int) {
	var t tally
	var running sync.WaitGroup
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		running.Go(func() { t.probe(ctx, measure) })
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	running.Wait()
	return t.rtts, t.lost + t.overdue()
}

// tally collects what came of probes.
type tally struct {
	mu     sync.Mutex
	rtts   []time.Duration
	lost   int
	waited []time.Duration // those that ctx's end cut short
}

func (t *tally) probe(ctx context.Context, measure ping) {
	began := time.Now()
	rtt, err := measure(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.rtts = append(t.rtts, rtt)
	case errors.Is(err, experiment.ErrGone):
	case ctx.Err() != nil:
		t.waited = append(t.waited, time.Since(began))
	default:
		t.lost++
	}
}

// overdue counts the probes cut short that an answer should have come to.
func (t *tally) overdue() (n int) {
	fair := max(grace, 3*median(t.rtts))
	for _, w := range t.waited {
		if w >= fair {
			n++
		}
	}
	return n
}

// median returns that of list, 0 of none.
func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return percentile(slices.Sorted(slices.Values(list)), 50)
}
