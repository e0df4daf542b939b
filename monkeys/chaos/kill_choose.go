package chaos

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// chooses tells whether k is about other processes than the main one.
func (k *Kill) chooses() bool { return k.Process != "" || k.Pattern != "" }

// validateChoice checks which processes are meant.
func (k *Kill) validateChoice() error {
	_, err := regexp.Compile(k.Pattern)
	switch {
	case err != nil:
		return experiment.Fieldf("pattern", "%q is not a regular expression: %s", k.Pattern, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	case strings.Contains(k.Process, "/"):
		return experiment.Fieldf("process", "%q is a path: give the last part of it, %q", k.Process, filepath.Base(k.Process))
	case k.Process == "simian" || strings.HasPrefix(k.Process, "simian-"):
		return &experiment.FieldError{Field: "process", Err: fmt.Errorf("%q is Simian itself: %w", k.Process, experiment.ErrProtected)}
	case k.Count < 0:
		return experiment.Fieldf("count", "%d is no number of processes", k.Count)
	case k.Count > 0 && !k.chooses():
		return experiment.Fieldf("count", "goes with process or pattern: the main process is one")
	}
	return nil
}

// planChosen plans the signal for those processes of the target that k names.
func (k *Kill) planChosen(run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	found, err := k.choose(t)
	if err != nil {
		return nil, err
	}
	if k.Count > 0 && k.Count < len(found) {
		found = draw(run, found, k.Count)
	}
	for _, n := range found {
		if err := op.CheckSignal(n.Process, n.Name); err != nil {
			return nil, err
		}
	}
	signals := op.NewSignals(k.fs, found, k.signal(), t.Name)
	if slices.ContainsFunc(found, func(n op.Named) bool { return n.Process == t.PIDs[0] }) {
		signals.Restart = k.restarted(t.Runtime) // the others, who knows who starts them?
		return []experiment.Step{k.step(signals, signals.Restart, t)}, nil
	}
	return []experiment.Step{{Do: signals}}, nil
}

// choose returns the target's processes that match. One of them that must not
// be touched spoils it: it is not left out, since the name is not what it
// seems to be.
func (k *Kill) choose(t experiment.Target) ([]op.Named, error) {
	all, err := k.fs.Within(t)
	if err != nil {
		return nil, err
	}
	protected, err := k.fs.Protected()
	if err != nil {
		return nil, err
	}
	pattern, err := regexp.Compile(k.Pattern)
	if err != nil {
		return nil, err
	}
	var found []op.Named
	var names []string
	for _, s := range all {
		names = append(names, s.Comm)
		name, ok := k.matches(s, pattern)
		if !ok {
			continue
		}
		if why := protected.Why(s.PID); why != "" {
			return nil, fmt.Errorf("%s matches pid %d, which is %s: %w", k.choice(), s.PID, why, experiment.ErrProtected)
		}
		found = append(found, op.Named{Process: s.ID(), Name: name})
	}
	if found == nil {
		return nil, k.nobody(names)
	}
	return found, nil
}

// matches tells whether a process is one that k names, and what it is called.
// One that was forked a moment ago is still called as its parent is.
func (k *Kill) matches(s proc.Stat, pattern *regexp.Regexp) (string, bool) {
	name, ok := k.looksSo(s, pattern)
	if !ok || !k.fs.Settle(s) {
		return name, ok
	}
	if s, err := k.fs.Stat(s.PID); err == nil {
		return k.looksSo(s, pattern)
	}
	return "", false
}

func (k *Kill) looksSo(s proc.Stat, pattern *regexp.Regexp) (string, bool) {
	args, err := k.fs.Cmdline(s.PID)
	if err != nil || len(args) == 0 {
		args = []string{s.Comm} // one that has taken its command line away has its name still
	}
	base := filepath.Base(args[0])
	named := k.Process == "" || k.Process == s.Comm || k.Process == base
	return s.Comm, named && pattern.MatchString(strings.Join(args, " "))
}

// choice is what is looked for, in words.
func (k *Kill) choice() string {
	var words []string
	if k.Process != "" {
		words = append(words, fmt.Sprintf("process %q", k.Process))
	}
	if k.Pattern != "" {
		words = append(words, fmt.Sprintf("pattern %q", k.Pattern))
	}
	return strings.Join(words, " and ")
}

// nobody says that no process matches, and what there is.
func (k *Kill) nobody(names []string) error {
	slices.Sort(names)
	names = slices.Compact(names)
	hint := ""
	if near := experiment.Nearest(k.Process, names); k.Process != "" && near != "" && near != k.Process {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	}
	const most = 20
	if more := len(names) - most; more > 1 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("none of its processes is %s%s: %w\n        processes: %s", k.choice(), hint, experiment.ErrNoMatch, strings.Join(names, " "))
}

// draw takes so many of a list, by a lot that falls the same way whenever the
// same run plans.
func draw(run experiment.RunID, list []op.Named, count int) []op.Named {
	lot := func(n op.Named) uint64 {
		h := fnv.New64a()
		fmt.Fprint(h, run, n.Process.Handle())
		return h.Sum64()
	}
	list = slices.SortedFunc(slices.Values(list), func(a, b op.Named) int { return cmp.Compare(lot(a), lot(b)) })[:count]
	slices.SortFunc(list, func(a, b op.Named) int { return cmp.Compare(a.Process.PID, b.Process.PID) })
	return list
}
