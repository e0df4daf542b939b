package main

import (
	"fmt"
	"math"
	"strings"
)

func (p *paper) delays(m machines, picture string) {
	p.say("## Delay\n\n![The share of round trips whose error is smaller, for each backend](%s)\n", picture)
	p.say("| | backend | delay | trips | mean trip | mean error | median error | sd | p99 of the error's size |\n|---|---|---|---|---|---|---|---|---|")
	for _, r := range m {
		for _, kind := range []string{"icmp", "tcp"} {
			p.baseline(r, kind)
		}
		for _, x := range r.exactly() {
			p.say("| %s | %s | %g ms | %s | %s | %s | %s | %s | %s |", r.title(), x.backend, x.delay, of(x.n, x.sent),
				number("%.3f", x.trip), signed(x.bias), signed(x.middle), number("%.3f", x.spread), number("%.3f", x.p99))
		}
	}
	p.say("\nMilliseconds. Without a fault, the error is the distance from the mean.\n")
}

// baseline is what is subtracted, and how sure it is.
func (p *paper) baseline(r *Results, kind string) {
	var n, sent int
	var trips, middles, spreads, tails []float64
	for _, d := range r.Delays {
		if d.Backend != none || d.Kind != kind || len(d.Trips) == 0 {
			continue
		}
		around := make([]float64, len(d.Trips))
		for i, trip := range d.Trips {
			around[i] = trip - mean(d.Trips)
		}
		n, sent = n+len(d.Trips), sent+d.Sent
		trips, middles = append(trips, mean(d.Trips)), append(middles, median(around))
		spreads, tails = append(spreads, deviation(around)), append(tails, percentile(absolute(around), 99))
	}
	if n > 0 {
		p.say("| %s | none, %s | – | %s | %.3f | – | %s | %.3f | %.3f |", r.title(), strings.ToUpper(kind), of(n, sent),
			median(trips), signed(median(middles)), median(spreads), median(tails))
	}
}

// of says how many of how many, where it isn't all.
func of(n, all int) string {
	if n == all {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d of %d", n, all)
}

// confidence of the interval that a count of lost packets should be in.
const confidence = 0.99

func (p *paper) losses(m machines) {
	p.say("## Loss\n\n| | backend | configured | packets | lost | 99 %% interval | |\n|---|---|---|---|---|---|---|")
	tests, outside := 0, 0
	for _, r := range m {
		for _, l := range ordered(r.Losses, func(l Loss) (string, float64) { return l.Backend, l.Percent }) {
			low, high := binomial(l.Offered-l.Overflow, l.Percent/100, confidence)
			verdict := "inside"
			if l.Backend != none {
				tests++
			}
			if l.Lost < low || l.Lost > high {
				verdict = "**outside**"
				outside++
			}
			p.say("| %s | %s | %g %% | %d | %d | %d – %d | %s |", r.title(), l.Backend, l.Percent, l.Offered-l.Overflow, l.Lost, low, high, verdict)
		}
	}
	p.say("\nThe interval is the binomial distribution's. Of %d counts that are right, %.1f are outside on the average; %d are.\n", tests, float64(tests)*(1-confidence), outside)
}

func (p *paper) jitters(m machines) {
	p.say("## Jitter\n\n| | backend | distribution | packets | mean | sd configured | sd realised | ratio | ratio less the machine's own | overtook |\n|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range m {
		for _, j := range ordered(r.Jitters, func(j Jitter) (string, float64) { return j.Backend, 0 }) {
			if j.Distribution == "" {
				p.say("| %s | %s | none | %s | %.3f | – | %.3f | – | – | %d |", r.title(), j.Backend, of(j.Received, j.Offered), j.Mean, j.SD, j.Overtook)
				continue
			}
			own := r.without(j.Backend)
			p.say("| %s | %s | %s | %s | %.3f | %.3f | %.3f | %.3f ± %.3f | %s | %d |", r.title(), j.Backend, j.Distribution, of(j.Received, j.Offered),
				j.Mean, j.Configured(), j.SD, j.SD/j.Configured(), j.SDError/j.Configured(), number("%.3f", math.Sqrt(j.SD*j.SD-own*own)/j.Configured()), j.Overtook)
		}
	}
	p.say("\nMilliseconds, one way; 20 ms of delay (without a fault: none), 4 ms of jitter. A uniform jitter is told by its half width, the")
	p.say("others by their standard deviation. ± is the standard error. The machine's own is the variance of the same backend's delay")
	p.say("without jitter; goals are judged with it. Packets that came before one sent earlier have overtaken.\n")
}

func (p *paper) rates(m machines) {
	p.say("## Throughput\n")
	for _, r := range m {
		head, rule := "| TCP, Gbit/s, "+r.title()+" |", "|---|"
		for _, delay := range r.rates() {
			head, rule = head+fmt.Sprintf(" %g ms |", delay), rule+"---|"
		}
		p.say("%s\n%s", head, rule)
		for _, name := range []string{none, netem, queue, tc, toxiproxy} {
			p.rate(r, name)
		}
		p.say("")
	}
	p.say("A flow over a real delay is bound by its window. Toxiproxy ends the connection on both sides, so none of its flows")
	p.say("crosses the delay: that is not the same work.\n")
	p.say("| UDP of 1200 bytes | backend | delay | sent, packets/s | received, packets/s | lost | dropped by this program |\n|---|---|---|---|---|---|---|")
	for _, r := range m {
		for _, name := range []string{none, netem, queue, tc} {
			for _, delay := range r.rates() {
				if d, ok := r.datagrams(name, delay); ok {
					p.say("| %s | %s | %g ms | %s | %s | %.3f %% | %.3f %% |", r.title(), name, delay, thousands(d.sent), thousands(d.received), d.lost, d.overflow)
				}
			}
		}
	}
	p.say("")
}

// rate is one backend's row.
func (p *paper) rate(r *Results, name string) {
	row, any := "| "+name+" |", false
	for _, delay := range r.rates() {
		v := r.gbit(name, delay)
		any = any || v == v
		row += " " + number("%.3g", v) + " |"
	}
	if any {
		p.say("%s", row)
	}
}

func (p *paper) filters(m machines) {
	p.say("## Filters\n\n| | backend | packets | delay | ranges | median trip | ranges | median trip | ratio |\n|---|---|---|---|---|---|---|---|---|")
	for _, r := range m {
		if bare := r.bare(); bare == bare {
			p.say("| %s | none | – | – | no filter | %.3f | | | |", r.title(), bare)
		}
		for _, f := range r.passings() {
			name, which := f.backend, "not in it"
			if f.backend == tc {
				name = "tc, HTB and u32"
			}
			if f.match {
				which = "in it, by its last range"
			}
			p.say("| %s | %s | %s | %g ms | %d | %.3f | %s | %.3f | %.2f |", r.title(), name, which, f.delay, f.few, f.fewMS, thousands(float64(f.many)), f.manyMS, f.ratio())
		}
	}
	p.say("\nMilliseconds. A delay is for the packets in the filter alone; 0 ranges are no filter: all packets are delayed.\n")
}

func (p *paper) starts(m machines) {
	p.say("## Until the fault is in force\n\n| | backend | times | first packet delayed, median | p90 | said so, median | after Apply, median | p90 |\n|---|---|---|---|---|---|---|---|")
	for _, r := range m {
		for _, name := range []string{netem, queue} {
			if s := r.started(name); s.n > 0 {
				p.say("| %s | %s | %d | %.1f | %.1f | %.1f | %.2f | %.2f |", r.title(), name, s.n, median(s.seen), percentile(s.seen, 90), median(s.said), median(s.inject), percentile(s.inject, 90))
			}
		}
		if took := r.commands(); len(took) > 0 {
			p.say("| %s | `%s` | %d | | | %.1f | | |", r.title(), r.Commands[0].What, len(took), median(took))
		}
	}
	p.say("\nMilliseconds since the process was started. A packet was sent every 0.25 ms; the first of those that came late to the end was the")
	p.say("first to meet the fault. Of a command it is when it ended: the time it takes to be in force, without a journal, a read-back or a guardian.\n")
}

func (p *paper) missing(m machines) {
	p.say("## What was not measured\n")
	for _, r := range m {
		for _, x := range r.Missing {
			part := ""
			if x.Part != "" {
				part = ", " + x.Part
			}
			p.say("- %s, %s%s: %s", r.title(), x.Backend, part, x.Why)
		}
	}
	p.say("- Toxiproxy: loss, jitter and UDP. It delays what connections carry, and loses no packets; its jitter is uniform, and in order.")
	p.say("")
}
