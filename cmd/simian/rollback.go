package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/report"
)

func (a *app) rollbackCommand() *cobra.Command {
	var all bool
	var cause string
	c := &cobra.Command{
		Use:   "rollback [RUN | --all]",
		Short: "Take back a run, alive or dead, or all that are unfinished",
		Long: `Rollback takes back what a run has broken. One whose process lives is told to
end, and rollback waits until it has put everything back; for one whose process
is gone it does so itself. --all takes back every run whose process is gone: run
it at boot.

Exit codes:
  0  everything is put back, or there was nothing to do
  2  wrong usage, or no such run
  4  something is not put back; the message says what, and how to do it by hand
  6  it could not be done (no permission, damaged journal)`,
		Example: "  simian rollback 7f3k2q\n  simian rollback --all",
		Args: func(c *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usage(errors.New("give a RUN or --all, not both"))
			}
			if all {
				return nil
			}
			return exactly("RUN")(c, args)
		},
		ValidArgsFunction: a.completeRuns(true),
		RunE: func(c *cobra.Command, args []string) error {
			w, err := a.writable()
			if err != nil {
				return err
			}
			defer w.Close()
			if all {
				return a.rollbackAll(c.Context(), w)
			}
			return a.rollback(c.Context(), w, experiment.RunID(args[0]), experiment.Cause(cause))
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every unfinished run whose process is gone")
	c.Flags().StringVar(&cause, "cause", string(experiment.CauseRunnerDied), "why it is taken back")
	_ = c.Flags().MarkHidden("cause")
	return c
}

// completeRuns completes the names of runs.
func (a *app) completeRuns(unfinished bool) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		s, err := a.reader()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer s.Close()
		runs, _ := s.Open(c.Context())
		if done, err := s.Done(c.Context()); err == nil && !unfinished {
			runs = append(runs, done...)
		}
		var names []string
		for _, run := range runs {
			names = append(names, string(run))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) rollbackAll(ctx context.Context, w *writable) error {
	swept, err := a.engine(w).Sweep(ctx)
	if len(swept) == 0 && err == nil {
		fmt.Fprintln(a.stdout, "nothing to take back")
	}
	for _, run := range swept {
		if rerr := a.tell(ctx, w, run); err == nil {
			err = rerr
		}
	}
	return err
}

// rollback ends one run, and waits for it.
func (a *app) rollback(ctx context.Context, w *writable, run experiment.RunID, cause experiment.Cause) error {
	if err := a.endRunner(ctx, w.Store, run); err != nil {
		return err
	}
	err := a.engine(w).Rollback(ctx, run, cause, true)
	switch {
	case errors.Is(err, journal.ErrNoRun):
		return usage(err)
	case err != nil && !errors.Is(err, journal.ErrFinished):
		return err
	}
	return a.tell(ctx, w, run)
}

// tell says how the run was taken back.
func (a *app) tell(ctx context.Context, w *writable, run experiment.RunID) error {
	r, err := a.fold(ctx, w.Store, run)
	if errors.Is(err, journal.ErrNoRun) {
		fmt.Fprintf(a.stdout, "run %s  had broken nothing yet\n", run)
		return nil
	}
	if err != nil {
		return err
	}
	a.remember(ctx, r)
	fmt.Fprintln(a.stdout, tookBack(r))
	return residue(r)
}

func residue(r *report.Result) error {
	if len(r.Residue) > 0 {
		return &exitError{code: experiment.Residue.ExitCode()}
	}
	return nil
}

// endRunner tells the run's process, where it lives, to take everything back.
// One that is stopped could not: it is ended, and what it did is taken back
// for it.
func (a *app) endRunner(ctx context.Context, s *journal.Store, run experiment.RunID) error {
	if !s.Held(run) {
		return nil
	}
	runner, err := a.runnerOf(ctx, s, run)
	if err != nil {
		return err
	}
	fd, err := proc.OpenPidfd(runner)
	if errors.Is(err, experiment.ErrGone) {
		return nil // its guardian holds the lock
	}
	if err != nil {
		return fmt.Errorf("tell run %s to end: %w", run, err)
	}
	defer unix.Close(fd)
	sig := unix.SIGTERM
	if st, err := a.fs.Stat(runner.PID); err == nil && (st.State == 'T' || st.State == 't') {
		sig = unix.SIGKILL
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("tell run %s (%s) to end: %w", run, runner, err)
	}
	return nil
}

// runnerOf reads which process runs run. Its first line is written right after
// the lock is taken: it may take a moment.
func (a *app) runnerOf(ctx context.Context, s *journal.Store, run experiment.RunID) (experiment.ProcessID, error) {
	for try := 0; ; try++ {
		events, err := s.Events(ctx, run)
		i := slices.IndexFunc(events, func(e experiment.Event) bool { return e.Header != nil })
		switch {
		case i >= 0:
			return a.samePIDs(run, events[i].Header)
		case err != nil || try == 100:
			return experiment.ProcessID{}, errors.Join(fmt.Errorf("find the process of run %s", run), err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// samePIDs refuses pids that mean other processes here.
func (a *app) samePIDs(run experiment.RunID, h *experiment.Header) (experiment.ProcessID, error) {
	here, err := a.system(false).Header()
	if err == nil && (here.Machine != h.Machine || here.PIDNamespace != h.PIDNamespace) {
		err = fmt.Errorf("run %s goes on on another machine, or in another PID namespace: take it back there", run)
	}
	return h.Runner, err
}
