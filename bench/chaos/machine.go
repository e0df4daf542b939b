package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the figures are of.
type machine struct {
	kernel, processor string
	processors        int
	stress            string // the version of stress-ng
	before, after     string // load averages over 1, 5 and 15 minutes
	nice              int
	date              string
	took              time.Duration
}

func thisMachine() machine {
	m := machine{processors: runtime.NumCPU(), before: load(), nice: niceness(), date: time.Now().UTC().Format(time.DateOnly)}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.kernel = unix.ByteSliceToString(name.Release[:])
	}
	data, _ := os.ReadFile("/proc/cpuinfo")
	for text := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(text, ":"); strings.TrimSpace(name) == "model name" {
			m.processor = strings.TrimSpace(value)
		}
	}
	return m
}

func (m *machine) finish(start time.Time) { m.after, m.took = load(), time.Since(start) }

// busy tells whether half a processor or more was taken in the minute before.
func (m *machine) busy() bool {
	var load float64
	_, err := fmt.Sscan(m.before, &load)
	return err == nil && load > 0.5
}

func load() string {
	data, _ := os.ReadFile("/proc/loadavg") // "" where there is none
	fields := strings.Fields(string(data))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// median is the middle one, or the mean of the two in the middle; NaN of nothing.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
