package main

import (
	"fmt"
	"math"
	"strings"
)

// goals are judged by the worst figure of each. What was not measured has
// none.
func (b *bench) goals() []goal {
	var all []goal
	add := func(of int, g goal) {
		if of > 0 {
			all = append(all, g)
		}
	}
	r := &b.results
	add(len(r.cpu), r.cpuGoal(b.long.Seconds()))
	add(len(r.cpu), r.beyondGoal())
	add(len(r.memory), r.memoryGoal())
	add(len(r.io), r.ioGoal())
	add(len(r.times), r.quickGoal())
	if g, ok := r.fillGoal(); ok {
		all = append(all, g)
	}
	return all
}

func (r *results) cpuGoal(seconds float64) goal {
	worst, ng := 0.0, 0.0
	for _, row := range r.cpu {
		worst = math.Max(worst, math.Abs(row.of(row.simian)-row.load))
		if row.told != nil {
			ng = math.Max(ng, math.Abs(row.of(*row.told)-row.load))
		}
	}
	got := fmt.Sprintf("%.2f points at worst", worst)
	if ng > 0 {
		got += fmt.Sprintf(" (stress-ng, told for the quota: %.2f)", ng)
	}
	return goal{"`burn.cpu`: 10, 50, 90 % of 0.1, 0.5 and 1.5 CPUs, " + fmt.Sprintf("%.0f s", seconds), "within 3 points", got, worst <= 3}
}

func (r *results) beyondGoal() goal {
	var worst float64
	for _, row := range r.cpu {
		worst = math.Max(worst, 100*row.simian.beyond)
	}
	return goal{"the same: what it costs the host beyond", "nothing: less than 1 % of a CPU", fmt.Sprintf("%.2f %% of a CPU at worst", worst), worst < 1}
}

func (r *results) memoryGoal() goal {
	var worst float64
	for _, row := range r.memory {
		worst = math.Max(worst, math.Abs(percent(row.simian, row.asked)))
	}
	return goal{"`burn.memory`: 25, 50, 75 % of 256 MiB", "within 2 %", fmt.Sprintf("%.2f %% at worst", worst), worst <= 2}
}

func (r *results) ioGoal() goal {
	var worst float64
	for _, row := range r.io {
		if row.asked > 0 {
			worst = math.Max(worst, math.Abs(percent(row.got, row.asked)))
		}
	}
	return goal{"`burn.io`: 1, 4, 16 MiB/s, write and read", "within 10 %", fmt.Sprintf("%.2f %% at worst", worst), worst <= 10}
}

// quickGoal counts the faults that are quick both ways.
func (r *results) quickGoal() goal {
	of, within, could := 0, 0, 0
	for _, row := range r.times {
		if row.group != quick || row.why != "" {
			continue
		}
		of++
		if !row.slow(median) {
			within++
		}
		if !row.slow(least) {
			could++
		}
	}
	got := fmt.Sprintf("%d of %d (by their quickest round %d); those that are not stand in bold below", within, of, could)
	return goal{"in force and taken back, all but burn, fill and restart", "medians within 5 ms", got, within == of}
}

// slow tells whether a fault misses its goal, either way.
func (r *timesRow) slow(of func([]float64) float64) bool {
	return r.group == quick && (of(r.force) > quickest || of(r.back) > quickest)
}

// quickest is what a quick fault may take, in ms.
const quickest = 5

func (r *results) fillGoal() (goal, bool) {
	for _, row := range r.times {
		if row.group == bigFill && row.why == "" {
			force := median(row.force)
			return goal{"`" + strings.ReplaceAll(row.name, ",", "` of") + ", in force", "median within 50 ms", fmt.Sprintf("%.1f ms; taken back in %.1f ms", force, median(row.back)), force <= 50}, true
		}
	}
	return goal{}, false
}
