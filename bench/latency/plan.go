package main

import (
	"math/rand/v2"
	"time"
)

// plan is how much is measured.
type plan struct {
	rounds int // of delays and TCP
	few    int // of UDP and filters
	delays []time.Duration
	trips  int           // of each delay in each round
	every  time.Duration // between two of them

	losses  []float64 // percent
	packets int       // of each loss
	pace    time.Duration

	shapes  []string // of jitter
	samples int      // of each
	apart   time.Duration

	rates      []time.Duration // delays at which throughput is measured
	warm, flow time.Duration
	offered    float64 // UDP packets in a second
	udp        time.Duration

	cidrs  int
	passes int // round trips past a filter
	starts int
}

const ms = time.Millisecond

// whole is what the page is made from. On an emulated processor packets cost
// much more, so there are fewer of them in a second.
func whole(emulated bool) plan {
	p := plan{
		rounds: 3, few: 3, delays: []time.Duration{1 * ms, 5 * ms, 20 * ms, 50 * ms, 100 * ms, 200 * ms}, trips: 200, every: 10 * ms,
		losses: []float64{0.1, 1, 5, 25}, packets: 10_000, pace: 200 * time.Microsecond,
		shapes: []string{"uniform", "normal", "pareto", "paretonormal"}, samples: 10_000, apart: 500 * time.Microsecond,
		rates: []time.Duration{0, 1 * ms, 10 * ms, 100 * ms}, warm: 1500 * ms, flow: 3 * time.Second, offered: 200_000, udp: 3 * time.Second,
		cidrs: 10_000, passes: 300, starts: 15,
	}
	if emulated {
		p.rounds, p.few, p.starts = 2, 1, 6
		p.pace, p.apart, p.samples, p.offered = 400*time.Microsecond, time.Millisecond, 4000, 10_000
		p.warm, p.flow = 1000*ms, 2000*ms
	}
	return p
}

// quick is for trying things out.
func quick(p plan) plan {
	p.rounds, p.few, p.delays, p.trips = 1, 1, []time.Duration{1 * ms, 20 * ms}, 50
	p.losses, p.packets = []float64{1, 25}, 2000
	p.shapes, p.samples = []string{"uniform", "normal"}, 1000
	p.rates, p.warm, p.flow, p.udp = []time.Duration{0, 10 * ms}, 300*ms, 700*ms, 500*ms
	p.cidrs, p.passes, p.starts = 2000, 50, 3
	return p
}

// shuffled returns v in a random order: what the machine does meanwhile must
// not hit the same backend each time.
func shuffled[T any](v []T) []T {
	rand.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
	return v
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
