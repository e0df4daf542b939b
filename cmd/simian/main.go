// Command simian breaks what runs, watches how the system bears it, puts
// everything back, and judges.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/policy"
	_ "github.com/simianhq/simian/internal/stage" // runs the guardian before the rest is initialised
)

func main() {
	logrus.SetOutput(io.Discard) // compose-go logs what it then returns as errors
	a := newApp(os.Stdin, os.Stdout, os.Stderr)
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// exitError is an error with the exit code that it ends with. Without a
// message everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as wrong usage.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{experiment.ExitUsage, err}
}

// run executes one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root(args)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintln(a.stderr, "simian: "+exit.err.Error())
		}
		return exit.code
	}
	fmt.Fprintln(a.stderr, "simian: "+err.Error())
	return exitCode(err)
}

// exitCode gives the code for an error that has none of its own.
func exitCode(err error) int {
	var file *experiment.FileError
	var stop *engine.Stop
	var refused *policy.RefusedError
	switch {
	case errors.As(err, &refused):
		return experiment.Errored.ExitCode()
	case errors.As(err, &stop) && stop.Cause == experiment.CauseInterrupted:
		return experiment.Aborted.ExitCode()
	case errors.Is(err, os.ErrPermission), errors.Is(err, experiment.ErrUnsupported), errors.Is(err, experiment.ErrBusy):
		if !errors.As(err, &file) || file.Line > 0 {
			return experiment.Errored.ExitCode()
		}
	}
	if errors.As(err, &file) {
		return experiment.ExitUsage
	}
	return experiment.Errored.ExitCode()
}

const exitCodes = `
Exit codes:
  0  pass          every check held, and everything was put back
  1  fail          a check of the hypothesis did not hold, or recovery took too long
  2                wrong usage, or the file is not valid; nothing was touched
  3  aborted       not steady before the fault, interrupted or halted; everything was put back
  4  residue       something is not put back; the report says what, and how to do it by hand
  5  not-injected  the fault was not in force, or its filter matched nothing
  6  error         it could not be run (no permission, runtime gone)`

const plainExitCodes = `
Exit codes:
  0  done
  2  wrong usage, or the file is not valid
  6  it could not be done (no permission, damaged journal)`

func (a *app) root(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "simian",
		Short: "Break what runs, watch how the system bears it, put everything back, and judge",
		Long: `Simian is a chaos engineering toolkit for Linux. An experiment file says what is
broken, where, and what must hold meanwhile. Simian journals every change with
its undo before it makes it, and a guardian puts everything back even when
Simian itself is killed.`,
		Example: `  simian validate shop.yaml     is the file right?
  simian plan shop.yaml         what would it do? (changes nothing)
  simian run shop.yaml          do it, and judge
  simian rollback --all         take back whatever an earlier run left`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w\n        see %s --help", err, c.CommandPath()))
	})
	root.PersistentFlags().StringVar(&a.dir, "state", a.dir, "directory of journals and history")
	root.AddCommand(a.runCommand(), a.injectCommand(args), a.targetsCommand(), a.planCommand(), a.validateCommand(), a.schemaCommand(),
		a.rollbackCommand(), a.statusCommand(), a.runsCommand(), a.reportCommand(), a.reindexCommand(),
		a.labCommand(), a.imageCommand(), a.logsCommand(), a.listCommand(), a.checkCommand(), a.versionCommand())
	root.SuggestionsMinimumDistance = 2
	return root
}

func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	words := ""
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		words = fmt.Sprintf(" (did you mean %q?)", near[0])
	}
	what := "argument"
	if c.HasSubCommands() {
		what = "command"
	}
	return usage(fmt.Errorf("unknown %s %q%s\n        see %s --help", what, args[0], words, c.CommandPath()))
}

// exactly wants so many arguments, each named.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(fmt.Errorf("%s is missing: %s\n        see %s --help", names[len(args)], c.UseLine(), c.CommandPath()))
		case len(args) > len(names):
			return usage(fmt.Errorf("%q is one argument too many: %s\n        see %s --help", args[len(names)], c.UseLine(), c.CommandPath()))
		}
		return nil
	}
}
