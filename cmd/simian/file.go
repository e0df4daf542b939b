package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/report"
)

func (a *app) system(unguarded bool) proc.System {
	return proc.System{FS: a.fs, Unguarded: unguarded, Objects: a.kube}
}

// validation is what validate says of one file.
type validation struct {
	File  string `json:"file"`
	Valid bool   `json:"valid"`
	Error string `json:"error,omitempty"`
}

func (a *app) validateCommand() *cobra.Command {
	var file fileOptions
	var out output
	c := &cobra.Command{
		Use:     "validate FILE …",
		Short:   "Check experiment files, without looking at any target",
		Long:    "Validate reads each file as run does, and touches and looks at nothing else.\n" + plainExitCodes,
		Example: "  simian validate examples/quickstart/*.yaml",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly("FILE")(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			return a.validate(c, args, &file, asJSON)
		},
	}
	file.add(c)
	out.add(c)
	return c
}

func (a *app) validate(c *cobra.Command, paths []string, o *fileOptions, asJSON bool) error {
	var failed error
	list := make([]validation, 0, len(paths))
	for _, path := range paths {
		v := validation{File: path, Valid: true}
		if _, err := a.load(c, path, o); err != nil {
			v.Valid, v.Error = false, err.Error()
			failed = &exitError{code: experiment.ExitUsage}
		}
		list = append(list, v)
		switch {
		case asJSON:
		case v.Valid:
			fmt.Fprintln(a.stdout, path+": ok")
		default:
			fmt.Fprintln(a.stderr, "simian: "+v.Error)
		}
	}
	if asJSON {
		if err := writeJSON(a.stdout, list); err != nil {
			return err
		}
	}
	return failed
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON Schema of the experiment file",
		Long:    "Schema prints the JSON Schema (2020-12) of the experiment file, for editors.\n" + plainExitCodes,
		Example: "  simian schema > simian.schema.json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := a.loader().Schema()
			if err == nil {
				_, err = fmt.Fprintf(a.stdout, "%s\n", schema)
			}
			return err
		},
	}
}

func (a *app) planCommand() *cobra.Command {
	var file fileOptions
	var out output
	c := &cobra.Command{
		Use:   "plan FILE",
		Short: "Print every step that run would make, and its undo; changes nothing",
		Long: `Plan finds the targets, applies the blast radius and prints each step with its
undo. It changes nothing. Run plans again: what it finds then may differ.
` + plainExitCodes,
		Example: "  simian plan examples/quickstart/worker-killed.yaml",
		Args:    exactly("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			x, err := a.load(c, args[0], &file)
			if err != nil {
				return err
			}
			view, err := a.plan(c.Context(), x)
			if err != nil {
				return place(x, err)
			}
			if asJSON {
				return writeJSON(a.stdout, view)
			}
			return view.print(a.stdout)
		},
	}
	file.add(c)
	out.add(c)
	return c
}

// plan plans x, and the lab that it launches.
func (a *app) plan(ctx context.Context, x *experiment.Experiment) (plan, error) {
	const run = "plan" // in the place of its name
	e := a.engine(nil)
	if err := a.underPolicy(e, x); err != nil {
		return plan{}, err
	}
	closeLab, err := a.withLab(ctx, e, x)
	if err != nil {
		return plan{}, err
	}
	defer closeLab()
	plans, err := e.Plan(ctx, x, run)
	if err != nil {
		return plan{}, err
	}
	view := planOf(x, plans)
	steps, err := e.PlanLab(run)
	for _, s := range steps {
		do, undo := engine.Describe(s)
		view.Lab = append(view.Lab, planStep{do, undo})
	}
	return view, err
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// plan is what the plan command prints.
type plan struct {
	Experiment string       `json:"experiment"`
	Seed       uint64       `json:"seed"`
	Lab        []planStep   `json:"lab,omitempty"` // what launching it takes
	Actions    []planAction `json:"actions"`
}

type planAction struct {
	Name    string       `json:"name"`
	Type    string       `json:"type"`
	Backend string       `json:"backend,omitempty"`
	Targets []planTarget `json:"targets"`
	Scope   int          `json:"scope"`             // running targets that the selector found
	GroupBy string       `json:"groupBy,omitempty"` // the mode is of each group
	Limited string       `json:"limited,omitempty"`
	Notes   []string     `json:"notes,omitempty"`
	For     string       `json:"for,omitempty"`
	Repeat  string       `json:"repeat,omitempty"`    // how it strikes again: "2s on, 8s off"
	Restart string       `json:"onRestart,omitempty"` // stop or fail
	Pending bool         `json:"pending,omitzero"`    // its steps are planned once the lab is up
	Steps   []planStep   `json:"steps"`
}

type planTarget struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	ID   string `json:"id"`
	PIDs []int  `json:"pids"`
}

type planStep struct {
	Do   string `json:"do"`
	Undo string `json:"undo"` // "none": it cannot be taken back
}

func planOf(x *experiment.Experiment, plans []engine.ActionPlan) plan {
	view := plan{Experiment: x.Metadata.Name, Seed: engine.Seed(x, "plan")}
	for i, p := range plans {
		spec := x.Spec.Method[i]
		action := planAction{Name: spec.Name, Type: spec.Type, Backend: p.Backend, Scope: p.Scope, Limited: p.Limited, Notes: p.Notes}
		if spec.For > 0 {
			action.For = spec.For.String()
		}
		action.Repeat, action.GroupBy = spec.Repeat.String(), string(spec.Target.GroupBy)
		if spec.OnRestart != experiment.RestartReinject {
			action.Restart = string(spec.OnRestart)
		}
		for _, t := range p.Targets {
			target := planTarget{Kind: t.Kind, Name: t.Name, ID: t.ID}
			action.Pending = action.Pending || p.Pending
			for _, pid := range t.PIDs {
				target.PIDs = append(target.PIDs, pid.PID)
			}
			action.Targets = append(action.Targets, target)
		}
		for _, s := range p.Steps {
			do, undo := engine.Describe(s)
			action.Steps = append(action.Steps, planStep{do, undo})
		}
		view.Actions = append(view.Actions, action)
	}
	return view
}

func (p plan) print(w io.Writer) error {
	targets, steps := 0, 0
	for _, a := range p.Actions {
		targets, steps = targets+len(a.Targets), steps+len(a.Steps)
	}
	fmt.Fprintf(w, "%s: %s, %s, %s; nothing was changed\n", p.Experiment,
		count(len(p.Actions), "action"), count(targets, "target"), count(steps, "step"))
	if len(p.Lab) > 0 {
		fmt.Fprintln(w, "  lab")
		printSteps(w, p.Lab)
	}
	for _, a := range p.Actions {
		a.print(w)
	}
	return nil
}

func (a planAction) print(w io.Writer) {
	fmt.Fprintf(w, "  %s (%s", a.Name, a.Type)
	if a.Backend != "" {
		fmt.Fprintf(w, ", backend %s", a.Backend)
	}
	if a.For != "" {
		fmt.Fprintf(w, ", for %s", a.For)
	}
	if a.Repeat != "" {
		fmt.Fprintf(w, ", %s", a.Repeat)
	}
	if a.Restart != "" {
		fmt.Fprintf(w, ", onRestart: %s", a.Restart)
	}
	fmt.Fprintln(w, ")")
	for _, t := range a.Targets {
		pid := ""
		if len(t.PIDs) > 0 {
			pid = fmt.Sprintf(" (pid %d", t.PIDs[0])
			if len(t.PIDs) > 1 {
				pid += fmt.Sprintf(" and %d more", len(t.PIDs)-1)
			}
			pid += ")"
		}
		fmt.Fprintf(w, "    → %s %s%s\n", t.Kind, report.Printable(t.Name), pid)
	}
	if a.Pending {
		fmt.Fprintln(w, "    its steps are planned once the lab is up")
	}
	printSteps(w, a.Steps)
	for _, note := range a.Notes {
		fmt.Fprintf(w, "    note: %s\n", report.Printable(note))
	}
	fmt.Fprintf(w, "    blast radius: %d of %s", len(a.Targets), count(a.Scope, "running target"))
	if a.GroupBy != "" {
		fmt.Fprintf(w, ", drawn from each %s", strings.TrimPrefix(report.Printable(a.GroupBy), string(experiment.ByLabel)))
	}
	if a.Limited != "" {
		fmt.Fprintf(w, "; %s", a.Limited)
	}
	fmt.Fprintln(w)
}

func printSteps(w io.Writer, steps []planStep) {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for i, s := range steps {
		fmt.Fprintf(tw, "    %3d  %s\tundo  %s\n", i+1, report.Printable(s.Do), report.Printable(s.Undo))
	}
	_ = tw.Flush()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// writeJSONLine writes v as JSON on one line.
func writeJSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
