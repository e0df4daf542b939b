package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/simianhq/simian/experiment"
)

// last returns the last value of a flag, and whether it was given.
func (in *injection) last(flag string) (string, bool) {
	v := *in.given[flag]
	if len(v) == 0 {
		return "", false
	}
	return v[len(v)-1], true
}

// document writes the experiment file that the flags stand for.
func (in *injection) document(c *cobra.Command) (string, error) {
	fault, err := in.faultSection(c)
	if err != nil {
		return "", err
	}
	target, err := in.targetSection()
	if err != nil {
		return "", err
	}
	action := node{}
	action.put(fault, "fault")
	action.put(target, "target")
	for flag, name := range map[string]string{"on-restart": "onRestart"} {
		if v, ok := in.last(flag); ok {
			action.put(quoted(v), name)
		}
	}
	for _, name := range []string{"for", "after", "irreversible"} {
		if v, ok := in.last(name); ok {
			action.put(guessed(v), name)
		}
	}
	doc := node{}
	doc.put(node{text: experiment.APIVersion}, "apiVersion")
	doc.put(node{text: experiment.Kind}, "kind")
	doc.put(node{text: "inject-" + in.fault}, "metadata", "name")
	if v, ok := in.last("lab"); ok {
		doc.put(quoted(v), "spec", "lab", "name")
	}
	doc.put(node{list: []node{action}}, "spec", "method")
	for _, bound := range [][2]string{{"blast-targets", "targets"}, {"blast-percent", "percent"}, {"min-healthy", "minHealthy"}} {
		if v, ok := in.last(bound[0]); ok {
			doc.put(guessed(v), "spec", "blastRadius", bound[1])
		}
	}
	if v, ok := in.last("recovery"); ok {
		doc.put(guessed(v), "spec", "recovery", "within")
	}
	if c.Flags().Changed("seed") {
		doc.put(node{text: fmt.Sprint(in.file.seed)}, "spec", "seed")
	}
	var b strings.Builder
	doc.write(&b, "")
	return b.String(), nil
}

func (in *injection) faultSection(c *cobra.Command) (node, error) {
	n := node{}
	n.put(node{text: in.fault}, "type")
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if field, ok := in.fields[f.Name]; ok && len(*in.given[f.Name]) > 0 {
			n.put(valueOf(field, *in.given[f.Name]), field.Name)
		}
	})
	return n, pairs(&n, "set", *in.given["set"])
}

func (in *injection) targetSection() (node, error) {
	n, kind := node{}, ""
	for _, k := range in.kinds {
		values := *in.given[k]
		switch {
		case len(values) == 0:
			continue
		case kind != "":
			return n, usage(fmt.Errorf("--%s and --%s: one type of target at a time", kind, k))
		case k == "process" && len(values) > 1:
			return n, usage(errors.New("--process is given twice: one name or pid (--target adds fields, such as --target port=80)"))
		}
		kind = k
		n.put(node{text: k}, "type")
		selected(&n, k, values)
	}
	if err := pairs(&n, "target", *in.given["target"]); err != nil {
		return n, err
	}
	if _, lab := in.last("lab"); kind == "native" && !lab {
		return n, usage(errors.New("--native means containers of a lab: say which one stands, with --lab NAME (simian lab ps lists them)"))
	}
	if len(n.fields) == 0 {
		return n, usage(fmt.Errorf("no target: say which, with one of --%s\n        see simian inject %s --help", strings.Join(in.kinds, " --"), in.fault))
	}
	if v, ok := in.last("mode"); ok {
		mode, number, with := strings.Cut(v, ":")
		n.put(quoted(mode), "mode")
		if with && mode == string(experiment.ModeFixed) {
			n.put(guessed(number), "count")
		} else if with {
			n.put(guessed(number), "percent")
		}
	}
	if v, ok := in.last("group-by"); ok {
		n.put(quoted(v), "groupBy")
	}
	return n, nil
}

// blame names the flag in the place of file and line, and keeps the exit code.
func (in *injection) blame(err error) error {
	var f *experiment.FileError
	if !errors.As(err, &f) || f.File != flagsFile {
		return err
	}
	code := exitCode(err)
	if flag := in.flagOf(f.Path); flag != "" {
		return &exitError{code, fmt.Errorf("--%s: %w", flag, f.Err)}
	}
	return &exitError{code, f.Err}
}

// flagOf returns the flag that a place of the file comes from, "" where there
// is none.
func (in *injection) flagOf(path string) string {
	below := strings.TrimPrefix(path, "spec.method[0].")
	part, field, _ := strings.Cut(below, ".")
	field, _, _ = strings.Cut(strings.Split(field, "[")[0], ".")
	switch {
	case part == "fault" && field != "":
		for flag, f := range in.fields {
			if f.Name == field {
				return flag
			}
		}
		return "set"
	case part == "target":
		if field == "mode" || field == "count" || field == "percent" {
			return "mode"
		} else if field == "groupBy" {
			return "group-by"
		}
		return in.kind()
	case path == "spec.blastRadius.targets":
		return "blast-targets"
	case path == "spec.blastRadius.percent":
		return "blast-percent"
	case path == "spec.blastRadius.minHealthy":
		return "min-healthy"
	case path == "spec.recovery.within":
		return "recovery"
	case strings.HasPrefix(path, "spec.lab"):
		return "lab"
	}
	if flag := kebab(part); flag == "for" || flag == "after" || flag == "on-restart" || flag == "irreversible" {
		return flag
	}
	return ""
}

// kind returns the flag that named the targets.
func (in *injection) kind() string {
	for _, k := range in.kinds {
		if len(*in.given[k]) > 0 {
			return k
		}
	}
	return "target"
}
