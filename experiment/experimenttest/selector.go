package experimenttest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// SelectorCase is a selector that finds something.
type SelectorCase struct {
	Selector experiment.Selector
	// Targets decodes the selector, as a guardian does that counts the
	// workloads again.
	Targets experiment.Catalog[experiment.Selector]
	// Want holds the names that are found, in any order; nil asks for one or
	// more of any name.
	Want []string
	// None, where given, finds nothing.
	None experiment.Selector
}

// Selector asks of a selector what every selector must do: it finds the same
// in the same order each time, only what is alive, under IDs of their own, with
// handles that are whole; it gives ErrNoMatch where nothing matches; and it
// survives the journal.
func Selector(t testing.TB, c SelectorCase) {
	t.Helper()
	part(t, "finds", func(t testing.TB) {
		targets := selected(t, c.Selector)
		c.checkNames(t, targets)
		ids := map[string]bool{}
		for _, target := range targets {
			checkTarget(t, target)
			if ids[target.ID] {
				t.Errorf("two targets have the ID %q", target.ID)
			}
			ids[target.ID] = true
		}
	})
	part(t, "is stable", func(t testing.TB) {
		first := idsOf(selected(t, c.Selector))
		for range 3 {
			if again := idsOf(selected(t, c.Selector)); !slices.Equal(first, again) {
				t.Errorf("it found %q, then %q", first, again)
			}
		}
	})
	part(t, "survives the journal", c.survives)
	if c.None != nil {
		part(t, "none", func(t testing.TB) {
			targets, err := c.None.Select(bounded(t))
			if !errors.Is(err, experiment.ErrNoMatch) || len(targets) > 0 {
				t.Errorf("nothing matches, and it gives %d targets and %v, not ErrNoMatch", len(targets), err)
			}
		})
	}
}

func (c SelectorCase) checkNames(t testing.TB, targets []experiment.Target) {
	t.Helper()
	if len(targets) == 0 {
		t.Fatalf("it finds nothing, and gives no error")
	}
	var got []string
	for _, target := range targets {
		got = append(got, target.Name)
	}
	slices.Sort(got)
	if want := slices.Sorted(slices.Values(c.Want)); c.Want != nil && !slices.Equal(got, want) {
		t.Errorf("it finds %q, want %q", got, want)
	}
}

func (c SelectorCase) survives(t testing.TB) {
	codec := experiment.Codec{Targets: c.Targets}
	e := experiment.Event{Kind: experiment.EventBegin, Header: &experiment.Header{Experiment: experiment.Summary{
		Actions: []experiment.ActionSummary{{Target: experiment.TargetSpec{Selector: c.Selector}}},
	}}}
	line, err := codec.Marshal(&e)
	if err != nil {
		t.Fatalf("it cannot be written to the journal: %v", err)
	}
	var again experiment.Event
	if err := codec.Decoder()(line, &again); err != nil {
		t.Fatalf("it cannot be read from the journal: %v\n%s", err, line)
	}
	before, after := idsOf(selected(t, c.Selector)), idsOf(selected(t, again.Header.Experiment.Actions[0].Target.Selector))
	if !slices.Equal(before, after) {
		t.Errorf("it finds %q, and read from the journal %q", before, after)
	}
}

func selected(t testing.TB, s experiment.Selector) []experiment.Target {
	t.Helper()
	targets, err := s.Select(bounded(t))
	if err != nil {
		t.Fatalf("Select: %v", err)
	}
	return targets
}

func idsOf(targets []experiment.Target) []string {
	ids := make([]string, len(targets))
	for i, t := range targets {
		ids[i] = t.ID
	}
	return ids
}

func checkTarget(t testing.TB, target experiment.Target) {
	t.Helper()
	oneLine(t, "the kind of a target", target.Kind)
	oneLine(t, "the name of a target", target.Name)
	oneLine(t, "the ID of a target", target.ID)
	if len(target.PIDs) == 0 && target.Root == "" && target.Runtime == nil && target.Object == nil {
		t.Errorf("%s has no handle at all", target.Name)
	}
	for _, p := range target.PIDs {
		if err := alive(p); err != nil {
			t.Errorf("%s: %v", target.Name, err)
		}
	}
	for name, ns := range map[string]experiment.Namespace{"net": target.Net, "mount": target.Mount, "pid": target.PID, "user": target.User} {
		if ns != (experiment.Namespace{}) && (ns.Inode == 0 || ns.Via.PID <= 0 || ns.Via.Start == 0) {
			t.Errorf("%s: half of its %s namespace is missing: %+v", target.Name, name, ns)
		}
	}
	checkCgroup(t, target)
	if r := target.Runtime; r != nil && (r.Runtime == "" || r.ID == "" || r.Started == "") {
		t.Errorf("%s: a part of its runtime is missing: %+v", target.Name, *r)
	}
	if o := target.Object; o != nil && (o.Kind == "" || o.Name == "" || o.UID == "") {
		t.Errorf("%s: a part of its object is missing: %+v", target.Name, *o)
	}
}

func checkCgroup(t testing.TB, target experiment.Target) {
	t.Helper()
	dirs := map[string]experiment.CgroupDir{}
	if target.Cgroup.V2 != (experiment.CgroupDir{}) {
		dirs["v2"] = target.Cgroup.V2
	}
	for controller, dir := range target.Cgroup.V1 {
		dirs[controller] = dir
	}
	for name, dir := range dirs {
		if !strings.HasPrefix(dir.Path, "/") || dir.Inode == 0 {
			t.Errorf("%s: its cgroup of %s is not whole: %+v", target.Name, name, dir)
		}
	}
}

// alive tells whether a process is the one meant: the number after its name,
// which may hold spaces, is the state, and the 20th its start (proc_pid_stat(5)).
func alive(p experiment.ProcessID) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return fmt.Errorf("%s is not alive", p)
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return fmt.Errorf("%s: its stat is %q", p, text)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	switch {
	case err != nil || start != p.Start:
		return fmt.Errorf("%s began at %s, not at %d: it is another one", p, fields[19], p.Start)
	case fields[0] == "Z" || fields[0] == "X":
		return fmt.Errorf("%s is dead (state %s)", p, fields[0])
	}
	return nil
}
