package main

import (
	"fmt"
	"strings"
	"time"
)

// Names of contenders that goals are about.
const (
	ours     = "Simian's launcher"
	ourLab   = "simian lab up, lab down --now"
	theCrun  = "crun run"
	bareCrun = "crun run, no seccomp"
	theRunc  = "runc run"
)

// The goals.
const (
	upGoal     = time.Second            // of 100 containers
	downGoal   = 500 * time.Millisecond // of 100 containers
	shopGoal   = time.Second            // besides its services' own start
	goneGoal   = 100 * time.Millisecond
	memoryGoal = 3 << 20 // bytes per container
)

// judgeLaunches holds what was measured against the goals.
func (r *report) judgeLaunches() {
	r.against(theCrun, 1)
	r.against(bareCrun, 1)
	r.against(theRunc, 3)
	for _, name := range []string{ours, ourLab} {
		many := r.of(name, most)
		up, down := many.Up.median(), many.Down.median()
		r.judge(fmt.Sprintf("%s: %d up", name, most), ms(upGoal), ms(up)+span(many.Up), up <= upGoal)
		r.judge(fmt.Sprintf("%s: %d down", name, most), ms(downGoal), ms(down)+span(many.Down), down <= downGoal)
	}
}

// against compares one launch with that of another: its share-th part is the
// goal.
func (r *report) against(name string, share int) {
	goal := "at most that of " + name
	if share > 1 {
		goal = fmt.Sprintf("at most 1/%d of %s's", share, name)
	}
	mine, its := r.of(ours, 1), r.of(name, 1)
	for _, part := range []struct {
		what string
		of   func(*Many) times
	}{
		{"one launched, to its first instruction", func(m *Many) times { return m.Up }},
		{"one launched, to reaped", func(m *Many) times { return m.Down }},
	} {
		if its == nil {
			r.unknown(part.what, goal, name+" is not there")
			continue
		}
		a, b := part.of(mine).median(), part.of(its).median()
		r.judge(part.what, goal, fmt.Sprintf("%s to %s: %.2f of it", ms(a), ms(b), float64(a)/float64(b)), a*time.Duration(share) <= b)
	}
}

// span tells between what the measurements were.
func span(t times) string {
	return fmt.Sprintf(" (%s to %s, %d rounds)", ms(t.at(0)), ms(t.worst()), len(t))
}

// judgeMemory holds the memory of two labs, of one container and of most,
// against the goal.
func (r *report) judgeMemory(one, many map[string]int64, init bool) {
	what := "Simian's memory per running container (PSS)"
	if init {
		what += ", with init: true"
	}
	var parts []string
	var sum int64
	for _, name := range []string{"simian", "simian-container", "simian-guardian"} {
		sum += many[name] - one[name]
		parts = append(parts, fmt.Sprintf("%s %s with 1, %s with %d", names[name], megabytes(one[name]), megabytes(many[name]), most))
	}
	per := sum / (most - 1)
	r.judge(what, megabytes(memoryGoal), fmt.Sprintf("%.2f MB (%s)", float64(per)/(1<<20), strings.Join(parts, "; ")), per <= memoryGoal)
}

// names are what Simian's processes are, by what they call themselves.
var names = map[string]string{
	"simian": "supervisor", "simian-container": "fork server and reapers", "simian-guardian": "guardian",
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

func (r *report) judgeShop(lab, direct times) {
	besides := lab.median() - direct.median()
	r.judge("the shop's seven containers up and healthy, besides their own start", ms(shopGoal),
		fmt.Sprintf("%s: lab up %s, its services started directly %s, medians of %d", ms(besides), ms(lab.median()), ms(direct.median()), len(lab)), besides <= shopGoal)
}

func (r *report) judgeKills(gone, clean times) {
	r.judge("SIGKILL of the supervisor → all that ran in a lab of seven is gone", ms(goneGoal),
		fmt.Sprintf("median %s, worst of %d %s; cgroups and files taken back after %s, worst %s",
			ms(gone.median()), len(gone), ms(gone.worst()), ms(clean.median()), ms(clean.worst())), gone.worst() <= goneGoal)
}
