package impair

import "math"

// The form of the kernel's tables of distributions (linux/pkt_sched.h: values
// are scaled by NETEM_DIST_SCALE; NETEM_DIST_MAX entries at most). The tables
// of iproute2 (netem/maketable.c and others) have as many as these.
const (
	tableScale = 8192
	tableSize  = 4096
)

// far is how many standard deviations from the mean a delay may lie: what a
// signed entry of a table can hold.
const far = math.MaxInt16 / float64(tableScale)

// shape is the quantile function of a distribution with mean 0 and standard
// deviation 1, but for uniform, which lies between -1 and 1: straight lines
// between knots, knot i at (i+½)/len(knots), level before the first and behind
// the last.
type shape struct {
	knots []float64 // nil for uniform
}

func newShape(d Distribution) *shape {
	if d == Uniform || d == "" {
		return &shape{}
	}
	knots := quantiles(d)
	standardise(knots, lineMoments)
	return &shape{knots}
}

// at returns the quantile of u, which lies in [0, 1].
func (s *shape) at(u float64) float64 {
	if s.knots == nil {
		return 2*u - 1
	}
	x := u*float64(len(s.knots)) - 0.5
	i := int(x)
	switch {
	case x <= 0:
		return s.knots[0]
	case i >= len(s.knots)-1:
		return s.knots[len(s.knots)-1]
	}
	part := x - float64(i)
	return s.knots[i] + part*(s.knots[i+1]-s.knots[i])
}

// Table returns d in the form that the kernel's netem takes
// (TCA_NETEM_DELAY_DIST): quantiles of a distribution of mean 0 and standard
// deviation 1, times 8192. It is nil for Uniform, which netem draws itself.
//
// The shapes are those of iproute2's netem/normal.c, pareto.c (shape
// parameter 3) and paretonormal.c. An entry holds less than 4 standard
// deviations, which cuts off the Pareto's tail; iproute2's tables are not
// corrected for that, nor is its Pareto's scale the right one, and what netem
// does with them has another mean and spread than was asked for (Jurgelionis,
// Laulajainen, Hirvonen, Wang: An Empirical Study of NetEm Network Emulation
// Functionalities, 2011). Here the shape that is left after the cut has mean 0
// and standard deviation 1.
func Table(d Distribution) []int16 {
	if d == Uniform || d == "" {
		return nil
	}
	values := quantiles(d)
	standardise(values, pointMoments)
	table := make([]int16, len(values))
	for i, v := range values {
		table[i] = int16(math.Round(v * tableScale))
	}
	return table
}

// quantiles returns those of d in the middle of each of tableSize parts.
func quantiles(d Distribution) []float64 {
	values := make([]float64, tableSize)
	for i := range values {
		u := (float64(i) + 0.5) / tableSize
		switch d {
		case Pareto:
			values[i] = pareto(u)
		case ParetoNormal:
			values[i] = normal(u)/4 + pareto(u)*3/4
		default:
			values[i] = normal(u)
		}
	}
	return values
}

// normal is the quantile function of the normal distribution.
func normal(u float64) float64 { return math.Sqrt2 * math.Erfinv(2*u-1) }

// pareto is that of the Pareto distribution with shape parameter 3 and least
// value 1, moved and scaled to mean 0 and standard deviation 1 (its mean is
// 3/2, its variance 3/4).
func pareto(u float64) float64 {
	return (1/math.Cbrt(1-u) - 1.5) / math.Sqrt(0.75)
}

// standardise moves and scales values, cut off at far, until their mean is 0
// and their standard deviation 1: cutting changes both, so it goes on until
// there is nothing left to correct.
func standardise(values []float64, moments func([]float64) (mean, sd float64)) {
	raw := append([]float64(nil), values...)
	shift, scale := 0.0, 1.0
	for range 100 {
		for i, v := range raw {
			values[i] = min(max((v-shift)*scale, -far), far)
		}
		mean, sd := moments(values)
		if math.Abs(mean) < 1e-9 && math.Abs(sd-1) < 1e-9 {
			return
		}
		shift += mean / scale
		scale /= sd
	}
}

// pointMoments are those of a value picked from the list.
func pointMoments(values []float64) (mean, sd float64) {
	var sum, squares float64
	for _, v := range values {
		sum += v
		squares += v * v
	}
	n := float64(len(values))
	return sum / n, math.Sqrt(squares/n - sum*sum/n/n)
}

// lineMoments are those of a shape with these knots.
func lineMoments(knots []float64) (mean, sd float64) {
	last := len(knots) - 1
	sum := (knots[0] + knots[last]) / 2 // the level ends are half a part each
	squares := (knots[0]*knots[0] + knots[last]*knots[last]) / 2
	for i, a := range knots[:last] {
		b := knots[i+1]
		sum += (a + b) / 2
		squares += (a*a + a*b + b*b) / 3
	}
	n := float64(len(knots))
	return sum / n, math.Sqrt(squares/n - sum*sum/n/n)
}
