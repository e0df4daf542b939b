package main

import (
	"fmt"
	"math"
	"strconv"
)

// Results are what one machine has measured: raw, so that the page can be
// written anew without measuring again.
type Results struct {
	Machine  Machine    `json:"machine"`
	Date     string     `json:"date"`    // day
	Rounds   int        `json:"rounds"`  // each in an order of its own
	Seconds  float64    `json:"seconds"` // all of it
	Missing  []Missing  `json:"missing"`
	Delays   []Delay    `json:"delays"`
	Losses   []Loss     `json:"losses"`
	Jitters  []Jitter   `json:"jitters"`
	TCP      []TCP      `json:"tcp"`
	UDP      []UDP      `json:"udp"`
	Filters  []Filter   `json:"filters"`
	Starts   []Start    `json:"starts"`
	Commands []Duration `json:"commands"` // nsenter and tc
}

// Missing is what could not be measured.
type Missing struct {
	Backend string `json:"backend"`
	Part    string `json:"part"` // "" is all of it
	Why     string `json:"why"`
}

// Delay is a series of round trips. Only what the target sends is delayed.
type Delay struct {
	Backend string  `json:"backend"`
	Kind    string  `json:"kind"`     // icmp or tcp
	Delay   float64 `json:"delay_ms"` // configured
	Round   int     `json:"round"`
	Sent    int     `json:"sent"`
	Trips   list    `json:"trips_ms"`
}

// Loss is a series of packets of which some should be lost.
type Loss struct {
	Backend  string  `json:"backend"`
	Percent  float64 `json:"percent"`
	Offered  int     `json:"offered"`
	Lost     int     `json:"lost"`
	Again    int     `json:"again"`
	Overflow int     `json:"overflow"` // of this program's own socket, not counted as lost
}

// Jitter is a series of one-way delays.
type Jitter struct {
	Backend      string  `json:"backend"`
	Distribution string  `json:"distribution"` // "" without jitter
	Delay        float64 `json:"delay_ms"`
	Jitter       float64 `json:"jitter_ms"`
	Offered      int     `json:"offered"`
	Received     int     `json:"received"`
	Overtook     int     `json:"overtook"`
	Mean         float64 `json:"mean_ms"`
	SD           float64 `json:"sd_ms"`
	SDError      float64 `json:"sd_error_ms"` // its standard error
}

// Configured is the standard deviation that is meant: a uniform jitter is told
// by its half width.
func (j Jitter) Configured() float64 {
	if j.Distribution == "uniform" {
		return j.Jitter / math.Sqrt(3)
	}
	return j.Jitter
}

// without returns the standard deviation without jitter of the same backend:
// what is the machine's own.
func (r *Results) without(backend string) float64 {
	for _, j := range r.Jitters {
		if j.Backend == backend && j.Distribution == "" {
			return j.SD
		}
	}
	return math.NaN()
}

// TCP is the rate of one flow.
type TCP struct {
	Backend string  `json:"backend"`
	Delay   float64 `json:"delay_ms"`
	Round   int     `json:"round"`
	Gbit    float64 `json:"gbit"`
	Again   int     `json:"retransmitted"`
}

// UDP is a flow of 1200-byte packets at a fixed pace.
type UDP struct {
	Backend  string  `json:"backend"`
	Delay    float64 `json:"delay_ms"`
	Round    int     `json:"round"`
	Pace     float64 `json:"pace"` // packets in a second that were to be sent
	Seconds  float64 `json:"seconds"`
	Offered  int     `json:"offered"`
	Received int     `json:"received"`
	Lost     int     `json:"lost"`
	Overflow int     `json:"overflow"`
}

// Filter is a series of round trips past a filter.
type Filter struct {
	Backend string  `json:"backend"`
	CIDRs   int     `json:"cidrs"`
	Match   bool    `json:"match"` // the pings are in the filter
	Delay   float64 `json:"delay_ms"`
	Round   int     `json:"round"`
	Trips   list    `json:"trips_ms"`
}

// Start is how long it took until the fault was in force.
type Start struct {
	Backend string  `json:"backend"`
	Seen    float64 `json:"seen_ms"`   // process started → first packet sent of those that were delayed
	Said    float64 `json:"said_ms"`   // → it said so
	Inject  float64 `json:"inject_ms"` // Apply → in force, as its result has it
}

// Duration is how long a command took, from its start to its end.
type Duration struct {
	What string  `json:"what"`
	Took float64 `json:"took_ms"`
}

// list is numbers, written with four decimals: of milliseconds, 0.1 µs.
type list []float64

// MarshalJSON implements json.Marshaler.
func (l list) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range l {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("number %d is %v", i, v)
		}
		b = strconv.AppendFloat(b, v, 'f', 4, 64)
	}
	return append(b, ']'), nil
}
