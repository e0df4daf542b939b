package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/report"
)

func (a *app) reportCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "report RUN",
		Short: "Print the result of a run, however long ago",
		Long: `Report folds the journal of a run into its result, and prints it. It ends with
the exit code of the verdict, as run did.
` + exitCodes,
		Example:           "  simian report 7f3k2q\n  simian report 7f3k2q -o json",
		Args:              exactly("RUN"),
		ValidArgsFunction: a.completeRuns(false),
		RunE: func(c *cobra.Command, args []string) error {
			return a.reading(&out, func(s *journal.Store, asJSON bool) error {
				return a.report(c.Context(), s, experiment.RunID(args[0]), asJSON)
			})
		},
	}
	out.add(c)
	return c
}

// reading opens the journals for a command that only reads.
func (a *app) reading(out *output, do func(s *journal.Store, asJSON bool) error) error {
	asJSON, err := out.json()
	if err != nil {
		return err
	}
	s, err := a.reader()
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s, asJSON)
}

func (a *app) report(ctx context.Context, s *journal.Store, run experiment.RunID, asJSON bool) error {
	r, err := a.fold(ctx, s, run)
	var damage *journal.DamageError
	switch {
	case errors.As(err, &damage):
		fmt.Fprintln(a.stderr, "simian: "+err.Error()+"; what can be read follows")
	case err != nil:
		return usage(err)
	}
	if r.Unfinished && !asJSON {
		fmt.Fprintf(a.stderr, "run %s is not finished: see simian status\n", run)
	}
	return a.show(r, asJSON)
}

func (a *app) runsCommand() *cobra.Command {
	var out output
	var q journal.Query
	var since time.Duration
	c := &cobra.Command{
		Use:     "runs",
		Short:   "List the runs in the history, the latest first",
		Long:    "Runs lists what the history knows. simian reindex rebuilds it from the journals.\n" + plainExitCodes,
		Example: "  simian runs\n  simian runs --experiment worker-killed --verdict fail --since 168h",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if since > 0 {
				q.Since = time.Now().Add(-since)
			}
			entries, err := journal.OpenHistory(a.dir).List(c.Context(), q)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, append([]journal.Entry{}, entries...))
			}
			return a.runsTable(c.Context(), entries)
		},
	}
	c.Flags().StringVar(&q.Experiment, "experiment", "", "only runs of this experiment")
	c.Flags().StringVar(&q.Verdict, "verdict", "", "only runs with this verdict")
	c.Flags().DurationVar(&since, "since", 0, "only runs that started in this last `duration`")
	c.Flags().IntVar(&q.Limit, "limit", 50, "at most so many; 0 for all")
	out.add(c)
	return c
}

func (a *app) runsTable(ctx context.Context, entries []journal.Entry) error {
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		score := "–"
		if e.Score != nil {
			score = fmt.Sprintf("%.0f", *e.Score)
		}
		rows = append(rows, []string{
			e.Run, e.Experiment, e.Verdict, score,
			e.Started.Local().Format("2006-01-02 15:04:05"), e.Ended.Sub(e.Started).Round(100 * time.Millisecond).String(),
		})
	}
	if len(rows) == 0 {
		fmt.Fprintln(a.stdout, "no runs yet")
	} else if err := report.Table(a.stdout, []string{"RUN", "EXPERIMENT", "VERDICT", "SCORE", "STARTED", "TOOK"}, rows); err != nil {
		return err
	}
	return a.mentionUnfinished(ctx)
}

// mentionUnfinished says that runs are not taken back, where there are any
// whose process is gone.
func (a *app) mentionUnfinished(ctx context.Context) error {
	s, err := a.reader()
	if err != nil {
		return err
	}
	defer s.Close()
	open, err := s.Open(ctx)
	for _, run := range open {
		if !s.Held(run) {
			fmt.Fprintf(a.stderr, "run %s is not finished and its process is gone: simian rollback %s takes it back\n", run, run)
		}
	}
	return err
}

func (a *app) reindexCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "reindex",
		Short:   "Rebuild the history from the journals",
		Long:    "Reindex makes the history anew from the journals of all finished runs.\n" + plainExitCodes,
		Example: "  simian reindex",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.reading(&out, func(s *journal.Store, asJSON bool) error {
				return a.reindex(c.Context(), s, asJSON)
			})
		},
	}
	out.add(c)
	return c
}

func (a *app) reindex(ctx context.Context, s *journal.Store, asJSON bool) error {
	done, err := s.Done(ctx)
	if err != nil {
		return err
	}
	n := 0
	if err := journal.OpenHistory(a.dir).Reindex(ctx, a.entries(ctx, s, done, &n)); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, map[string]int{"runs": n})
	}
	fmt.Fprintf(a.stdout, "%s indexed\n", count(n, "run"))
	return nil
}

// entries folds one journal after the other. One that cannot be read is named,
// and left out.
func (a *app) entries(ctx context.Context, s *journal.Store, runs []experiment.RunID, n *int) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for _, run := range runs {
			r, err := a.fold(ctx, s, run)
			if err != nil {
				fmt.Fprintf(a.stderr, "simian: run %s: %v\n", run, err)
			}
			if r.Experiment == "" {
				continue
			}
			*n++
			if !yield(entry(r), nil) {
				return
			}
		}
	}
}

// inForce is a run that is not finished, as status prints it.
type inForce struct {
	Run        experiment.RunID `json:"run"`
	Experiment string           `json:"experiment"`
	Alive      bool             `json:"alive"` // its process, or its guardian, holds it
	Started    time.Time        `json:"started"`
	Steps      []planStep       `json:"steps"` // announced, and not taken back
	Error      string           `json:"error,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "status",
		Short:   "Print what is in force now",
		Long:    "Status prints every unfinished run, whether it is alive, and which of its steps\nare in force. It changes nothing.\n" + plainExitCodes,
		Example: "  simian status -o json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.reading(&out, func(s *journal.Store, asJSON bool) error {
				list, err := a.inForce(c.Context(), s)
				if err == nil && asJSON {
					return writeJSON(a.stdout, list)
				}
				if err == nil {
					a.printInForce(list)
				}
				return err
			})
		},
	}
	out.add(c)
	return c
}

func (a *app) inForce(ctx context.Context, s *journal.Store) ([]inForce, error) {
	open, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	list := []inForce{}
	for _, run := range open {
		events, err := s.Events(ctx, run)
		if errors.Is(err, journal.ErrNoRun) {
			continue // it has just ended
		}
		one := inForce{Run: run, Alive: s.Held(run), Steps: []planStep{}}
		if err != nil {
			one.Error = err.Error()
		}
		header, steps := engine.InForce(events)
		if header != nil {
			one.Experiment, one.Started = header.Experiment.Name, events[0].Wall
		}
		for _, step := range steps {
			do, undo := engine.Describe(step)
			one.Steps = append(one.Steps, planStep{do, undo})
		}
		list = append(list, one)
	}
	return list, nil
}

func (a *app) printInForce(list []inForce) {
	if len(list) == 0 {
		fmt.Fprintln(a.stdout, "nothing is in force")
	}
	for _, r := range list {
		state := "running"
		if !r.Alive {
			state = "its process is gone: simian rollback " + string(r.Run) + " takes it back"
		}
		fmt.Fprintf(a.stdout, "run %s  %s  since %s, %s\n", r.Run, report.Printable(r.Experiment), r.Started.Local().Format("15:04:05"), state)
		for _, s := range r.Steps {
			fmt.Fprintf(a.stdout, "    %s   undo  %s\n", report.Printable(s.Do), report.Printable(s.Undo))
		}
		if len(r.Steps) == 0 {
			fmt.Fprintln(a.stdout, "    nothing of it is in force")
		}
		if r.Error != "" {
			fmt.Fprintln(a.stdout, "    "+strings.TrimSpace(r.Error))
		}
	}
}
