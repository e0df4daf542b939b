package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// printNets writes the table of the runs that break networks.
func (t *tally) printNets(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\nblow\truns\tleaks\tkernel\tmedian ms\tp99\tmax\tguardian\tmedian ms\tp99\tmax\t  exit and verdict")
	all := row{exits: map[string]int{}, flows: map[string][]time.Duration{}}
	nets := 0
	for _, name := range t.order {
		r := t.rows[name]
		if !r.net {
			continue
		}
		nets++
		r.printNet(tw, name)
		all.runs, all.leaks = all.runs+r.runs, all.leaks+r.leaks
		for by, list := range r.flows {
			all.flows[by] = append(all.flows[by], list...)
		}
	}
	if nets == 0 {
		return nil
	}
	all.printNet(tw, "all")
	fmt.Fprint(tw, `
kernel: of runs whose faults were nft tables and helpers only, and kept most packets away or late when their runner or
        helper was killed; from then until packets flowed as before, to the millisecond
guardian: the same of runs with qdiscs or links, or a helper that was stopped (both killed: from the call of the sweep)
`)
	return tw.Flush()
}

func (r *row) printNet(w io.Writer, name string) {
	kernel, guardian := r.flows[byKernel], r.flows[byGuardian]
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%d\t%s\t  %s\n",
		name, r.runs, r.leaks, len(kernel), spread(kernel), len(guardian), spread(guardian), r.seen())
}
