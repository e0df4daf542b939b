package main

import (
	"math"
	"testing"
)

// The bounds were computed with 60 digits, from the sums themselves.
func TestBinomial(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n         int
		p         float64
		low, high int
	}{
		{10_000, 0.001, 3, 19},
		{10_000, 0.01, 75, 127},
		{10_000, 0.05, 445, 557},
		{10_000, 0.25, 2389, 2612},
		{10, 0.5, 1, 9},
		{100, 0.999, 99, 100},
		{100, 0, 0, 0},
		{100, 1, 100, 100},
		{0, 0.5, 0, 0},
	} {
		if low, high := binomial(c.n, c.p, 0.99); low != c.low || high != c.high {
			t.Errorf("of %d with %g: %d to %d, want %d to %d", c.n, c.p, low, high, c.low, c.high)
		}
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		v       []float64
		p, want float64
	}{
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{hundred, 1, 1},
		{hundred, 0, 1},
		{[]float64{7}, 50, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{3, 1, 2}, 34, 2},
		{[]float64{3, 1, 2}, 33, 1},
	} {
		if got := percentile(c.v, c.p); got != c.want {
			t.Errorf("%g %% of %d: %g, want %g", c.p, len(c.v), got, c.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("the values were sorted in place")
	}
}

func TestMoments(t *testing.T) {
	t.Parallel()
	v := []float64{2, 4, 4, 4, 5, 5, 7, 9}
	for name, c := range map[string]struct{ got, want float64 }{
		"mean":              {mean(v), 5},
		"deviation":         {deviation(v), math.Sqrt(32.0 / 7)},
		"median, even":      {median(v), 4.5},
		"median, odd":       {median(v[1:]), 5},
		"deviation's":       {deviationError(v), math.Sqrt((44.5 - 16) / (4 * 4 * 8))}, // fourth moment (81+1+1+1+0+0+16+256)/8
		"mean of nothing":   {mean(nil), math.NaN()},
		"median of nothing": {median(nil), math.NaN()},
		"p99 of nothing":    {percentile(nil, 99), math.NaN()},
	} {
		if math.Abs(c.got-c.want) > 1e-12 || math.IsNaN(c.got) != math.IsNaN(c.want) {
			t.Errorf("%s: %g, want %g", name, c.got, c.want)
		}
	}
}
