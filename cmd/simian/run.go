package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/journal"
	"github.com/simianhq/simian/internal/report"
)

// fileOptions are the flags of every command that reads an experiment file.
type fileOptions struct {
	set  []string
	seed uint64
	long bool
}

func (o *fileOptions) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&o.set, "set", nil, "value for a parameter of the file, as `name=value` (repeat it for more)")
	c.Flags().Uint64Var(&o.seed, "seed", 0, "draw targets with this seed, in place of the file's")
	c.Flags().BoolVar(&o.long, "long", false, "allow an action to last longer than an hour")
	c.ValidArgsFunction = cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt)
}

// load reads the file that a command names.
func (a *app) load(c *cobra.Command, path string, o *fileOptions) (*experiment.Experiment, error) {
	set := map[string]string{}
	for _, pair := range o.set {
		name, value, ok := strings.Cut(pair, "=")
		if _, twice := set[name]; twice || !ok || name == "" {
			return nil, usage(fmt.Errorf("--set %s: want name=value, each name once", pair))
		}
		set[name] = value
	}
	l := a.loader()
	l.Long = o.long
	x, err := l.LoadFile(path, set)
	if err != nil {
		return nil, usage(err)
	}
	if c.Flags().Changed("seed") {
		x.Spec.Seed = &o.seed
	}
	return x, nil
}

// place says where in the file the engine found something it cannot bear.
func place(x *experiment.Experiment, err error) error {
	var action *engine.ActionError
	if !errors.As(err, &action) {
		return err
	}
	at := "/spec/" + action.Field
	if action.Action >= 0 {
		at = fmt.Sprintf("/spec/method/%d/%s", action.Action, action.Field)
	}
	return x.ErrorAt(at, action.Err)
}

func (a *app) runCommand() *cobra.Command {
	var file fileOptions
	var out output
	var o runOptions
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Run an experiment, put everything back, and judge",
		Long: `Run waits for the steady state, breaks what the file says, watches how the
system bears it, puts everything back, and judges. Before it does, it takes back
whatever an earlier run left unfinished. Ctrl-C takes everything back at once.
` + exitCodes,
		Example: `  simian run examples/quickstart/worker-killed.yaml
  simian run shop.yaml --set service=cart -o json > result.json`,
		Args: exactly("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			x, err := a.load(c, args[0], &file)
			if err != nil {
				return err
			}
			r, err := a.runExperiment(c.Context(), x, o, asJSON)
			if err != nil {
				return place(x, err)
			}
			return a.show(r, asJSON)
		},
	}
	file.add(c)
	out.add(c)
	o.add(c)
	return c
}

// runOptions are the flags of run that are not the file's.
type runOptions struct {
	unguarded bool
	slack     time.Duration
}

// show prints a result, and ends with its exit code.
func (a *app) show(r *report.Result, asJSON bool) error {
	if err := a.print(r, asJSON); err != nil {
		fmt.Fprintln(a.stderr, "simian: print result: "+err.Error())
	}
	if code := r.ExitCode(); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

func (a *app) print(r *report.Result, asJSON bool) error {
	if asJSON {
		return report.JSON(a.stdout, r)
	}
	s, _ := style(a.stdout)
	return report.Text(a.stdout, r, s)
}

// runExperiment runs x from the sweep to the history. Without a result, nothing
// was touched.
func (a *app) runExperiment(ctx context.Context, x *experiment.Experiment, o runOptions, quiet bool) (*report.Result, error) {
	w, err := a.writable()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	ctx, stop := interruptible(ctx, a.stderr)
	defer stop()
	if err := a.sweep(ctx, w); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	live := a.live(quiet)
	e := a.engine(w)
	e.Notify, e.System, e.Slack = live.event, a.system(o.unguarded), o.slack
	if err := a.underPolicy(e, x); err != nil {
		return nil, err
	}
	closeLab, err := a.withLab(ctx, e, x)
	if err != nil {
		return nil, err
	}
	defer closeLab()
	run, err := e.Run(ctx, x)
	live.close()
	if run == "" {
		return nil, err
	}
	r := live.folder.Result()
	if err != nil {
		fmt.Fprintln(a.stderr, "simian: "+err.Error())
	}
	a.remember(ctx, r)
	return r, nil
}

// sweep takes back what earlier runs left, before anything new is broken.
func (a *app) sweep(ctx context.Context, w *writable) error {
	taken, err := a.rollbackAll(ctx, w)
	for _, t := range taken {
		fmt.Fprintln(a.stderr, "an earlier run's process is gone: "+t.String())
	}
	if err != nil {
		return fmt.Errorf("%w\n        nothing new was broken; see simian status", err)
	}
	return nil
}

// fold reads the journal of a run into its result.
func (a *app) fold(ctx context.Context, s *journal.Store, run experiment.RunID) (*report.Result, error) {
	f := report.NewFolder(run)
	if err := s.Each(ctx, run, func(e *experiment.Event) error { f.Add(e); return nil }); err != nil {
		return f.Result(), err
	}
	return f.Result(), nil
}

// remember puts a result into the history. The journal is the truth: that it
// cannot be indexed makes no result worse.
func (a *app) remember(ctx context.Context, r *report.Result) {
	if err := journal.OpenHistory(a.dir).Add(context.WithoutCancel(ctx), entry(r)); err != nil {
		fmt.Fprintln(a.stderr, "simian: note run in the history: "+err.Error())
	}
}

func entry(r *report.Result) journal.Entry {
	e := journal.Entry{
		Run: string(r.Run), Experiment: r.Experiment, File: r.File, Verdict: string(r.Verdict),
		Score: r.Score, Started: r.Started, Ended: r.Ended, Labels: r.Labels,
	}
	for _, f := range r.Faults {
		e.Targets += len(f.Targets)
	}
	return e
}

// live shows a run while it goes on.
type live struct {
	folder   *report.Folder
	progress *report.Progress
}

func (a *app) live(toStderr bool) *live {
	w := a.stdout
	if toStderr {
		w = a.stderr
	}
	s, terminal := style(w)
	return &live{progress: report.NewProgress(w, s, terminal)}
}

func (l *live) event(e *experiment.Event) {
	if l.folder == nil {
		l.folder = report.NewFolder(e.Run)
	}
	l.folder.Add(e)
	l.progress.Event(e)
}

func (l *live) close() { l.progress.Close() }

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP
// ends. More of them change nothing: everything is being taken back. A reader
// that has gone away is no reason to die either.
func interruptible(ctx context.Context, stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-c:
				if s == unix.SIGPIPE {
					continue
				}
				if ctx.Err() == nil {
					cancel(&engine.Stop{Cause: experiment.CauseInterrupted, Message: unix.SignalName(s.(unix.Signal))})
				} else if s == unix.SIGINT {
					go fmt.Fprintln(stderr, "everything is being taken back; another signal changes nothing")
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(c); close(done); cancel(nil) }
}
