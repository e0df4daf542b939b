package op

import (
	"math"

	"github.com/simianhq/simian/internal/impair"
)

// chanceOf is what netem compares a random number with, so that c's share of
// packets is met, and the correlation it takes. Its random numbers are
//
//	next = (1-ρ) · uniform + ρ · last
//
// (get_crandom of net/sched/sch_netem.c), which keeps them away from both ends:
// were they compared with the share itself, 10 % with a correlation of 25 %
// would be 4 %. So they are compared with the number below which that share of
// them lies.
func chanceOf(c impair.Chance) (threshold, correlation uint32) {
	p, rho := c.Percent/100, c.Correlation/100
	if rho <= 0 || p <= 0 || p >= 1 {
		return probability(c.Percent), 0
	}
	rho = min(rho, mostCorrelation)
	return probability(100 * meanQuantile(p, rho)), probability(100 * rho)
}

// mostCorrelation is where netem's numbers hardly move any more.
const mostCorrelation = 0.99

// meanQuantile returns the number below which a share p of netem's correlated
// numbers lies in the long run. Their distribution function is the one that
// one more step leaves as it is:
//
//	F(x) = ρ/(1-ρ) · ∫ F(y) dy from (x-1+ρ)/ρ to x/ρ
func meanQuantile(p, rho float64) float64 {
	const parts, tries, close = 4096, 3000, 1e-9
	f, sum := make([]float64, parts+1), make([]float64, parts+1)
	for i := range f {
		f[i] = float64(i) / parts
	}
	for off, try := 1.0, 0; off > close && try < tries; try++ {
		integrate(f, sum)
		off = 0
		for i := range f {
			x := float64(i) / parts
			next := rho / (1 - rho) * (area(sum, x/rho) - area(sum, (x-1+rho)/rho))
			off = max(off, math.Abs(next-f[i]))
			f[i] = next
		}
	}
	for i := 1; i <= parts; i++ {
		if f[i] >= p {
			return (float64(i-1) + (p-f[i-1])/(f[i]-f[i-1])) / parts
		}
	}
	return 1
}

// integrate sums f, given at equal steps from 0 to 1.
func integrate(f, sum []float64) {
	for i := 1; i < len(f); i++ {
		sum[i] = sum[i-1] + (f[i-1]+f[i])/2/float64(len(f)-1)
	}
}

// area is the integral up to y of a distribution function that is 0 below 0
// and 1 above 1.
func area(sum []float64, y float64) float64 {
	last := len(sum) - 1
	switch x := y * float64(last); {
	case x <= 0:
		return 0
	case x >= float64(last):
		return sum[last] + y - 1
	default:
		i := int(x)
		return sum[i] + (x-float64(i))*(sum[i+1]-sum[i])
	}
}
