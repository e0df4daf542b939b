package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// print writes the report.
func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var b strings.Builder
	r.Host.print(&b)
	if len(r.Launches) > 0 {
		r.printLaunches(&b)
	}
	b.WriteString("| `make bench-launch` | goal | measured |\n|---|---|---|\n")
	for _, g := range r.Goals {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", g.What, g.Goal, g.verdict())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// verdict is what was measured, in bold where the goal is missed.
func (g Goal) verdict() string {
	switch {
	case g.Met == nil:
		return "not measured: " + g.Measured
	case !*g.Met:
		return "**missed: " + g.Measured + "**"
	}
	return g.Measured
}

func (h Host) print(b *strings.Builder) {
	fmt.Fprintf(b, "%d processors, Linux %s; load %s before, %s after; workload in %s\n", h.Processors, h.Kernel, h.LoadBefore, h.LoadAfter, h.Workload)
	for _, name := range slices.Sorted(maps.Keys(h.Tools)) {
		fmt.Fprintf(b, "%s: %s\n", name, h.Tools[name])
	}
	b.WriteByte('\n')
}

// printLaunches writes the table of all contenders, medians in milliseconds.
func (r *report) printLaunches(b *strings.Builder) {
	b.WriteString("| medians, ms; launched at once: | 1: first instruction | 1: reaped | 10: up | 10: down | 100: up | 100: down | what a container gets |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, l := range r.Launches {
		fmt.Fprintf(b, "| %s |", l.Name)
		if l.Missing != "" {
			fmt.Fprintf(b, " not there | | | | | | %s |\n", l.Missing)
			continue
		}
		for _, size := range sizes {
			m := l.At[size.n]
			if m == nil {
				b.WriteString(" | |")
				continue
			}
			fmt.Fprintf(b, " %s | %s |", strings.TrimSuffix(ms(m.Up.median()), " ms"), strings.TrimSuffix(ms(m.Down.median()), " ms"))
		}
		fmt.Fprintf(b, " %s |\n", l.Gives)
	}
	b.WriteString("\nOf a lab, up and down are the two commands, whole. Several are up at the first instruction of the last one,\n")
	b.WriteString("and down from the word to end until nothing of them is left.\n\n")
}
