package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// addLab takes in what was measured of a lab. What was frozen on cgroup
// version 1 when its runner died is told apart: it dies once it is thawed.
func (r *row) addLab(one *trial) {
	switch {
	case one.gone < 0:
	case one.seen.frozen:
		r.stiff = append(r.stiff, one.gone)
	default:
		r.gone = append(r.gone, one.gone)
		if one.seen.boxes >= mostBoxes {
			r.whole = append(r.whole, one.gone)
		}
	}
	if one.back >= 0 {
		r.back = append(r.back, one.back)
	}
}

// printLabs writes the table of the labs.
func (t *tally) printLabs(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\nblow\tlabs\tleaks\tgone\tmedian ms\tp99\tmax\tback\tmedian ms\tp99\tmax\t  exit and verdict")
	all := row{exits: map[string]int{}}
	labs := 0
	for _, name := range t.order {
		r := t.rows[name]
		if !r.lab {
			continue
		}
		labs++
		r.printLab(tw, name)
		all.runs, all.leaks = all.runs+r.runs, all.leaks+r.leaks
		all.whole = append(all.whole, r.whole...)
		all.gone, all.back, all.stiff = append(all.gone, r.gone...), append(all.back, r.back...), append(all.stiff, r.stiff...)
	}
	if labs == 0 {
		return nil
	}
	all.printLab(tw, "all")
	fmt.Fprintf(tw, "of them with six or seven up\t\t\t%d\t%s\t\n", len(all.whole), spread(all.whole))
	fmt.Fprintf(tw, "and with something frozen\t\t\t%d\t%s\t\n", len(all.stiff), spread(all.stiff))
	fmt.Fprint(tw, `
gone: of labs that had containers when their runner was killed; from then until the last process in them had ended
back: from the blow until the run was taken back and its journal closed
`)
	return tw.Flush()
}

func (r *row) printLab(w io.Writer, name string) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%d\t%s\t  %s\n",
		name, r.runs, r.leaks, len(r.gone), spread(r.gone), len(r.back), spread(r.back), r.seen())
}
