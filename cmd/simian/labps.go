package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/report"
	"github.com/simianhq/simian/targets/native"
)

func (a *app) labPsCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "ps [LAB]",
		Short: "List the labs that are up, or the containers of one",
		Long: `Ps lists the labs that are up, those of experiments too, or the containers of
one: their state, how long they have been in it, how often they were started,
and where they can be reached. It changes nothing.
` + plainExitCodes,
		Example:           "  simian lab ps\n  simian lab ps shop -o json",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeLabs,
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.listLabs(asJSON)
			}
			s, err := a.standing(args[0])
			if err != nil {
				return usage(err)
			}
			if asJSON {
				return writeJSON(a.stdout, s)
			}
			return report.Table(a.stdout, []string{"CONTAINER", "STATE", "SINCE", "STARTS", "PID", "ADDRESS", "PORTS"}, boxRows(s))
		},
	}
	out.add(c)
	return c
}

func (a *app) listLabs(asJSON bool) error {
	labs, err := native.Labs(a.fs, a.dir)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, labs)
	}
	if len(labs) == 0 {
		fmt.Fprintln(a.stdout, "no lab is up (simian lab up FILE launches one)")
		return nil
	}
	var rows [][]string
	for _, s := range labs {
		running := 0
		for _, b := range s.Boxes {
			if b.Process.PID != 0 {
				running++
			}
		}
		rows = append(rows, []string{s.Name, string(s.Run), fmt.Sprintf("%d of %d", running, len(s.Boxes)), s.Process.String(), strings.Join(s.Files, " ")})
	}
	return report.Table(a.stdout, []string{"LAB", "RUN", "RUNNING", "KEPT BY", "FILES"}, rows)
}

func boxRows(s native.State) [][]string {
	var rows [][]string
	for _, b := range s.Boxes {
		state, pid := string(b.State), ""
		if b.Exit != "" {
			state += " (" + b.Exit + ")"
		}
		if b.Process.PID != 0 {
			pid = fmt.Sprint(b.Process.PID)
		}
		var addresses []string
		for _, a := range b.Address {
			addresses = append(addresses, a.String())
		}
		slices.Sort(addresses)
		since := ""
		if !b.Since.IsZero() {
			since = time.Since(b.Since).Round(time.Second).String()
		}
		rows = append(rows, []string{b.Name, state, since, fmt.Sprint(b.Starts), pid, strings.Join(addresses, " "), strings.Join(b.Ports, " ")})
	}
	return rows
}

func (a *app) logsCommand() *cobra.Command {
	var follow, timestamps bool
	var tail int
	var out output
	c := &cobra.Command{
		Use:   "logs LAB [SERVICE | CONTAINER]...",
		Short: "Print what the containers of a lab have written, also when it is gone",
		Long: `Logs prints standard output and standard error of a lab's containers. LAB is
the name of one that stands, or a run, however long ago: logs outlive their lab.
With -o json each line is a JSON object.
` + plainExitCodes,
		Example:           "  simian logs shop gateway --tail 20\n  simian logs 7f3k2q --timestamps\n  simian lab logs shop -f",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeLabs,
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			run, err := a.logged(args[0])
			if err != nil {
				return usage(err)
			}
			p := &logPrinter{app: a, dir: filepath.Join(a.dir, "logs", run), names: args[1:], tail: tail, json: asJSON, timestamps: timestamps}
			ctx, stop := interruptible(c.Context(), a.stderr)
			defer stop()
			return p.print(ctx, follow)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what they write from now on, until interrupted")
	c.Flags().BoolVarP(&timestamps, "timestamps", "t", false, "say when each line was written")
	c.Flags().IntVarP(&tail, "tail", "n", -1, "only the last lines of each container")
	out.add(c)
	return c
}

// logged finds the run whose logs a name stands for.
func (a *app) logged(name string) (string, error) {
	s, err := a.standing(name)
	if err == nil {
		return string(s.Run), nil
	}
	if name == filepath.Base(name) && name != "." && name != ".." {
		if _, serr := os.Stat(filepath.Join(a.dir, "logs", name)); serr == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w; nor are there logs of a run %s", err, name)
}

// logPrinter prints the logs of one lab.
type logPrinter struct {
	app        *app
	dir        string
	names      []string // of services or containers; none is all
	tail       int      // lines of each; below 0 is all
	json       bool
	timestamps bool

	seen map[string]int // lines by container
}

// containerLine is a line of a log, and whose it is.
type containerLine struct {
	Container string `json:"container"`
	native.LogLine
}

func (p *logPrinter) print(ctx context.Context, follow bool) error {
	p.seen = map[string]int{}
	lines, err := p.read()
	if err != nil {
		return err
	}
	p.write(p.last(lines))
	for follow && ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if lines, err = p.read(); err != nil {
			return err
		}
		p.write(lines)
	}
	return nil
}

// read returns the lines that were not read before, of all containers, by
// time.
func (p *logPrinter) read() ([]containerLine, error) {
	logs, err := p.logs()
	if err != nil {
		return nil, err
	}
	var lines []containerLine
	for name, path := range logs {
		n := 0
		err := native.ReadLog(path, func(l native.LogLine) error {
			if n++; n > p.seen[name] {
				lines = append(lines, containerLine{name, l})
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		p.seen[name] = max(n, p.seen[name])
	}
	slices.SortStableFunc(lines, func(a, b containerLine) int { return a.Time.Compare(b.Time) })
	return lines, nil
}

// logs returns the files asked for, by container.
func (p *logPrinter) logs() (map[string]string, error) {
	all, err := native.Logs(p.dir)
	if err != nil || len(p.names) == 0 {
		return all, err
	}
	wanted := map[string]string{}
	for _, name := range p.names {
		found := false
		for container, path := range all {
			if container == name || native.ServiceOf(container) == name {
				wanted[container], found = path, true
			}
		}
		if !found {
			return nil, usage(fmt.Errorf("there is no log of %s", name))
		}
	}
	return wanted, nil
}

// last returns what of lines is among the last of its container.
func (p *logPrinter) last(lines []containerLine) []containerLine {
	if p.tail < 0 {
		return lines
	}
	count := map[string]int{}
	var kept []containerLine
	for _, l := range slices.Backward(lines) {
		if count[l.Container]++; count[l.Container] <= p.tail {
			kept = append(kept, l)
		}
	}
	slices.Reverse(kept)
	return kept
}

func (p *logPrinter) write(lines []containerLine) {
	for _, l := range lines {
		if p.json {
			_ = writeJSONLine(p.app.stdout, l)
			continue
		}
		at := ""
		if p.timestamps {
			at = l.Time.Format("15:04:05.000 ")
		}
		fmt.Fprintf(p.app.stdout, "%s%-18s %s\n", at, l.Container, report.Printable(l.Text))
	}
}

// boxOf finds a container of a standing lab.
func (a *app) boxOf(lab, name string) (native.State, native.Box, error) {
	s, err := a.standing(lab)
	if err != nil {
		return s, native.Box{}, usage(err)
	}
	b, err := s.Box(name)
	if err != nil {
		return s, b, usage(err)
	}
	if b.Process.PID == 0 || !a.fs.Alive(b.Process) {
		return s, b, fmt.Errorf("%s does not run (%s): %w", b.Name, b.State, experiment.ErrGone)
	}
	return s, b, nil
}
