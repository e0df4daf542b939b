package probe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// rememberAtLeast is how long an outcome is kept, counted from the newest.
	rememberAtLeast = 2 * time.Minute
	// rememberMost bounds how many are kept, at 8 bytes each. At the fastest
	// rate they are those of the last 2 min 40 s.
	rememberMost = 16 << 20
)

// outcome is how a request ended: the nanoseconds from when it was due until
// it was over, negative where it failed. Zero is one that is not over yet.
type outcome int64

func (o outcome) failed() bool     { return o < 0 }
func (o outcome) seconds() float64 { return math.Abs(float64(o)) / 1e9 }

// record keeps the latest outcomes of one traffic. Requests are counted from
// 0, and request n is due n+1 intervals after the beginning:
//
//	began ─per─ 0 ─per─ 1 ─per─ 2 ─ …
//
// so that a window in time is a range of numbers.
type record struct {
	per   time.Duration // from one request to the next
	began time.Time

	mu           sync.Mutex
	ring         []outcome // of request n at n % len(ring)
	next         uint64    // after the last one that has a place in the ring
	remember     time.Duration
	waiting      []*wait
	sent, failed uint64
	started      bool
	over         chan struct{} // closed when no outcome comes any more
}

// wait is somebody who waits until the requests from lo on and before hi are
// all over.
type wait struct {
	lo, hi  uint64
	pending uint64
	done    chan struct{}
}

func newRecord(per time.Duration) *record {
	return &record{per: per, remember: rememberAtLeast, over: make(chan struct{})}
}

// keepFor makes the record keep outcomes for d at least; it is asked before it
// begins.
func (r *record) keepFor(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remember = max(r.remember, d)
}

// begin makes request 0 due one interval after now. The ring takes memory only
// where it was written.
func (r *record) begin(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began, r.started = now, true
	r.ring = make([]outcome, min(rememberMost, int64(r.remember/r.per)+1))
}

// end says that no outcome comes any more.
func (r *record) end() { close(r.over) }

func (r *record) totals() (sent, failed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent, r.failed
}

// put notes that request n was over at end.
func (r *record) put(n uint64, end time.Time, answered bool) {
	o := outcome(max(1, end.Sub(r.began)-time.Duration(n+1)*r.per))
	if !answered {
		o = -o
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent++
	if o.failed() {
		r.failed++
	}
	for ; r.next <= n; r.next++ {
		*r.at(r.next) = 0
	}
	if !r.remembers(n) {
		return
	}
	*r.at(n) = o
	for _, w := range r.waiting {
		w.tell(n)
	}
}

// tell says that request n is over now.
func (w *wait) tell(n uint64) {
	if n < w.lo || n >= w.hi {
		return
	}
	if w.pending--; w.pending == 0 {
		close(w.done)
	}
}

func (r *record) at(n uint64) *outcome { return &r.ring[n%uint64(len(r.ring))] }

// remembers tells whether n's place in the ring is not another's by now.
func (r *record) remembers(n uint64) bool { return n+uint64(len(r.ring)) >= r.next }

// firstDue returns the number of the first request that is due at t or later.
func (r *record) firstDue(t time.Time) uint64 {
	since := t.Sub(r.began)
	if since <= r.per {
		return 0
	}
	return uint64((since+r.per-1)/r.per) - 1
}

// window returns the outcomes of the requests due from from on and before to,
// in the order they were due, once all of them are over.
func (r *record) window(ctx context.Context, from, to time.Time) ([]outcome, error) {
	w, err := r.wait(from, to)
	if err != nil {
		return nil, err
	}
	defer r.forget(w)
	select {
	case <-w.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-r.over:
	}
	return r.copy(w)
}

// wait begins to wait for the requests of a window.
func (r *record) wait(from, to time.Time) (*wait, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started {
		return nil, errors.New("the traffic has not started")
	}
	w := &wait{lo: r.firstDue(from), hi: r.firstDue(to), done: make(chan struct{})}
	switch {
	case w.lo >= w.hi:
		return nil, errors.New("no request was due")
	case !r.remembers(w.lo) || w.hi-w.lo > uint64(len(r.ring)):
		return nil, r.forgotten()
	}
	for n := w.lo; n < w.hi; n++ {
		if n >= r.next || *r.at(n) == 0 {
			w.pending++
		}
	}
	if w.pending == 0 {
		close(w.done)
	} else {
		r.waiting = append(r.waiting, w)
	}
	return w, nil
}

func (r *record) forgotten() error {
	return fmt.Errorf("what was due is no longer remembered (the last %s is)", time.Duration(len(r.ring))*r.per)
}

// forget ends a wait.
func (r *record) forget(w *wait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = slices.DeleteFunc(r.waiting, func(other *wait) bool { return other == w })
}

func (r *record) copy(w *wait) ([]outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case w.pending > 0:
		return nil, errors.New("the traffic was stopped before all was answered")
	case !r.remembers(w.lo):
		return nil, r.forgotten()
	}
	outcomes := make([]outcome, 0, w.hi-w.lo)
	for n := w.lo; n < w.hi; n++ {
		outcomes = append(outcomes, *r.at(n))
	}
	return outcomes, nil
}
