package main

import (
	"math"
	"slices"
)

// Figures on the page are medians of the rounds: what hit one of them does not
// count. These functions make them from the raw results; all are milliseconds
// unless they say otherwise, and NaN where nothing was measured.

// exactness is how exact one backend was at one delay.
type exactness struct {
	backend string
	delay   float64
	n, sent int
	trip    float64 // mean round trip
	bias    float64 // mean error
	middle  float64 // median error
	spread  float64 // standard deviation
	p99     float64 // of the error's size
	errors  []float64
}

// exactly returns the errors of each backend at each delay: the round trip
// without the delay and without the mean round trip of the same round's
// baseline.
func (r *Results) exactly() []exactness {
	var all []exactness
	for _, name := range []string{netem, queue, tc, toxiproxy} {
		for _, delay := range r.delaysOf(name) {
			all = append(all, r.exact(name, delay))
		}
	}
	return all
}

func (r *Results) delaysOf(name string) []float64 {
	var delays []float64
	for _, d := range r.Delays {
		if d.Backend == name {
			delays = append(delays, d.Delay)
		}
	}
	slices.Sort(delays)
	return slices.Compact(delays)
}

func (r *Results) exact(name string, delay float64) exactness {
	x := exactness{backend: name, delay: delay}
	var trips, biases, middles, spreads, tails []float64
	for _, d := range r.Delays {
		if d.Backend != name || d.Delay != delay || len(d.Trips) == 0 {
			continue
		}
		errors := make([]float64, len(d.Trips))
		for i, trip := range d.Trips {
			errors[i] = trip - delay - r.base(d.Kind, d.Round)
		}
		x.n, x.sent, x.errors = x.n+len(d.Trips), x.sent+d.Sent, append(x.errors, errors...)
		trips, biases, middles = append(trips, mean(d.Trips)), append(biases, mean(errors)), append(middles, median(errors))
		spreads, tails = append(spreads, deviation(errors)), append(tails, percentile(absolute(errors), 99))
	}
	x.trip, x.bias, x.middle, x.spread, x.p99 = median(trips), median(biases), median(middles), median(spreads), median(tails)
	return x
}

// base is the mean round trip without a fault in a round, or in all of them
// where that round has none.
func (r *Results) base(kind string, round int) float64 {
	var here, all []float64
	for _, d := range r.Delays {
		if d.Backend == none && d.Kind == kind && len(d.Trips) > 0 {
			all = append(all, mean(d.Trips))
			if d.Round == round {
				here = append(here, mean(d.Trips))
			}
		}
	}
	if len(here) > 0 {
		return mean(here)
	}
	return mean(all)
}

// worst is the one that is farthest off by some measure.
func worst(all []exactness, backend string, by func(exactness) float64) (x exactness, ok bool) {
	for _, e := range all {
		if e.backend == backend && !math.IsNaN(by(e)) && (!ok || math.Abs(by(e)) > math.Abs(by(x))) {
			x, ok = e, true
		}
	}
	return x, ok
}

// gbit is one TCP flow's rate, Gbit/s.
func (r *Results) gbit(backend string, delay float64) float64 {
	var v []float64
	for _, t := range r.TCP {
		if t.Backend == backend && t.Delay == delay {
			v = append(v, t.Gbit)
		}
	}
	return median(v)
}

// datagrams is what became of UDP packets: packets in a second, percent.
type datagrams struct{ sent, received, lost, overflow float64 }

func (r *Results) datagrams(backend string, delay float64) (d datagrams, ok bool) {
	var sent, received, lost, overflow []float64
	for _, u := range r.UDP {
		if u.Backend != backend || u.Delay != delay || u.Seconds == 0 {
			continue
		}
		sent, received = append(sent, float64(u.Offered)/u.Seconds), append(received, float64(u.Received)/u.Seconds)
		lost = append(lost, 100*float64(u.Lost)/float64(u.Offered))
		overflow = append(overflow, 100*float64(u.Overflow)/float64(u.Offered))
	}
	return datagrams{median(sent), median(received), median(lost), median(overflow)}, len(sent) > 0
}

// rates are the delays at which throughput was measured.
func (r *Results) rates() []float64 {
	var delays []float64
	for _, t := range r.TCP {
		delays = append(delays, t.Delay)
	}
	for _, u := range r.UDP {
		delays = append(delays, u.Delay)
	}
	slices.Sort(delays)
	return slices.Compact(delays)
}

// passing is the median round trip past filters of each length.
type passing struct {
	backend       string
	match         bool
	delay         float64
	few, many     int
	fewMS, manyMS float64
}

func (p passing) ratio() float64 { return p.manyMS / p.fewMS }

// passings pairs what was measured with the most ranges with what was measured
// with the fewest.
func (r *Results) passings() []passing {
	var all []passing
	for _, name := range []string{netem, queue, tc} {
		for _, match := range []bool{true, false} {
			if p, ok := r.passing(name, match); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

func (r *Results) passing(name string, match bool) (passing, bool) {
	trips := map[int][]float64{} // medians, by number of ranges
	p := passing{backend: name, match: match, few: math.MaxInt, many: -1}
	for _, f := range r.Filters {
		if f.Backend == name && f.Match == match && len(f.Trips) > 0 {
			trips[f.CIDRs] = append(trips[f.CIDRs], median(f.Trips))
			p.few, p.many, p.delay = min(p.few, f.CIDRs), max(p.many, f.CIDRs), f.Delay
		}
	}
	p.fewMS, p.manyMS = median(trips[p.few]), median(trips[p.many])
	return p, p.few < p.many
}

// bare is the median round trip past no filter.
func (r *Results) bare() float64 {
	var v []float64
	for _, f := range r.Filters {
		if f.Backend == none && len(f.Trips) > 0 {
			v = append(v, median(f.Trips))
		}
	}
	return median(v)
}

// started is how long one backend took to be in force.
type started struct {
	n                  int
	seen, said, inject []float64
}

func (r *Results) started(backend string) started {
	var s started
	for _, t := range r.Starts {
		if t.Backend == backend {
			s.n++
			s.seen, s.said, s.inject = append(s.seen, t.Seen), append(s.said, t.Said), append(s.inject, t.Inject)
		}
	}
	return s
}
