package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/simianhq/simian/experiment"
)

// entryOf is one thing that a file can name.
type listEntry struct {
	Kind   string             `json:"kind"` // fault, target, probe or inspector
	Type   string             `json:"type"`
	Fields []experiment.Field `json:"fields"`
}

func entries[T any](kind string, c experiment.Catalog[T], common ...experiment.Field) []listEntry {
	var list []listEntry
	for _, name := range c.Names() {
		list = append(list, listEntry{kind, name, append(experiment.Fields(c[name]()), common...)})
	}
	return list
}

func (a *app) catalogue() []listEntry {
	l := a.loader()
	return slices.Concat(entries("fault", l.Faults), entries("target", l.Targets, experiment.TargetFields()...), entries("probe", l.Probes))
}

func (a *app) listCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:   "list [faults | targets | probes | NAME …]",
		Short: "List the faults, targets and probes, each with its fields",
		Long:  "List prints what an experiment file can name.\n" + plainExitCodes,
		Example: `  simian list
  simian list kill
  simian list -o json`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return listWords(a.catalogue()), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			list, err := choose(a.catalogue(), args)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, list)
			}
			a.printList(list)
			return nil
		},
	}
	out.add(c)
	return c
}

func listWords(all []listEntry) []string {
	var words []string
	for _, e := range all {
		words = append(words, e.Type, e.Kind+"s")
	}
	slices.Sort(words)
	return slices.Compact(words)
}

// choose returns the entries that words name, all of them without words.
func choose(all []listEntry, words []string) ([]listEntry, error) {
	if len(words) == 0 {
		return all, nil
	}
	var chosen []listEntry
	for _, word := range words {
		n := len(chosen)
		for _, e := range all {
			if e.Type == word || e.Kind == word || e.Kind+"s" == word {
				chosen = append(chosen, e)
			}
		}
		if len(chosen) == n {
			near := ""
			if best := experiment.Nearest(word, listWords(all)); best != "" {
				near = fmt.Sprintf(" (did you mean %q?)", best)
			}
			return nil, usage(fmt.Errorf("nothing is called %q%s\n        there are: %s", word, near, strings.Join(listWords(all), " ")))
		}
	}
	return chosen, nil
}

func (a *app) printList(list []listEntry) {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for i, e := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s %s\n", e.Kind, e.Type)
		for _, f := range e.Fields {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", f.Name, f.Type, f.Doc)
		}
	}
	_ = w.Flush()
}

func (a *app) versionCommand() *cobra.Command {
	var out output
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print Simian's version",
		Long:    "Version prints Simian's version, and the version of the journal it writes.\n" + plainExitCodes,
		Example: "  simian version -o json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.stdout, map[string]any{"version": version(), "journal": experiment.JournalFormat})
			}
			_, err = fmt.Fprintf(a.stdout, "simian %s (journal format %d)\n", version(), experiment.JournalFormat)
			return err
		},
	}
	out.add(c)
	return c
}
