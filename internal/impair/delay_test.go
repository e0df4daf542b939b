package impair

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

var shapes = []Distribution{Uniform, Normal, Pareto, ParetoNormal}

// ratio is the standard deviation of a distribution in units of Jitter.
func ratio(d Distribution) float64 {
	if d == Uniform {
		return 1 / math.Sqrt(3)
	}
	return 1
}

func TestDelayAlone(t *testing.T) {
	t.Parallel()
	for i, f := range fates(Config{Delay: 20 * time.Millisecond}, 100) {
		want := Fate{Due: int64(i)*1e6 + 20e6}
		if f != want {
			t.Fatalf("packet %d: %+v, want %+v", i, f, want)
		}
	}
}

func TestNothing(t *testing.T) {
	t.Parallel()
	for i, f := range fates(Config{}, 10) {
		if want := (Fate{Due: int64(i) * 1e6}); f != want {
			t.Fatalf("packet %d: %+v, want %+v", i, f, want)
		}
	}
}

// TestJitter holds what is drawn against what was asked for: mean and standard
// deviation, also where one delay goes with the next.
func TestJitter(t *testing.T) {
	t.Parallel()
	const n = 150_000
	for _, shape := range shapes {
		for _, percent := range []float64{0, 25, 50, 90} {
			t.Run(fmt.Sprintf("%s/%v", shape, percent), func(t *testing.T) {
				t.Parallel()
				mean, sd, next := moments(delays(Config{
					Delay: 100 * time.Millisecond, Jitter: 10 * time.Millisecond,
					Distribution: shape, Correlation: percent,
				}, n))
				r := percent / 100
				want := ratio(shape) * 10e-3
				within(t, "mean", mean, 100e-3, normal999*want*math.Sqrt((1+r)/(1-r)/n))
				within(t, "sd over what was asked", sd/want, 1, 0.02)
				within(t, "correlation", next, r, 0.012)
			})
		}
	}
}

// TestPercentiles holds drawn delays against the quantile functions of the
// distributions themselves, where no tail is cut.
func TestPercentiles(t *testing.T) {
	t.Parallel()
	exact := map[Distribution]func(float64) float64{
		Uniform: func(u float64) float64 { return 2*u - 1 },
		Normal:  normal,
	}
	for shape, quantile := range exact {
		for _, r := range []float64{0, 60} {
			list := delays(Config{Delay: time.Second, Jitter: 100 * time.Millisecond, Distribution: shape, Correlation: r}, 200_000)
			slices.Sort(list)
			for _, u := range []float64{0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99} {
				got := list[int(u*float64(len(list)))]
				within(t, fmt.Sprintf("%s, %v %% correlated, percentile %v", shape, r, u*100), got, 1+0.1*quantile(u), 0.0025)
			}
		}
	}
}

// TestParetoLeansRight: its median is below its mean, and it has a long tail on
// one side only.
func TestParetoLeansRight(t *testing.T) {
	t.Parallel()
	for _, shape := range []Distribution{Pareto, ParetoNormal} {
		s := newShape(shape)
		if s.at(0.5) > -0.1 || s.at(0.9999) < 3.9 {
			t.Errorf("%s: median %v, far end %v", shape, s.at(0.5), s.at(0.9999))
		}
	}
	if least := newShape(Pareto).at(0); least < -1 {
		t.Errorf("pareto begins at %v", least)
	}
}

func TestDelayIsNeverNegative(t *testing.T) {
	t.Parallel()
	cfg := Config{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond, Distribution: Normal}
	list := delays(cfg, 200_000)
	if least := slices.Min(list); least != 0 {
		t.Errorf("the least delay is %v", least)
	}
	mean, sd, _ := moments(list)
	want := cfg.Spread()
	within(t, "mean", mean, want.Mean.Seconds(), 0.0001)
	within(t, "sd", sd, want.SD.Seconds(), 0.0001)
	within(t, "mean as computed", want.Mean.Seconds(), 10.833e-3, 1e-5) // 1 + φ(1) - Φ(-1)
	within(t, "share cut", want.Cut, 0.15866, 2e-4)
}

func TestSpreadOfNoJitter(t *testing.T) {
	t.Parallel()
	if got, want := (Config{Delay: 5}).Spread(), (Spread{Mean: 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestTable reads a table as the kernel does (tabledist in net/sched/sch_netem.c): each
// entry as likely as any other.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		table := Table(shape)
		if shape == Uniform {
			if table != nil {
				t.Errorf("%s has a table", shape)
			}
			continue
		}
		if len(table) > 16384 || !slices.IsSorted(table) {
			t.Errorf("%s: %d entries, sorted: %t", shape, len(table), slices.IsSorted(table))
		}
		values := make([]float64, len(table))
		for i, v := range table {
			values[i] = float64(v) / 8192
		}
		mean, sd := pointMoments(values)
		within(t, string(shape)+": mean", mean, 0, 1e-4)
		within(t, string(shape)+": sd", sd, 1, 1e-4)
		s := newShape(shape)
		for i, v := range values { // both backends draw from the same distribution
			within(t, fmt.Sprintf("%s: entry %d", shape, i), v, s.at((float64(i)+0.5)/float64(len(values))), 0.01)
		}
	}
}

func TestShapeHasExactMoments(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes[1:] {
		mean, sd := lineMoments(newShape(shape).knots)
		within(t, string(shape)+": mean", mean, 0, 1e-6)
		within(t, string(shape)+": sd", sd, 1, 1e-6)
	}
}
