package impair

import "math"

// jitter draws delays.
type jitter struct {
	mean, scale float64 // nanoseconds
	shape       *shape  // nil where there is no jitter
	carry       float64 // of a score from one packet to the next
	fresh       float64 // its other part, √(1-carry²)
	score       float64 // the last one
	started     bool
}

func newJitter(cfg Config) jitter {
	j := jitter{mean: float64(cfg.Delay), scale: float64(cfg.Jitter)}
	if cfg.Jitter <= 0 {
		return j
	}
	j.shape = newShape(cfg.Distribution)
	if cfg.Correlation > 0 {
		j.carry = j.shape.carry(cfg.Correlation / 100)
		j.fresh = math.Sqrt(1 - j.carry*j.carry)
	}
	return j
}

// delay draws a delay in nanoseconds, never below 0: what would be is 0, as in
// netem, where such a packet is sent at once.
func (j *jitter) delay(d *draw) int64 {
	if j.shape == nil {
		return int64(j.mean)
	}
	return int64(max(0, math.Round(j.mean+j.scale*j.shape.at(j.uniform(d)))))
}

// uniform draws where in the distribution the next delay lies. Delays are
// correlated by a Gaussian copula: normal scores, each a part of the one
// before and the rest drawn anew, so that they are normal again; the normal
// distribution function makes them uniform, and the quantile function of any
// distribution makes delays of them that have exactly that distribution.
func (j *jitter) uniform(d *draw) float64 {
	if j.carry == 0 {
		return d.uniform()
	}
	z := d.rand.NormFloat64()
	if j.started {
		z = j.carry*j.score + j.fresh*z
	}
	j.score, j.started = z, true
	return math.Erfc(-z/math.Sqrt2) / 2
}
