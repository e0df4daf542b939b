package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	var out output
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
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			w, err := a.writable()
			if err != nil {
				return err
			}
			defer w.Close()
			ctx, stop := interruptible(c.Context(), a.stderr) // an undo under way is finished
			defer stop()
			var taken []takenBack
			if all {
				taken, err = a.rollbackAll(ctx, w)
			} else {
				taken, err = a.rollback(ctx, w, experiment.RunID(args[0]), experiment.Cause(cause))
			}
			if told := a.tell(taken, asJSON); err == nil {
				err = told
			}
			return err
		},
	}
	c.Flags().BoolVar(&all, "all", false, "every unfinished run whose process is gone")
	c.Flags().StringVar(&cause, "cause", string(experiment.CauseRunnerDied), "why it is taken back")
	_ = c.Flags().MarkHidden("cause")
	out.add(c)
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

// takenBack is a run that is put back, as rollback prints it.
type takenBack struct {
	Run       experiment.RunID   `json:"run"`
	Verdict   experiment.Verdict `json:"verdict"`
	Steps     int                `json:"steps"`     // that could be taken back
	TakenBack int                `json:"takenBack"` // of them
	Residue   []string           `json:"residue"`
}

func (a *app) rollbackAll(ctx context.Context, w *writable) ([]takenBack, error) {
	swept, err := a.engine(w).Sweep(ctx)
	taken := []takenBack{}
	for _, run := range swept {
		one, rerr := a.taken(ctx, w, run)
		taken, err = append(taken, one), errors.Join(err, rerr)
	}
	return taken, err
}

// rollback ends one run, and waits for it.
func (a *app) rollback(ctx context.Context, w *writable, run experiment.RunID, cause experiment.Cause) ([]takenBack, error) {
	if err := a.endRunner(ctx, w.Store, run); err != nil {
		return nil, err
	}
	err := a.engine(w).Rollback(ctx, run, cause, true)
	switch {
	case errors.Is(err, journal.ErrNoRun):
		return nil, usage(err)
	case err != nil && !errors.Is(err, journal.ErrFinished):
		return nil, err
	}
	one, err := a.taken(ctx, w, run)
	return []takenBack{one}, err
}

// taken reads how run was taken back, and notes it in the history. A run that
// had written nothing yet has no journal any more.
func (a *app) taken(ctx context.Context, w *writable, run experiment.RunID) (takenBack, error) {
	r, err := a.fold(ctx, w.Store, run)
	if errors.Is(err, journal.ErrNoRun) {
		return takenBack{Run: run, Verdict: experiment.Aborted, Residue: []string{}}, nil
	}
	if err != nil {
		return takenBack{Run: run}, err
	}
	a.remember(ctx, r)
	return takenBack{run, r.Verdict, r.Steps.Undoable, r.Steps.TakenBack, append([]string{}, r.Residue...)}, nil
}

// tell says what was taken back, and ends with 4 where something was not.
func (a *app) tell(taken []takenBack, asJSON bool) error {
	if asJSON {
		if err := writeJSON(a.stdout, append([]takenBack{}, taken...)); err != nil {
			return err
		}
	} else if taken != nil && len(taken) == 0 {
		fmt.Fprintln(a.stdout, "nothing to take back")
	}
	var left error
	for _, t := range taken {
		if !asJSON {
			fmt.Fprintln(a.stdout, t)
		}
		if len(t.Residue) > 0 {
			left = &exitError{code: experiment.Residue.ExitCode()}
		}
	}
	return left
}

// String is one line about the run.
func (t takenBack) String() string {
	left := "nothing left behind"
	if len(t.Residue) > 0 {
		left = "LEFT BEHIND: " + report.Printable(strings.Join(t.Residue, "; "))
	}
	return fmt.Sprintf("run %s  %d of %d steps taken back, %s", t.Run, t.TakenBack, t.Steps, left)
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
	for told := unix.Signal(0); s.Held(run) && ctx.Err() == nil; {
		if sig := a.ending(runner); sig != told {
			if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("tell run %s (%s) to end: %w", run, runner, err)
			}
			told = sig
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 10); n > 0 {
			return nil
		}
	}
	return nil
}

// ending is the signal that ends a runner: one that is stopped heeds SIGKILL
// only. It may come to a stop after it was told to end.
func (a *app) ending(runner experiment.ProcessID) unix.Signal {
	if st, err := a.fs.Stat(runner.PID); err == nil && (st.State == 'T' || st.State == 't') {
		return unix.SIGKILL
	}
	return unix.SIGTERM
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
