package impair

import "math"

// terms is how many terms of Mehler's series carry sums; what is left of it
// counts as one more.
const terms = 20

// carry returns the correlation that normal scores need, so that delays of
// this shape have the correlation want, 0 to 1. A shape that is not normal has
// a little less than its scores.
//
// With the shape written as a sum of Hermite polynomials of a normal score,
// the correlation of two delays whose scores correlate by r is Σ cₖ²·rᵏ ÷ Σ cₖ²
// (Mehler's formula), which rises with r, so that it can be searched.
func (s *shape) carry(want float64) float64 {
	parts := s.series()
	low, high := 0.0, 1.0
	for range 50 {
		r := (low + high) / 2
		if correlation(&parts, r) < want {
			low = r
		} else {
			high = r
		}
	}
	return high
}

func correlation(parts *[terms + 1]float64, r float64) (sum float64) {
	for k := terms; k >= 0; k-- {
		sum = (sum + parts[k]) * r
	}
	return sum
}

// series returns the share of the shape's variance in each term of its
// Hermite series, from the first on; the last is what is left.
func (s *shape) series() (parts [terms + 1]float64) {
	const step = 1.0 / 32
	var variance float64
	for z := -8.0; z <= 8; z += step {
		weight := math.Exp(-z*z/2) / math.Sqrt(2*math.Pi) * step
		value := s.at(math.Erfc(-z/math.Sqrt2) / 2)
		variance += weight * value * value
		before, h := 0.0, 1.0
		for k := range terms { // Hermite polynomials of norm 1
			n := float64(k + 1)
			before, h = h, (z*h-math.Sqrt(n-1)*before)/math.Sqrt(n)
			parts[k] += weight * value * h
		}
	}
	rest := 1.0
	for k := range terms {
		parts[k] *= parts[k] / variance
		rest -= parts[k]
	}
	parts[terms] = max(rest, 0)
	return parts
}
