package main

import (
	"fmt"
	"math"
	"strings"
)

// goal is one line of the table of what was to be reached.
type goal struct {
	what, want, known string
	measured          []string // on each machine, or of each backend
	met               *bool    // nil: not measured
}

// note adds a figure that the goal is about. One that misses it is enough for
// the goal to be missed.
func (g *goal) note(met bool, format string, args ...any) {
	g.measured = append(g.measured, fmt.Sprintf(format, args...))
	all := met && (g.met == nil || *g.met)
	g.met = &all
}

// beside adds a figure to compare with.
func (g *goal) beside(format string, args ...any) {
	g.measured = append(g.measured, fmt.Sprintf(format, args...))
}

func (g *goal) verdict() string {
	switch {
	case g.met == nil:
		return "not measured"
	case *g.met:
		return "reached"
	}
	return "**not reached**"
}

func (g *goal) row() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", g.what, g.want, g.known, strings.Join(g.measured, "; "), g.verdict())
}

// machines are the results of all machines, real ones before emulated ones.
type machines []*Results

// goals are those that the project has set itself.
func (m machines) goals() []*goal {
	return []*goal{
		m.biasGoal(netem, 0.06, 0, "netem's own −0.058 ms, eBPF −0.004 (Becker)"), m.biasGoal(queue, 0.08, 0.5, "prototypes: NFQUEUE 0.26, TAP 0.08 ms"),
		m.jitterGoal(), m.tcpGoal(), m.tcpHostGoal(), m.udpGoal(), m.startGoal(), m.injectGoal(), m.filterGoal(),
	}
}

// biasGoal is of the delay that is farthest off, on a real processor where it
// was measured on one.
func (m machines) biasGoal(backend string, bias, p99 float64, known string) *goal {
	g := &goal{what: "mean error of delay, " + strings.TrimPrefix(backend, "simian "), want: fmt.Sprintf("≤ %.2f ms", bias), known: known}
	if p99 > 0 {
		g.want += fmt.Sprintf(", p99 ≤ %g ms", p99)
	}
	for _, r := range m {
		all := r.exactly()
		x, ok := worst(all, backend, func(e exactness) float64 { return e.bias })
		if !ok {
			continue
		}
		tail, _ := worst(all, backend, func(e exactness) float64 { return e.p99 })
		said := fmt.Sprintf("%s: %s ms at %g ms", r.title(), signed(x.bias), x.delay)
		if p99 > 0 {
			said += fmt.Sprintf(", p99 %.3f ms at %g ms", tail.p99, tail.delay)
		}
		if peer, ok := worst(all, tc, func(e exactness) float64 { return e.bias }); ok {
			said += fmt.Sprintf(" (tc's netem: %s ms at %g ms)", signed(peer.bias), peer.delay)
		}
		if r.Machine.Emulated && g.met != nil { // measured on a real one
			g.beside("%s", said)
			continue
		}
		g.note(math.Abs(x.bias) <= bias && (p99 == 0 || tail.p99 <= p99), "%s", said)
	}
	return g
}

func (m machines) jitterGoal() *goal {
	g := &goal{what: "jitter, realised / configured sd", want: "0.95 – 1.05", known: "netem's is lower than configured (Jurgelionis 2011)"}
	for _, r := range m {
		for _, name := range []string{netem, queue} {
			low, high := math.Inf(1), math.Inf(-1)
			for _, j := range r.Jitters {
				if j.Backend == name && j.Distribution != "" {
					low, high = min(low, j.SD/j.Configured()), max(high, j.SD/j.Configured())
				}
			}
			if low <= high {
				g.note(low >= 0.95 && high <= 1.05, "%s, %s: %.3f – %.3f", r.title(), name, low, high)
			}
		}
	}
	return g
}

func (m machines) tcpGoal() *goal {
	g := &goal{what: "one TCP flow at 10 ms, queue", want: "≥ 0.9 × netem's in the same run", known: "–"}
	for _, r := range m {
		if ratio := r.gbit(queue, 10) / r.gbit(netem, 10); !math.IsNaN(ratio) {
			g.note(ratio >= 0.9, "%s: %.2f × (%.3g of %.3g Gbit/s)", r.title(), ratio, r.gbit(queue, 10), r.gbit(netem, 10))
		}
	}
	return g
}

func (m machines) tcpHostGoal() *goal {
	g := &goal{what: "the same on a real processor", want: "≥ 2.7 Gbit/s", known: "prototypes: 0.0045 to 2.7 Gbit/s, by where the packet is caught"}
	for _, r := range m.real() {
		if rate := r.gbit(queue, 10); !math.IsNaN(rate) {
			g.note(rate >= 2.7, "%s: %.2f Gbit/s", r.title(), rate)
		}
	}
	return g
}

func (m machines) udpGoal() *goal {
	g := &goal{what: "UDP of 1200 bytes at 10 ms, queue", want: "≥ 200,000 packets/s, ≤ 0.1 % lost, on 2 cores", known: "104,000 (NFQUEUE), 158,000 of 206,000 (TAP)"}
	for _, r := range m.real() {
		if d, ok := r.datagrams(queue, 10); ok {
			// A packet in a thousand may be lost, so as many may be missing.
			met := d.sent >= 199_900 && d.lost <= 0.1
			g.note(met, "%s: %s of %s packets/s, %.2f %% lost", r.title(), thousands(d.received), thousands(d.sent), d.lost)
			if bare, ok := r.datagrams(none, 0); ok {
				g.beside("without a fault: %s", thousands(bare.sent))
			}
		}
	}
	return g
}

func (m machines) startGoal() *goal {
	g := &goal{what: "`simian` started to fault in force, the guardian included", want: "≤ 40 ms", known: "–"}
	for _, r := range m.real() {
		for _, name := range []string{netem, queue} {
			if s := r.started(name); s.n > 0 {
				g.note(median(s.seen) <= 40, "%s, %s: %.1f ms", r.title(), name, median(s.seen))
			}
		}
	}
	return g
}

func (m machines) injectGoal() *goal {
	g := &goal{what: "fault in force after Apply", want: "≤ 2 ms", known: "`nsenter` + `tc`: 3.2 ms"}
	for _, r := range m.real() {
		for _, name := range []string{netem, queue} {
			if s := r.started(name); s.n > 0 {
				g.note(median(s.inject) <= 2, "%s, %s: %.2f ms", r.title(), name, median(s.inject))
			}
		}
		if took := r.commands(); len(took) > 0 {
			g.beside("`nsenter` + `tc`: %.1f ms", median(took))
		}
	}
	return g
}

func (m machines) filterGoal() *goal {
	g := &goal{what: "10,000 CIDRs in a filter", want: "round trip ≤ 1.1 × one without", known: "u32: 0.40 → 1.81 ms; sets stay flat"}
	for _, r := range m {
		for _, name := range []string{netem, queue, tc} {
			top := math.NaN()
			for _, match := range []bool{true, false} {
				if p, ok := r.passing(name, match); ok && !(p.ratio() <= top) {
					top = p.ratio()
				}
			}
			switch {
			case math.IsNaN(top):
			case name == tc:
				g.beside("%s, u32: %.2f ×", r.title(), top)
			default:
				g.note(top <= 1.1, "%s, %s: %.2f ×", r.title(), name, top)
			}
		}
	}
	return g
}

// real are the machines that no software emulates.
func (m machines) real() machines {
	var real machines
	for _, r := range m {
		if !r.Machine.Emulated {
			real = append(real, r)
		}
	}
	return real
}

func (r *Results) commands() []float64 {
	var v []float64
	for _, c := range r.Commands {
		v = append(v, c.Took)
	}
	return v
}
