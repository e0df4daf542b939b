package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/report"
	"github.com/simianhq/simian/targets/native"
)

// watchEvery is how often --watch looks again.
const watchEvery = time.Second

func (a *app) targetsCommand() *cobra.Command {
	var format string
	var watch bool
	c := &cobra.Command{
		Use:   "targets [KIND …]",
		Short: "List what can be broken here, and why something can't",
		Long: `Targets lists what experiments can name on this host: services and programs that
listen, the containers of labs, and those of every runtime that is there; what
protects them, and why they are out when they are out. It changes nothing.
` + plainExitCodes,
		Example: "  simian targets\n  simian targets native process -o wide\n  simian targets --watch",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return a.loader().Targets.Names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains([]string{"text", "wide", "json"}, format) {
				return usage(fmt.Errorf("-o %s is not known\n        formats: text wide json", format))
			}
			for _, kind := range args {
				if _, ok := a.loader().Targets[kind]; !ok {
					return usage(fmt.Errorf("there are no targets of type %q\n        types: %s", kind, strings.Join(a.loader().Targets.Names(), " ")))
				}
			}
			if watch {
				ctx, stop := interruptible(c.Context(), a.stderr)
				defer stop()
				return a.watchTargets(ctx, args, format)
			}
			inv, err := a.inventory(c.Context(), args)
			if err != nil {
				return err
			}
			return inv.print(a.stdout, format)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", "text", "text, for people, wide, with cgroups, or json")
	c.Flags().BoolVarP(&watch, "watch", "w", false, "look again every second: draw it anew on a terminal, and say what changed elsewhere")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "wide", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// inventory is all that can be broken, and what could not be asked.
type inventory struct {
	rows   []experiment.Listed
	silent []string // "docker: no socket at …"
}

// inventory asks every selector that can list. Kinds limits it to some.
func (a *app) inventory(ctx context.Context, kinds []string) (inventory, error) {
	inv := inventory{rows: []experiment.Listed{}}
	catalog := a.loader().Targets
	for _, kind := range catalog.Names() {
		if len(kinds) > 0 && !slices.Contains(kinds, kind) {
			continue
		}
		rows, err := a.listOf(ctx, kind, catalog[kind]())
		switch {
		case ctx.Err() != nil:
			return inv, context.Cause(ctx)
		case err != nil && len(kinds) > 0 && !errors.Is(err, experiment.ErrUnsupported):
			return inv, fmt.Errorf("list %s: %w", kind, err)
		case err != nil: // one runtime that isn't there, or can't be asked, hides no other
			why, _, _ := strings.Cut(err.Error(), "\n")
			inv.silent = append(inv.silent, kind+": "+strings.TrimSuffix(why, ": "+experiment.ErrUnsupported.Error()))
		}
		inv.rows = append(inv.rows, rows...)
	}
	inv.rows = withoutTwins(inv.rows)
	slices.SortStableFunc(inv.rows, func(x, y experiment.Listed) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Workload, y.Workload), cmp.Compare(x.Name, y.Name), cmp.Compare(x.PID, y.PID))
	})
	return inv, nil
}

// withoutTwins leaves out processes that are listed as containers already, by
// what knows more of them.
func withoutTwins(rows []experiment.Listed) []experiment.Listed {
	pids, cgroups := map[int]bool{}, map[string]bool{}
	for _, l := range rows {
		if l.Kind != "process" && l.PID > 0 {
			pids[l.PID], cgroups[l.Cgroup] = true, l.Cgroup != ""
		}
	}
	return slices.DeleteFunc(rows, func(l experiment.Listed) bool {
		return l.Kind == "process" && (pids[l.PID] || cgroups[l.Cgroup])
	})
}

func (a *app) listOf(ctx context.Context, kind string, s experiment.Selector) ([]experiment.Listed, error) {
	if kind == "native" { // a selector knows one lab, and here it is about all of them
		return native.List(a.fs, a.dir)
	}
	if l, ok := s.(experiment.Lister); ok {
		rows, err := l.List(ctx)
		if kind != "process" { // which knows its own
			for i := range rows {
				a.look(ctx, &rows[i])
			}
		}
		return rows, err
	}
	found, err := s.Select(ctx) // told nothing, it finds all that run
	if errors.Is(err, experiment.ErrNoMatch) {
		return nil, nil
	}
	return a.rowsOf(ctx, kind, found), err
}

// look adds to a row what the kernel tells of its process: its cgroup, and what
// protects it. One that has just ended is left as it is.
func (a *app) look(ctx context.Context, l *experiment.Listed) {
	if l.PID == 0 {
		return
	}
	l.Cgroup = a.cgroupOf(l.PID)
	t, err := a.fs.Target(l.PID)
	if err != nil || l.Out != "" {
		return
	}
	t.Name = l.Name
	if err := a.system(true).Check(ctx, t); errors.Is(err, experiment.ErrProtected) {
		l.Protected = strings.TrimSuffix(err.Error(), ": "+experiment.ErrProtected.Error())
		l.Out = "protected"
	}
}

// rowsOf lists targets that a selector found.
func (a *app) rowsOf(ctx context.Context, kind string, found []experiment.Target) []experiment.Listed {
	rows := make([]experiment.Listed, 0, len(found))
	for _, t := range found {
		l := experiment.Listed{Kind: kind, Name: t.Name, Workload: t.Workload}
		if t.Runtime != nil {
			l.Runtime = t.Runtime.Runtime
		}
		if len(t.PIDs) > 0 {
			l.PID = t.PIDs[0].PID
			l.Cgroup = a.cgroupOf(l.PID)
		}
		if err := a.system(true).Check(ctx, t); err != nil {
			l.Protected = strings.TrimSuffix(err.Error(), ": "+experiment.ErrProtected.Error())
			l.Out = "protected"
		}
		rows = append(rows, l)
	}
	return rows
}

// cgroupOf returns the longest of a process's paths, which says most.
func (a *app) cgroupOf(pid int) string {
	paths, _ := a.fs.CgroupPaths(pid)
	best := ""
	for _, path := range paths {
		if len(path) > len(best) || len(path) == len(best) && path < best {
			best = path
		}
	}
	return best
}

func (inv inventory) print(w io.Writer, format string) error {
	if format == "json" {
		return writeJSON(w, inv.rows)
	}
	out := 0
	header := []string{"KIND", "NAME", "WORKLOAD", "PID", "OUT"}
	if format == "wide" {
		header = []string{"KIND", "NAME", "WORKLOAD", "RUNTIME", "PID", "CGROUP", "PROTECTED", "OUT"}
	}
	rows := make([][]string, 0, len(inv.rows))
	for _, l := range inv.rows {
		if l.Out != "" {
			out++
		}
		rows = append(rows, cells(l, format == "wide"))
	}
	if err := report.Table(w, header, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, %d of them out\n", count(len(rows), "target"), out)
	for _, line := range inv.silent {
		fmt.Fprintln(w, report.Printable(line))
	}
	return err
}

func cells(l experiment.Listed, wide bool) []string {
	dash := func(s string) string { return cmp.Or(s, "–") }
	pid := "–"
	if l.PID > 0 {
		pid = strconv.Itoa(l.PID)
	}
	if wide {
		return []string{l.Kind, l.Name, dash(l.Workload), dash(l.Runtime), pid, dash(l.Cgroup), dash(l.Protected), dash(l.Out)}
	}
	return []string{l.Kind, l.Name, dash(l.Workload), pid, dash(l.Out)}
}

// watchTargets looks again and again, until ctx ends.
func (a *app) watchTargets(ctx context.Context, kinds []string, format string) error {
	_, terminal := style(a.stdout)
	var before map[string]experiment.Listed
	for {
		inv, err := a.inventory(ctx, kinds)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case terminal && format != "json":
			var b strings.Builder
			_ = inv.print(&b, format)
			_, err = fmt.Fprint(a.stdout, "\x1b[H\x1b[2J"+b.String())
		default:
			before, err = inv.changes(a.stdout, before, format)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// changes prints what came, went and changed since before, a line each, and
// returns what to compare with next. In JSON what went is out: gone.
func (inv inventory) changes(w io.Writer, before map[string]experiment.Listed, format string) (map[string]experiment.Listed, error) {
	now := map[string]experiment.Listed{}
	var lines []string
	for _, l := range inv.rows {
		key := fmt.Sprint(l.Kind, "\x00", l.Name, "\x00", l.PID)
		now[key] = l
		switch was, known := before[key]; {
		case !known:
			lines = append(lines, changed("+", l, format))
		case was != l:
			lines = append(lines, changed("~", l, format))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[key]; !still {
			gone := before[key]
			gone.Out = "gone"
			lines = append(lines, changed("-", gone, format))
		}
	}
	_, err := io.WriteString(w, strings.Join(lines, ""))
	return now, err
}

// changed is one line of what is watched.
func changed(sign string, l experiment.Listed, format string) string {
	if format == "json" {
		var b strings.Builder
		_ = writeJSONLine(&b, l)
		return b.String()
	}
	return sign + " " + report.Printable(strings.Join(cells(l, format == "wide"), "  ")) + "\n"
}

// targetNames completes the names of one kind of targets, in the time allowed.
func (a *app) targetNames(ctx context.Context, kind string, within time.Duration) []string {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	inv, err := a.inventory(ctx, []string{kind})
	if err != nil {
		return nil
	}
	var names []string
	for _, l := range inv.rows {
		name, _, _ := strings.Cut(l.Name, " ")
		if l.Out == "" && name == report.Printable(name) {
			names = append(names, name)
		}
	}
	return names
}
