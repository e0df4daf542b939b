package gauge

import (
	"math"
	"slices"
	"time"

	"github.com/simianhq/simian/experiment"
)

// Summarise tells what round trips were like. what says what was measured, as
// Gauge's String does.
func Summarise(target string, phase experiment.Phase, what string, rtts []time.Duration, lost int) *experiment.Measurement {
	m := &experiment.Measurement{Target: target, Phase: phase, What: what, Sent: len(rtts) + lost, Lost: lost}
	if len(rtts) == 0 {
		return m
	}
	sorted := slices.Sorted(slices.Values(rtts))
	m.Min, m.Max = sorted[0].Seconds(), sorted[len(sorted)-1].Seconds()
	m.P50, m.P99 = percentile(sorted, 50).Seconds(), percentile(sorted, 99).Seconds()
	m.Mean, m.SD = spread(sorted)
	return m
}

// percentile returns the least of sorted that p percent of it are not above
// (the nearest rank).
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

// spread returns mean and standard deviation in seconds, that of a sample.
func spread(list []time.Duration) (mean, sd float64) {
	for _, d := range list {
		mean += d.Seconds() / float64(len(list))
	}
	var squares float64
	for _, d := range list {
		squares += (d.Seconds() - mean) * (d.Seconds() - mean)
	}
	return mean, math.Sqrt(squares / float64(max(len(list)-1, 1)))
}
