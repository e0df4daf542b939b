package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/engine"
)

// injectCommand has a command for each fault. They are made only where the
// command line speaks of them: their flags are many.
func (a *app) injectCommand(args []string) *cobra.Command {
	c := &cobra.Command{
		Use:   "inject FAULT",
		Short: "Inject one fault without a file, put it back, and judge",
		Long: `Inject makes an experiment from flags and runs it as run does: journal, guardian,
blast radius, rollback and verdict are the same. --print prints the experiment
file instead. Simian inject FAULT --help lists the fields of a fault.
` + exitCodes,
		Example: `  simian inject freeze --process nginx --for 10s
  simian inject latency --process 812 --delay 100ms --ports 5432 --for 30s
  simian inject kill --native web --lab shop --mode all
  simian inject latency --process nginx --loss 5 --for 1m --print > loss.yaml`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(errors.New("FAULT is missing: simian inject FAULT [flags]\n        see simian list faults"))
			}
			return usage(unknownFault(args[0], a.loader().Faults.Names()))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	c.FParseErrWhitelist.UnknownFlags = true // they are of a fault that is misspelt
	if !slices.Contains(args, "inject") {
		return c
	}
	l := a.loader()
	for _, name := range l.Faults.Names() {
		c.AddCommand(a.injectFault(l, name))
	}
	return c
}

func unknownFault(name string, known []string) error {
	hint := ""
	if near := experiment.Nearest(name, known); near != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	return fmt.Errorf("unknown fault %q%s\n        faults: %s", name, hint, strings.Join(known, " "))
}

// flagsFile stands for the file where flags make one.
const flagsFile = "flags"

// injection is an experiment of one action, as flags say it.
type injection struct {
	fault  string
	fields map[string]experiment.Field // of the fault, by flag
	kinds  []string                    // of targets
	given  map[string]*[]string        // values of each flag that makes part of the file, in order

	print bool
	run   runOptions
	file  fileOptions
	out   output
}

// The flags of every fault that say where, how long, and how much.
func commonFields() []experiment.Field {
	return []experiment.Field{
		{Name: "for", Type: "duration", Doc: "how long the fault is held"},
		{Name: "after", Type: "duration", Doc: "waits this long before it strikes"},
		{Name: "mode", Type: "text", Doc: "how many of those found: one (default), all, fixed:N, fixed-percent:P, random-max-percent:P"},
		{Name: "group-by", Type: "text", Doc: "the mode is of each workload, or each label:NAME"},
		{Name: "target", Type: "list of text", Doc: "another field of the target's section, as name=value (repeat it for more)"},
		{Name: "lab", Type: "text", Doc: "the standing lab whose containers --native means"},
		{Name: "set", Type: "list of text", Doc: "a field further down in the fault's section, as path=value (repeat it for more)"},
		{Name: "on-restart", Type: "text", Doc: "what is done about a target that restarts: reinject (default), stop or fail"},
		{Name: "irreversible", Type: "boolean", Doc: "allows a fault that Simian cannot take back"},
		{Name: "blast-targets", Type: "whole number", Doc: "targets that may be touched at the most"},
		{Name: "blast-percent", Type: "percent", Doc: "percent of the running targets that may be touched at the most"},
		{Name: "recovery", Type: "duration", Doc: "how soon each workload must have as many targets as before (30s)"},
		{Name: "min-healthy", Type: "number or percentage", Doc: "of each workload, so many stay untouched"},
	}
}

func (a *app) injectFault(l experiment.Loader, fault string) *cobra.Command {
	in := &injection{fault: fault, fields: map[string]experiment.Field{}, kinds: l.Targets.Names(), given: map[string]*[]string{}}
	c := &cobra.Command{
		Use:     fault + " [flags]",
		Short:   "Inject " + fault,
		Long:    "Inject " + fault + " makes an experiment of one action from flags, and runs it.\n" + exitCodes,
		Example: fmt.Sprintf("  simian inject %s --process nginx --for 10s\n  simian inject %s --process nginx --for 10s --print", fault, fault),
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.inject(c, in) },
	}
	c.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName { return pflag.NormalizedName(kebab(name)) })
	for _, f := range commonFields() {
		in.add(c, f.Name, f)
	}
	for _, kind := range in.kinds {
		in.add(c, kind, experiment.Field{Type: "list of text", Doc: "targets of type " + kind + ": " + inWords(kind)})
	}
	c.Flags().BoolVar(&in.print, "print", false, "print the experiment file, and run nothing")
	c.Flags().Uint64Var(&in.file.seed, "seed", 0, "draw targets with this seed")
	c.Flags().BoolVar(&in.file.long, "long", false, "allow the action to last longer than an hour")
	in.run.add(c)
	in.out.add(c)
	var own []string
	for _, f := range experiment.Fields(l.Faults[fault]()) {
		flag := kebab(f.Name)
		if c.Flags().Lookup(flag) != nil || c.Root().PersistentFlags().Lookup(flag) != nil {
			flag = strings.ReplaceAll(fault, ".", "-") + "-" + flag
		}
		in.fields[flag] = f
		in.add(c, flag, f)
		own = append(own, "--"+flag)
	}
	if len(own) > 0 {
		slices.Sort(own)
		c.Long = strings.Replace(c.Long, "and runs it.\n", "and runs it.\nIts fields: "+strings.Join(own, " ")+"\n", 1)
	}
	a.completeInjection(c, in)
	return c
}

// inWords says what the flag of a kind of targets takes.
func inWords(kind string) string {
	if kind == "process" {
		return "a name or a pid"
	}
	return `names, re2: and a pattern, or labels such as app=web; "" for all`
}

// add makes a flag that only keeps what it is given.
func (in *injection) add(c *cobra.Command, name string, f experiment.Field) {
	values := &[]string{}
	in.given[name] = values
	flag := c.Flags().VarPF(&kept{values, f.Type}, name, "", f.Doc)
	if f.Type == "boolean" {
		flag.NoOptDefVal = "true"
	}
}

// kept is a flag's values, as they were given: what they mean is for the
// loader of files to say.
type kept struct {
	values *[]string
	kind   string
}

func (k *kept) String() string     { return "" }
func (k *kept) Type() string       { return k.kind }
func (k *kept) Set(v string) error { *k.values = append(*k.values, v); return nil }

// kebab writes onExisting as on-existing.
func kebab(name string) string {
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return strings.ReplaceAll(b.String(), ".", "-")
}

// inject builds the experiment, and prints or runs it.
func (a *app) inject(c *cobra.Command, in *injection) error {
	asJSON, err := in.out.json()
	if err != nil {
		return err
	}
	if err := in.run.check(); err != nil {
		return err
	}
	text, err := in.document(c)
	if err != nil {
		return err
	}
	l := a.loader()
	l.Long = in.file.long
	x, err := l.Load(flagsFile, []byte(text), nil)
	if err != nil {
		return in.blame(err)
	}
	if in.print {
		_, err := fmt.Fprint(a.stdout, text)
		return err
	}
	r, err := a.runExperiment(c.Context(), x, in.run, asJSON)
	if err != nil {
		return in.blame(place(x, err))
	}
	return a.show(r, asJSON)
}

// add declares the flags of everything that runs an experiment.
func (o *runOptions) add(c *cobra.Command) {
	c.Flags().BoolVar(&o.unguarded, "unguarded", false, "go on where the guardian could not outlive PID 1 of this PID namespace")
	c.Flags().DurationVar(&o.slack, "slack", engine.DefaultSlack, "how long beyond all that the file allows the guardian lets a run stand still")
}

func (o *runOptions) check() error {
	if o.slack <= 0 {
		return usage(fmt.Errorf("--slack %s: want a duration above 0", o.slack))
	}
	return nil
}

// completeInjection completes what flags take, from what is there.
func (a *app) completeInjection(c *cobra.Command, in *injection) {
	words := map[string][]string{
		"for": {"10s", "30s", "1m"}, "mode": {"one", "all", "fixed:", "fixed-percent:", "random-max-percent:"},
		"group-by": {"workload", "label:"}, "on-restart": {"reinject", "stop", "fail"},
	}
	for flag, list := range words {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
	}
	_ = c.RegisterFlagCompletionFunc("lab", a.completeLabs)
	for _, kind := range in.kinds {
		_ = c.RegisterFlagCompletionFunc(kind, func(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return a.targetNames(c.Context(), kind, time.Second), cobra.ShellCompDirectiveNoFileComp
		})
	}
}
