package probe

import "time"

// measures are what a check can measure of the requests due in a window, of
// which there is at least one.
var measures = map[string]func(of []outcome, window time.Duration) float64{
	"success": func(of []outcome, _ time.Duration) float64 { return float64(answered(of)) / float64(len(of)) },
	"rate":    func(of []outcome, window time.Duration) float64 { return float64(answered(of)) / window.Seconds() },
	"mean":    func(of []outcome, _ time.Duration) float64 { return mean(of) },
	"p50":     func(of []outcome, _ time.Duration) float64 { return percentile(of, 50) },
	"p95":     func(of []outcome, _ time.Duration) float64 { return percentile(of, 95) },
	"p99":     func(of []outcome, _ time.Duration) float64 { return percentile(of, 99) },
	"max":     func(of []outcome, _ time.Duration) float64 { return percentile(of, 100) },
}

func answered(of []outcome) (n int) {
	for _, o := range of {
		if !o.failed() {
			n++
		}
	}
	return n
}

func mean(of []outcome) float64 {
	var sum float64
	for _, o := range of {
		sum += o.seconds()
	}
	return sum / float64(len(of))
}

// percentile is the nearest-rank one: the smallest latency, in seconds, that at
// least p percent of the requests did not exceed.
func percentile(of []outcome, p int) float64 {
	latencies := make([]outcome, len(of))
	for i, o := range of {
		latencies[i] = max(o, -o)
	}
	return nth(latencies, (len(of)*p+99)/100-1).seconds()
}

// nth returns the element that would stand at n if list were sorted. It moves
// elements about, in time linear on average (Hoare's Find, CACM 4(7), 1961).
func nth(list []outcome, n int) outcome {
	for lo, hi := 0, len(list)-1; lo < hi; {
		pivot, i, j := list[lo+(hi-lo)/2], lo, hi
		for i <= j {
			for list[i] < pivot {
				i++
			}
			for list[j] > pivot {
				j--
			}
			if i <= j {
				list[i], list[j] = list[j], list[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			hi = j
		case n >= i:
			lo = i
		default:
			return list[n]
		}
	}
	return list[n]
}
