package main

import (
	"math"
	"slices"
)

// mean returns NaN of nothing.
func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

// deviation is the standard deviation of what v is a sample of.
func deviation(v []float64) float64 {
	m, sum := mean(v), 0.0
	for _, x := range v {
		sum += (x - m) * (x - m)
	}
	return math.Sqrt(sum / float64(len(v)-1))
}

// deviationError is the standard error of deviation(v), by the fourth moment:
// it holds for heavy tails as well (Cramér, Mathematical Methods of Statistics,
// 1946, 27.4).
func deviationError(v []float64) float64 {
	m := mean(v)
	var second, fourth float64
	for _, x := range v {
		d := (x - m) * (x - m)
		second += d
		fourth += d * d
	}
	n := float64(len(v))
	second, fourth = second/n, fourth/n
	return math.Sqrt((fourth - second*second) / (4 * second * n))
}

// percentile returns the smallest value that p percent of v are not above;
// NaN of nothing.
func percentile(v []float64, p float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	rank := int(math.Ceil(p / 100 * float64(len(s))))
	return s[min(max(rank, 1), len(s))-1]
}

// median is the middle one, or the mean of the two in the middle.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func absolute(v []float64) []float64 {
	a := make([]float64, len(v))
	for i, x := range v {
		a[i] = math.Abs(x)
	}
	return a
}

// binomial returns the central interval that n draws with chance p fall into
// with at least this probability: no more than half of what is left lies on
// either side.
func binomial(n int, p, confidence float64) (low, high int) {
	tail, sum := (1-confidence)/2, 0.0
	low = -1
	for k := 0; k <= n; k++ {
		sum += chance(n, k, p)
		if low < 0 && sum > tail {
			low = k
		}
		if sum >= 1-tail {
			return low, k
		}
	}
	return max(low, 0), n
}

// chance is that of k among n.
func chance(n, k int, p float64) float64 {
	switch {
	case p <= 0:
		return indicator(k == 0)
	case p >= 1:
		return indicator(k == n)
	}
	all, _ := math.Lgamma(float64(n + 1))
	in, _ := math.Lgamma(float64(k + 1))
	out, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(all - in - out + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
