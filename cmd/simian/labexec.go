package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/creack/pty"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/targets/native"
)

func (a *app) labExecCommand() *cobra.Command {
	var o execOptions
	c := &cobra.Command{
		Use:   "exec LAB CONTAINER COMMAND [ARG]...",
		Short: "Run a command in a container of a lab",
		Long: `Exec runs a command in a running container: in all of its namespaces and its
cgroup, with its capabilities, its seccomp filter and its environment. On a
terminal the command has one of its own. CONTAINER may be a service that has one
replica.

Exit codes:
  the command's own; 128 and the signal's number where one killed it
  2    wrong usage, or no such lab or container
  6    it could not be done
  126  the command cannot be executed
  127  there is no such command in the container`,
		Example:           "  simian lab exec shop gateway /shop healthcheck http://localhost:8080/healthz\n  simian lab exec shop db-1 sh",
		Args:              cobra.MinimumNArgs(3),
		ValidArgsFunction: a.completeLabs,
		RunE: func(c *cobra.Command, args []string) error {
			return a.labExec(c.Context(), args[0], args[1], args[2:], o)
		},
	}
	c.Flags().SetInterspersed(false)
	c.Flags().StringVarP(&o.user, "user", "u", "", "as this user of the container, in place of the service's")
	c.Flags().StringVarP(&o.dir, "workdir", "w", "", "in this folder of the container, in place of the service's")
	c.Flags().BoolVarP(&o.noTTY, "no-tty", "T", false, "without a terminal of its own")
	return c
}

// execOptions are the flags of exec.
type execOptions struct {
	user, dir string
	noTTY     bool
}

func (a *app) labExec(ctx context.Context, lab, name string, args []string, o execOptions) error {
	s, b, err := a.boxOf(lab, name)
	if err != nil {
		return err
	}
	spec, err := native.ExecSpec(native.LabDir(a.dir, s.Run), b.Name, args)
	if err != nil {
		return err
	}
	if o.user != "" {
		spec.User = o.user
	}
	if o.dir != "" {
		spec.Dir = o.dir
	}
	launcher, err := box.NewLauncher(a.fs)
	if err != nil {
		return err
	}
	defer launcher.Close()
	stdin, isFile := a.stdin.(*os.File)
	stdout, _ := a.stdout.(*os.File)
	stderr, _ := a.stderr.(*os.File)
	x := &inside{launcher: launcher, box: b, spec: spec, in: stdin, out: stdout, err: stderr}
	if isFile && stdout != nil && !o.noTTY && term.IsTerminal(int(stdin.Fd())) && term.IsTerminal(int(stdout.Fd())) {
		return x.onTerminal(ctx)
	}
	return x.plain(ctx)
}

// inside is a command in a container.
type inside struct {
	launcher     *box.Launcher
	box          native.Box
	spec         *box.ExecSpec
	in, out, err *os.File
}

// plain runs it with this process's own streams, and passes signals on.
func (x *inside) plain(ctx context.Context) error {
	passOn, stop := held()
	defer stop()
	p, err := x.launcher.Exec(ctx, x.box.Process, x.spec, box.Stdio{In: x.in, Out: x.out, Err: x.err})
	if err != nil {
		return execError(err)
	}
	go passOn(p)
	return exitOf(p.Wait())
}

// held keeps signals from this process until there is one to pass them on to.
func held() (passOn func(*box.Process), stop func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	passOn = func(p *box.Process) {
		for s := range signals {
			_ = p.Signal(s.(unix.Signal))
		}
	}
	return passOn, func() { signal.Stop(signals) }
}

// onTerminal runs it on a terminal of its own: it cannot put anything into
// this one's input (TIOCSTI).
func (x *inside) onTerminal(ctx context.Context) error {
	master, slave, err := pty.Open()
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	defer master.Close()
	defer slave.Close()
	_ = pty.InheritSize(x.in, master)
	x.spec.TTY = true
	passOn, stop := held() // the terminal is put right again before this process ends
	defer stop()
	p, err := x.launcher.Exec(ctx, x.box.Process, x.spec, box.Stdio{In: slave, Out: slave, Err: slave})
	if err != nil {
		return execError(err)
	}
	slave.Close()
	go passOn(p)
	old, err := term.MakeRaw(int(x.in.Fd()))
	if err == nil {
		defer func() { _ = term.Restore(int(x.in.Fd()), old) }()
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	go func() {
		for range resized {
			_ = pty.InheritSize(x.in, master)
		}
	}()
	go io.Copy(master, x.in) // ends with this process
	_, _ = io.Copy(x.out, master)
	return exitOf(p.Wait())
}

func exitOf(e box.Exit) error {
	switch {
	case e.Signal != 0:
		return &exitError{code: 128 + int(e.Signal)}
	case e.Code != 0:
		return &exitError{code: e.Code}
	}
	return nil
}

func execError(err error) error {
	var e *box.ExecError
	if errors.As(err, &e) {
		return &exitError{e.Code, err}
	}
	return err
}
