// Package impair says what a bad network does to a packet: how late it comes,
// whether it comes at all, once or twice, whole or not. The models are those
// of netem (tc-netem(8)), so that both backends mean the same by the same
// words. It is pure: it is told the time and has a source of randomness.
package impair

import "time"

// Config is what is done to packets. The zero value does nothing.
type Config struct {
	Delay        time.Duration `json:"delay,omitzero"`        // one way, added to each packet
	Jitter       time.Duration `json:"jitter,omitzero"`       // uniform: its half width; otherwise its standard deviation
	Correlation  float64       `json:"correlation,omitzero"`  // of one delay with the next, percent
	Distribution Distribution  `json:"distribution,omitzero"` // of Jitter; "" is Uniform

	Loss      Loss   `json:"loss,omitzero"`
	Duplicate Chance `json:"duplicate,omitzero"` // a copy goes with the packet
	Corrupt   Chance `json:"corrupt,omitzero"`   // one bit is flipped
	Reorder   Chance `json:"reorder,omitzero"`   // the packet is not delayed, and overtakes those that are
	Gap       int    `json:"gap,omitzero"`       // with Reorder: only every Gap-th packet may overtake; 0 is 1

	Rate     float64 `json:"rate,omitzero"`     // bits per second; 0 is as fast as it goes
	Burst    int     `json:"burst,omitzero"`    // bytes that may go at once after a pause; 0 is none
	Overhead int     `json:"overhead,omitzero"` // bytes counted for each packet besides its own, may be negative
}

// Chance is how often something happens.
type Chance struct {
	Percent     float64 `json:"percent,omitzero"`
	Correlation float64 `json:"correlation,omitzero"` // with what happened to the packet before, percent
}

// Loss is one of three models; the zero value loses nothing.
type Loss struct {
	Chance
	States  *States  `json:"states,omitempty"`
	Gilbert *Gilbert `json:"gilbert,omitempty"`
}

// States is the 4-state Markov model: 1 good reception, 2 good reception
// within a burst, 3 burst losses, 4 independent losses (Salsano, Ludovici,
// Ordine: Definition of a general and intuitive loss model for packet networks
// and its implementation in the Netem module, 2009). All are percent;
// P13+P14 and P31+P32 are 100 at most. It starts in state 1.
type States struct {
	P13 float64 `json:"p13,omitzero"`
	P31 float64 `json:"p31,omitzero"`
	P32 float64 `json:"p32,omitzero"`
	P23 float64 `json:"p23,omitzero"`
	P14 float64 `json:"p14,omitzero"`
}

// Gilbert is the Gilbert–Elliott model. All are percent. It starts in the
// good state.
type Gilbert struct {
	P    float64 `json:"p,omitzero"`    // from the good state to the bad
	R    float64 `json:"r,omitzero"`    // from the bad state to the good
	Bad  float64 `json:"bad,omitzero"`  // loss in the bad state, 1-h
	Good float64 `json:"good,omitzero"` // loss in the good state, 1-k
}

// Distribution is the shape of Jitter.
type Distribution string

// The distributions. All but Uniform have mean 0 and standard deviation 1
// before they are scaled by Jitter.
const (
	Uniform      Distribution = "uniform"
	Normal       Distribution = "normal"
	Pareto       Distribution = "pareto"
	ParetoNormal Distribution = "paretonormal" // a quarter normal, three quarters Pareto
)
