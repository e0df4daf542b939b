package impair

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// newTestModel returns a model with a fixed seed, so that a test of chance has
// one outcome.
func newTestModel(cfg Config) *Model { return New(cfg, rand.NewPCG(4, 2011)) }

// fates gives those of n packets of 1000 bytes that come a millisecond apart,
// at time 0 first.
func fates(cfg Config, n int) []Fate {
	m := newTestModel(cfg)
	list := make([]Fate, n)
	for i := range list {
		list[i] = m.Packet(int64(i)*int64(time.Millisecond), 1000)
	}
	return list
}

// delays gives the delays of n packets, in seconds.
func delays(cfg Config, n int) []float64 {
	list := make([]float64, n)
	for i, f := range fates(cfg, n) {
		list[i] = (time.Duration(f.Due) - time.Duration(i)*time.Millisecond).Seconds()
	}
	return list
}

// flags gives 1 for each fate of which is true.
func flags(list []Fate, is func(Fate) bool) []float64 {
	out := make([]float64, len(list))
	for i, f := range list {
		if is(f) {
			out[i] = 1
		}
	}
	return out
}

func isLost(f Fate) bool { return f.Lost }

// moments gives mean, standard deviation and correlation with the next.
func moments(list []float64) (mean, sd, next float64) {
	for _, x := range list {
		mean += x
	}
	mean /= float64(len(list))
	var square, cross float64
	for i, x := range list {
		square += (x - mean) * (x - mean)
		if i > 0 {
			cross += (x - mean) * (list[i-1] - mean)
		}
	}
	return mean, math.Sqrt(square / float64(len(list))), cross / square
}

// within fails unless got is want, give or take tolerance.
func within(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance || math.IsNaN(got) {
		t.Errorf("%s is %.6g, want %.6g ± %.2g", what, got, want, tolerance)
	}
}

// normal999 is what 99.9 % of a normal distribution lie within, in standard
// deviations.
const normal999 = 3.2905

// binomial is half the 99.9 % interval of the share seen in n draws, whose
// variance is stretched by their correlation r with the next (a chain of two
// states: 1+r over 1-r).
func binomial(p, r float64, n int) float64 {
	return normal999 * math.Sqrt(p*(1-p)/float64(n)*(1+r)/(1-r))
}
