package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// paper is the page as it grows.
type paper struct{ strings.Builder }

func (p *paper) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// page is written in the order in which it is read: what was to be reached,
// then all figures.
func (b *bench) page() string {
	p := &paper{}
	p.say("# How exact the faults of the Chaos Monkey are, and how quick\n")
	p.say("`make bench-chaos` has written this page; what it says of goals follows from the figures below.\n")
	p.goals(b.goals())
	p.machine(b.results.machine)
	p.cpu(b.results.cpu)
	p.memory(b.results.memory)
	p.io(b.results.io)
	p.times(b.results.times)
	p.missing(b.results.missing)
	return strings.TrimRight(p.String(), "\n") + "\n"
}

// goal is what was to be reached, and what was.
type goal struct {
	what, want, got string
	met             bool
}

func (p *paper) goals(goals []goal) {
	p.say("| | goal | measured | |\n|---|---|---|---|")
	for _, g := range goals {
		met := "met"
		if !g.met {
			met = "**missed**"
		}
		p.say("| %s | %s | %s | %s |", g.what, g.want, g.got, met)
	}
	p.say("")
}

func (p *paper) machine(m machine) {
	p.say("## The machine\n")
	p.say("Linux %s, %d × %s, on %s, in %.0f min; load averages %s before and %s after.", m.kernel, m.processors, m.processor, m.date, math.Ceil(m.took.Minutes()), m.before, m.after)
	if m.stress != "" {
		p.say("Beside it: %s, in a cgroup with the same limits, one after the other in the same run.", m.stress)
	}
	if m.busy() {
		p.say("**Others were working on this machine when measuring began**: they took processor time from all that is measured\nhere, and made all of it later.")
	}
	p.say("All of it ran with a nice value of %d; the cgroups of burn.cpu's targets and of stress-ng beside it have the most weight there is", m.nice)
	p.say("(`cpu.shares`, `cpu.weight`), so that they get their quota beside others.")
	p.say("What stands in one table was measured in turn, and is to be compared with each other.\n")
	p.say("The targets are containers of a lab. The faults are planned from a section as a file has it, and applied by their own")
	p.say("ops in the process that measures; its journal is not in the figures.\n")
}

func (p *paper) cpu(rows []cpuRow) {
	if len(rows) == 0 {
		return
	}
	p.say("## burn.cpu\n")
	p.say("The kernel's clock of the processes that burn (`clock_getcpuclockid(3)`), as percent of the target's quota. `beyond` is the")
	p.say("processor time of Simian itself meanwhile, as percent of one CPU: all of this process, with the measuring in it.\n")
	p.say("| quota, CPUs | load asked | burn.cpu | off by, points | beyond, %% | stress-ng, the same load | off by | stress-ng, told for this quota | off by |")
	p.say("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, r := range rows {
		got := r.of(r.simian)
		p.say("| %v | %v %% | %.2f %% | %s | %.2f | %s | %s |", r.quota, r.load, got, signed(got-r.load), 100*r.simian.beyond, r.beside(r.said), r.beside(r.told))
	}
	p.say("\nstress-ng's `--cpu-load` is of a whole CPU for each worker, and knows of no quota: asked for the same, it burns more of it")
	p.say("than was meant, or all. Told for this quota, its load is reckoned for it, in whole percent, as it takes them.\n")
}

func (r cpuRow) beside(l *look) string {
	if l == nil {
		return "– | –"
	}
	return fmt.Sprintf("%.2f %% | %s", r.of(*l), signed(r.of(*l)-r.load))
}

func (p *paper) memory(rows []memoryRow) {
	if len(rows) == 0 {
		return
	}
	p.say("## burn.memory\n")
	p.say("What the cgroup counts more than before, files that can be dropped at once left out; of a limit of %d MiB. The CPUs are", memoryLimit)
	p.say("what it takes to hold it, as percent of one. The helper has a cgroup of its own below the target's: it counts the helper's\nprogram too.\n")
	p.say("| asked | MiB | burn.memory | off by | helper's cgroup | CPU | stress-ng `--vm 1 --vm-keep` | off by | CPU |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, r := range rows {
		beside := "– | – | –"
		if r.stress != nil {
			beside = fmt.Sprintf("%.2f | %s %% | %.1f %%", *r.stress, signed(percent(*r.stress, r.asked)), 100*r.stressCPUs)
		}
		p.say("| %v %% | %v | %.2f | %s %% | %.2f | %.1f %% | %s |", r.percent, r.asked, r.simian, signed(percent(r.simian, r.asked)), r.helper, 100*r.simianCPUs, beside)
	}
	p.say("")
}

func (p *paper) io(rows []ioRow) {
	if len(rows) == 0 {
		return
	}
	p.say("## burn.io\n")
	p.say("Bytes that went to and came from the disk, as the kernel counts them of the process (`/proc/PID/io`), in blocks of 64 KiB")
	p.say("from beginning to end. stress-ng's `--hdd` has no rate: what it does, unthrottled, with O_DIRECT and the same blocks, is")
	p.say("here only to show what the disk can do.\n")
	p.say("| | asked, MiB/s | got, MiB/s | off by | CPU |\n|---|--:|--:|--:|--:|")
	for _, r := range rows {
		if r.asked == 0 {
			p.say("| stress-ng, %s | – | %.2f | – | %.1f %% |", r.do, r.got, 100*r.cpus)
			continue
		}
		p.say("| burn.io, %s | %v | %.3f | %s %% | %.1f %% |", r.do, r.asked, r.got, signed(percent(r.got, r.asked)), 100*r.cpus)
	}
	p.say("")
}

func (p *paper) times(rows []*timesRow) {
	if len(rows) == 0 {
		return
	}
	p.say("## In force, and taken back\n")
	p.say("Milliseconds: medians, and the quickest and the slowest round. In force is from the beginning of `Plan` until `Verify` says so of each step; taken")
	p.say("back is from the beginning of the undo until `Verify` says so of that.\n")
	p.say("| | times | plan alone | in force | quickest | slowest | taken back | quickest | slowest |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, r := range rows {
		if r.why != "" {
			p.say("| %s | – | | not measured, see below | | | | | |", r.name)
			continue
		}
		back := "for good | | "
		if !r.irreversible {
			back = r.cells(r.back)
		}
		p.say("| %s%s | %d | %.2f | %s | %s |", r.name, r.group.mark(), len(r.force), median(r.plan), r.cells(r.force), back)
	}
	p.say("\n¹ a helper starts, or a disk is written to: not in the goal of 5 ms. ² the goal is 50 ms. ³ the container is started again,")
	p.say("by its keeper. burn's helper is in force once it works: its memory is not all held then, nor its file written. A helper")
	p.say("starts in a cgroup of its own with the weight that others have, so where others work it waits for its turn.\n")
}

// cells are the median, in bold where it misses its goal, the least and the most.
func (r *timesRow) cells(v []float64) string {
	text := fmt.Sprintf("%.2f", median(v))
	if r.group == quick && median(v) > quickest {
		text = "**" + text + "**"
	}
	return fmt.Sprintf("%s | %.2f | %.1f", text, least(v), highest(v))
}

// mark points to a note below the table.
func (g group) mark() string { return []string{"", " ¹", " ²", " ³"}[g] }

func (p *paper) missing(list []string) {
	if len(list) == 0 {
		return
	}
	p.say("## Not measured\n")
	for _, text := range list {
		p.say("- %s", text)
	}
}

// percent is how far a figure is off.
func percent(got, want float64) float64 { return 100 * (got - want) / want }

// least and highest are NaN of nothing.
func least(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return slices.Min(v)
}

func highest(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return slices.Max(v)
}

// signed writes a figure with its sign, in the typography of the page.
func signed(v float64) string { return strings.ReplaceAll(fmt.Sprintf("%+.2f", v), "-", "−") }
