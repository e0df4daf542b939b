package main

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is what the figures are of.
type machine struct {
	kernel, before, after string // release, load averages
	date                  string
	nice                  string // of its autogroup, sched(7)
	took                  time.Duration
}

func thisMachine() machine {
	m := machine{before: load(), date: time.Now().UTC().Format(time.DateOnly)}
	group, _ := os.ReadFile("/proc/self/autogroup") // none in some kernels
	_, m.nice, _ = strings.Cut(strings.TrimSpace(string(group)), " nice ")
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.kernel = unix.ByteSliceToString(name.Release[:])
	}
	return m
}

func load() string {
	data, _ := os.ReadFile("/proc/loadavg") // "" where there is none
	fields := strings.Fields(string(data))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

// paper is the page as it is written.
type paper struct{ strings.Builder }

func (p *paper) say(format string, args ...any) { fmt.Fprintf(&p.Builder, format+"\n", args...) }

func (b *bench) write() error {
	p := &paper{}
	p.say("# How quick Simian is on what runs already\n")
	p.say("`make bench-adopt` has written this page; what it says of goals follows from the figures below.\n")
	p.say("| | goal | measured | |\n|---|---|---|---|")
	b.killGoal(p)
	b.crashGoals(p)
	b.listGoal(p)
	b.podGoal(p)
	p.say("\n## The machine\n")
	p.say("Linux %s, %d processors, on %s, in %s; load averages %s before and %s after. Docker is one of its own (`test/docker/with.sh`).",
		b.machine.kernel, runtime.NumCPU(), b.machine.date, b.machine.took.Round(time.Second), b.machine.before, b.machine.after)
	if b.machine.nice != "" && b.machine.nice != "0" {
		p.say("All of it, Docker too, gave way to others: the nice value of its autogroup was %s.", b.machine.nice)
	}
	p.say("**A load above the number of processors means that others were working on this machine**: they made all of it later. What\nstands in one table was measured in turn, and is to be compared with each other.\n")
	b.killTable(p)
	b.crashTable(p)
	if len(b.missing) > 0 {
		p.say("## Not measured\n")
		for _, text := range b.missing {
			p.say("- %s", text)
		}
	}
	if b.to == "" {
		fmt.Print(p.String())
		return nil
	}
	return os.WriteFile(b.to, []byte(p.String()), 0o644)
}

// judged is a row of a goal.
func (p *paper) judged(what, goal, measured string, met bool) {
	verdict := "**missed**"
	if met {
		verdict = "met"
	}
	p.say("| %s | %s | %s | %s |", what, goal, measured, verdict)
}

// killGoal is judged only where pumba was there.
func (b *bench) killGoal(p *paper) {
	if len(b.tools) == 0 {
		return
	}
	const what, goal = "`simian inject kill` of a Docker container, until the process is gone", "≤ 1.2 × `pumba kill` until its exit"
	own := median(b.tools[0].gone)
	for _, t := range b.tools {
		if t.name == "pumba kill" {
			ratio := own / median(t.exit)
			p.judged(what, goal, fmt.Sprintf("%.2f ×: %.1f ms", ratio, own), ratio <= 1.2)
			return
		}
	}
	p.say("| %s | %s | %.1f ms; %.2f × `docker kill` until its exit | not judged: no pumba |", what, goal, own, own/median(b.tools[1].exit))
}

func (b *bench) crashGoals(p *paper) {
	for _, c := range b.crashed {
		worst := slices.Max(c.back)
		p.judged("Simian killed by SIGKILL while a container is "+c.name+": all is back", "100 ms",
			fmt.Sprintf("%.1f ms, at worst %.1f ms", median(c.back), worst), worst <= 100)
	}
}

// listGoal is judged only by as many as the goal names.
func (b *bench) listGoal(p *paper) {
	l := b.listed
	if len(l.list) == 0 {
		return
	}
	const goal = "1,000 containers ≤ 1 s"
	for _, row := range []struct {
		what string
		v    []float64
	}{{"`simian targets docker`", l.list}, {"`simian plan` of one drawn from them", l.selected}} {
		text := fmt.Sprintf("%.0f ms, at worst %.0f, of %d that run (peak of `targets` %.0f MiB)", median(row.v), slices.Max(row.v), l.running, l.peak)
		if l.running < 1000 && median(row.v) <= 1000 {
			p.say("| %s | %s | %s | not judged: fewer than 1,000 |", row.what, goal, text)
			continue
		}
		p.judged(row.what, goal, text, median(row.v) <= 1000)
	}
}

var manyPods = regexp.MustCompile(`first list (\S+), then (\S+); (\d+) MB`)

// podGoal is what TestKubeMany has said of 10,000 pods.
func (b *bench) podGoal(p *paper) {
	data, _ := os.ReadFile(b.pods) // none where it was not run
	m := manyPods.FindStringSubmatch(string(data))
	if m == nil {
		b.missing = append(b.missing, "10,000 pods: TestKubeMany was not run, or failed.")
		return
	}
	again, err := time.ParseDuration(m[2])
	p.judged("10,000 pods asked for again (`TestKubeMany`)", "≤ 1 s after the first list, ≤ 100 MB",
		fmt.Sprintf("%s, after a first list of %s; %s MB of heap", m[2], m[1], m[3]), err == nil && again <= time.Second && len(m[3]) <= 2)
}

func (b *bench) killTable(p *paper) {
	if len(b.tools) == 0 {
		return
	}
	p.say("## kill\n")
	p.say("Milliseconds from the start of the command, medians of %d in turn, and the worst; a container without network or restart", b.rounds)
	p.say("policy each. Simian's exit comes late: it starts the container again, and waits until it runs.\n")
	p.say("| | process gone | worst | exit | worst |\n|---|--:|--:|--:|--:|")
	for _, t := range b.tools {
		p.say("| `%s` | %.1f | %.1f | %.1f | %.1f |", t.name, median(t.gone), slices.Max(t.gone), median(t.exit), slices.Max(t.exit))
	}
	p.say("")
}

func (b *bench) crashTable(p *paper) {
	if len(b.crashed) == 0 {
		return
	}
	p.say("## SIGKILL\n")
	p.say("Milliseconds from SIGKILL until everything that Simian can observe of the container (cgroups, network, mounts, processes) reads")
	p.say("as before the fault, of %d each. A look takes as long as the last column says, and none is quicker than that.\n", b.rounds)
	p.say("| | median | quickest | worst | one look |\n|---|--:|--:|--:|--:|")
	for _, c := range b.crashed {
		p.say("| %s | %.1f | %.1f | %.1f | %.1f |", c.name, median(c.back), slices.Min(c.back), slices.Max(c.back), c.look)
	}
	p.say("")
}
