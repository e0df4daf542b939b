package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// writePage writes the page and its plot.
func writePage(files []string, to string) error {
	var all machines
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		r := &Results{}
		if err := json.Unmarshal(body, r); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		all = append(all, r)
	}
	picture := strings.TrimSuffix(to, filepath.Ext(to)) + ".svg"
	if err := os.WriteFile(to, []byte(all.page(filepath.Base(picture))), 0o644); err != nil {
		return err
	}
	return all.plot(picture)
}

// page is written in the order in which it is read: what was to be reached,
// then all figures.
func (m machines) page(picture string) string {
	p := &paper{}
	p.say("# How exact the network's faults are\n")
	p.say("`make bench-latency` has written this page; what it says of goals follows from the figures below.\n")
	p.goals(m.goals())
	p.machines(m)
	p.say("%s", method)
	p.delays(m, picture)
	p.losses(m)
	p.jitters(m)
	p.rates(m)
	p.filters(m)
	p.starts(m)
	p.missing(m)
	return strings.TrimRight(p.String(), "\n") + "\n"
}

// paper is the page as it grows.
type paper struct{ strings.Builder }

func (p *paper) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *paper) goals(goals []*goal) {
	p.say("## Goals\n")
	p.say("| | goal | known | measured | |\n|---|---|---|---|---|")
	missed := 0
	for _, g := range goals {
		p.WriteString(g.row())
		if g.met == nil || !*g.met {
			missed++
		}
	}
	if missed == 0 {
		p.say("\nAll %d are reached.\n", len(goals))
		return
	}
	p.say("\n%d of %d are reached. A goal that is about several figures is reached only where each of them is. Of several", len(goals)-missed, len(goals))
	p.say("delays the one counts that is farthest off; where a backend was measured on a real processor, its error there.\n")
}

func (p *paper) machines(m machines) {
	p.say("## Machines\n")
	p.say("| | kernel | processors | clock | load before, after | measured |\n|---|---|---|---|---|---|")
	for _, r := range m {
		h := r.Machine
		p.say("| %s | Linux %s | %d × %s | %s | %s, %s | %s, in %.0f min |", r.title(), h.Kernel, h.Processors, h.Processor, h.Clock, h.LoadBefore, h.LoadAfter, r.Date, math.Ceil(r.Seconds/60))
	}
	p.say("")
	for _, r := range m {
		if r.Machine.Emulated {
			p.say("The processors of the %s are emulated by software: all that computes takes ten times as long and more,", r.title())
			p.say("and a timer is late by as much. Its figures are to be compared with each other, not with those of a real one.")
		}
	}
	for _, r := range m {
		if r.busy() {
			p.say("**The %s was busy with other work** when measuring began: its figures are worse than it.", r.title())
		}
	}
	for _, r := range m {
		h := r.Machine
		p.say("TCP on the %s: %s, `tcp_wmem` %s, `tcp_rmem` %s.", r.title(), h.Congestion, h.SendMax, h.ReceiveMax)
	}
	p.say("")
}

// title is what the page calls the machine.
func (r *Results) title() string {
	if r.Machine.Emulated {
		return "VM"
	}
	return "host"
}

// busy tells whether half a processor or more was taken in the minute before.
func (r *Results) busy() bool {
	var load float64
	_, err := fmt.Sscan(r.Machine.LoadBefore, &load)
	return err == nil && load > 0.5
}

// signed writes milliseconds with a sign, in the typography of the page.
func signed(ms float64) string {
	return strings.ReplaceAll(fmt.Sprintf("%+.3f", ms), "-", "−")
}

// thousands writes 200000 as 200,000.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// number writes a figure, or a dash where there is none.
func number(format string, v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

const method = `## How it was measured

Two network namespaces of their own are joined by a veth pair, and nothing else uses them. The fault is put in force in
the one, on all that leaves it, by ` + "`simian run`" + ` with an experiment of one action, or by ` + "`tc`" + `, or by Toxiproxy before it.
All are measured in the same run, in random order, in several rounds; each figure is the median of the rounds'.

- **Round trips** are ICMP echo requests, whose answers the kernel gives and stamps, so that it does not matter when a
  process wakes up. Only one way is delayed. They are 10 ms apart on the average, at random, and don't wait for each
  other. For Toxiproxy they are messages over one TCP connection, which a process sends back. An error is the round trip
  less the configured delay, less the mean round trip without a fault (of the same kind, in the same round).
- **Loss, jitter and UDP throughput** are one-way: numbered UDP packets at a fixed pace, stamped by the sender with the
  clock that the receiver's kernel stamps them with when they arrive. It is one machine, so it is one clock. What this
  program's own socket has dropped is counted apart.
- **Throughput of TCP** is what a receiver reads of one flow, after a time to get going that is not counted.
- **No delay** is one of 1 µs for all but Toxiproxy: the work without the wait.

The method is that of Becker, Pfandzelter, Rausch, Cito, Bermbach and Dustdar: *Network Emulation in Large-Scale Virtual
Edge Testbeds* (IC2E 2022, [arXiv 2208.05862](https://arxiv.org/abs/2208.05862)). What is known of others is from there, from Jurgelionis et al.: *An
Empirical Study of NetEm Network Emulation Functionalities* (ICCCN 2011), and from prototypes.
`
