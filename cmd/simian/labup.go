package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/targets/native"
)

// labOptions are what a standing lab is launched with.
type labOptions struct {
	name     string
	profiles []string
	env      []string
	within   time.Duration
}

func (o *labOptions) add(c *cobra.Command) {
	c.Flags().StringVar(&o.name, "name", "", "call the lab so, in place of the Compose project's name")
	c.Flags().StringArrayVar(&o.profiles, "profile", nil, "enable this profile of the Compose file (repeat it for more)")
	c.Flags().StringArrayVar(&o.env, "env", nil, "variable for the Compose file, as `NAME=value` (repeat it for more)")
	c.Flags().DurationVar(&o.within, "within", experiment.DefaultLabWithin.D(), "give up where it is not up and healthy so soon")
}

// project reads the Compose files.
func (o *labOptions) project(ctx context.Context, files []string) (*native.Project, error) {
	env := map[string]string{}
	for _, pair := range o.env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, usage(fmt.Errorf("--env %s: want NAME=value", pair))
		}
		env[name] = value
	}
	if o.within <= 0 {
		return nil, usage(fmt.Errorf("--within %s: want a duration above 0", o.within))
	}
	var paths []string
	for _, file := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	p, err := native.Load(ctx, paths, native.LoadOptions{Profiles: o.profiles, Env: env, Name: o.name})
	return p, usage(err)
}

func (a *app) labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Launch the containers of a Compose file, to be struck by several runs",
		Long: `A lab is the containers of a Compose file, launched by Simian itself: no
container engine is needed. An experiment launches one of its own with
spec.lab.compose, for as long as it runs. A standing lab stays until it is taken
down, and experiments strike it with spec.lab.name.
` + plainExitCodes,
		Example: "  simian lab up examples/shop/compose.yaml\n  simian lab ps shop\n  simian lab down shop",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.labUpCommand(), a.labStandCommand(), a.labPsCommand(), a.labExecCommand(),
		a.logsCommand(), a.labStatsCommand(), a.labDownCommand())
	return c
}

func (a *app) labUpCommand() *cobra.Command {
	var o labOptions
	var out output
	c := &cobra.Command{
		Use:   "up [COMPOSE-FILE]...",
		Short: "Launch a lab, and return once it is up and healthy",
		Long: `Up launches the containers of Compose files (compose.yaml unless others are
named) and returns once each is up, and healthy where it has a health check. A
process in the background keeps them up; when it dies, its guardian takes the
lab down. Needs root.
` + plainExitCodes,
		Example: "  simian lab up examples/shop/compose.yaml\n  simian lab up --name staging compose.yaml compose.override.yaml",
		RunE: func(c *cobra.Command, files []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if len(files) == 0 {
				files = []string{"compose.yaml"}
			}
			return a.labUp(c.Context(), &o, files, asJSON)
		},
	}
	o.add(c)
	out.add(c)
	return c
}

// labUp starts the process that keeps the lab up, and waits until it is.
func (a *app) labUp(ctx context.Context, o *labOptions, files []string, asJSON bool) error {
	p, err := o.project(ctx, files)
	if err != nil {
		return err
	}
	if err := a.nameIsFree(p.Name); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := a.standCommand(o, p, w)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the process that keeps the lab up: %w", err)
	}
	ctx, stop := interruptible(ctx, a.stderr)
	defer stop()
	told := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
	defer told()
	return a.follow(r, cmd, asJSON)
}

// nameIsFree refuses a second lab of one name.
func (a *app) nameIsFree(name string) error {
	labs, err := native.Labs(a.fs, a.dir)
	for _, s := range labs {
		if s.Name == name {
			return usage(fmt.Errorf("a lab called %s stands already (run %s): give another --name, or take it down with simian lab down %s", name, s.Run, name))
		}
	}
	return err
}

func (a *app) standCommand(o *labOptions, p *native.Project, w *os.File) *exec.Cmd {
	args := []string{"lab", "stand", "--state", a.dir, "--name", p.Name, "--within", o.within.String()}
	for _, profile := range o.profiles {
		args = append(args, "--profile", profile)
	}
	for _, env := range o.env {
		args = append(args, "--env", env)
	}
	cmd := exec.Command("/proc/self/exe", append(args, p.Files...)...)
	cmd.Args[0] = "simian"
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// labNews is what the process that keeps a lab up says until it is up, one
// JSON object a line on file descriptor 3.
type labNews struct {
	Line string        `json:"line,omitempty"` // progress
	Up   *native.State `json:"up,omitempty"`   // all is up
	Err  string        `json:"error,omitempty"`
	Code int           `json:"code,omitzero"`
}

// follow shows what comes from the process until the lab is up.
func (a *app) follow(r *os.File, cmd *exec.Cmd, asJSON bool) error {
	dec := json.NewDecoder(r)
	for {
		var n labNews
		if err := dec.Decode(&n); err != nil {
			return fmt.Errorf("launch the lab: its process has ended: %w", errors.Join(err, cmd.Wait()))
		}
		switch {
		case n.Line != "":
			fmt.Fprint(a.stderr, n.Line)
		case n.Err != "":
			_ = cmd.Wait()
			return &exitError{n.Code, errors.New(n.Err)}
		case n.Up != nil && asJSON:
			return writeJSON(a.stdout, n.Up)
		case n.Up != nil:
			fmt.Fprintf(a.stdout, "lab %s is up: %s (run %s)\n", n.Up.Name, count(len(n.Up.Boxes), "container"), n.Up.Run)
			fmt.Fprintf(a.stdout, "        simian lab ps %s · simian lab down %s\n", n.Up.Name, n.Up.Name)
			return nil
		}
	}
}

// labStandCommand is the process that keeps a lab up.
func (a *app) labStandCommand() *cobra.Command {
	var o labOptions
	c := &cobra.Command{
		Use:    "stand COMPOSE-FILE...",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			unix.CloseOnExec(3) // who reads it is to hear of this process's end
			news := &newsWriter{os.NewFile(3, "news")}
			err := a.stand(c.Context(), &o, files, news)
			if err != nil {
				var exit *exitError
				code := exitCode(err)
				if errors.As(err, &exit) {
					code = exit.code
				}
				news.send(labNews{Err: err.Error(), Code: code})
			}
			return err
		},
	}
	o.add(c)
	return c
}

// newsWriter sends news for as long as somebody reads them.
type newsWriter struct{ f *os.File }

func (w *newsWriter) send(n labNews) {
	if w.f != nil {
		_ = json.NewEncoder(w.f).Encode(n)
	}
}

// Write sends progress.
func (w *newsWriter) Write(b []byte) (int, error) {
	w.send(labNews{Line: string(b)})
	return len(b), nil
}

// stand launches a lab, and keeps it until it is told to end.
func (a *app) stand(ctx context.Context, o *labOptions, files []string, news *newsWriter) error {
	p, err := o.project(ctx, files)
	if err != nil {
		return err
	}
	w, err := a.writable()
	if err != nil {
		return err
	}
	defer w.Close()
	ctx, stop := interruptible(ctx, a.stderr)
	defer stop()
	a.stderr = news
	if err := a.sweep(ctx, w); err != nil {
		return err
	}
	lab := native.NewLab(p, a.labEnv())
	defer lab.Close()
	a.lab.Launch(lab)
	e := a.engine(w)
	e.Lab, e.LabSummary = lab, experiment.LabSummary{Name: p.Name, Files: p.Files}
	var failed string
	e.Notify = func(ev *experiment.Event) {
		if ev.Kind == experiment.EventEnd {
			failed = ev.Error
		}
	}
	_, err = e.Stand(ctx, standing(p, o.within), func(experiment.RunID) {
		s := lab.State()
		news.send(labNews{Up: &s})
		_ = news.f.Close()
		news.f = nil
	})
	if err == nil && failed != "" {
		err = errors.New(failed)
	}
	if err == nil && news.f != nil {
		err = &engine.Stop{Cause: experiment.CauseInterrupted, Message: "interrupted: the lab is taken down"}
	}
	return err
}

// standing is the experiment of a lab that stands: nothing is done to it.
func standing(p *native.Project, within time.Duration) *experiment.Experiment {
	never := experiment.Duration(0)
	return &experiment.Experiment{
		Metadata: experiment.Metadata{Name: p.Name}, File: p.Files[0],
		Spec: experiment.Spec{
			Lab:    &experiment.Lab{Compose: p.Files, Within: experiment.Duration(within)},
			Steady: experiment.Steady{For: &never},
		},
	}
}

func (a *app) labDownCommand() *cobra.Command {
	var now bool
	var out output
	c := &cobra.Command{
		Use:   "down LAB",
		Short: "Take a standing lab down, with all that its containers have written",
		Long: `Down asks each container to end (stop_signal), what depends on others first,
gives it its stop_grace_period, and takes the lab down: containers, network,
cgroups, files and volumes. LAB is its name, or the run that launched it. What
its containers have logged stays (simian logs).
` + plainExitCodes,
		Example:           "  simian lab down shop\n  simian lab down shop --now",
		Args:              exactly("LAB"),
		ValidArgsFunction: a.completeLabs,
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			s, err := a.standing(args[0])
			if err != nil {
				return usage(err)
			}
			if now {
				if err := native.NoGrace(native.LabDir(a.dir, s.Run)); err != nil {
					return err
				}
			}
			w, err := a.writable()
			if err != nil {
				return err
			}
			defer w.Close()
			ctx, stop := interruptible(c.Context(), a.stderr)
			defer stop()
			taken, err := a.rollback(ctx, w, s.Run, experiment.CauseInterrupted)
			if told := a.tell(taken, asJSON); err == nil {
				err = told
			}
			return err
		},
	}
	c.Flags().BoolVar(&now, "now", false, "kill the containers, without asking them first")
	out.add(c)
	return c
}

// completeLabs completes the names of labs.
func (a *app) completeLabs(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	labs, _ := native.Labs(a.fs, a.dir)
	var names []string
	for _, s := range labs {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
