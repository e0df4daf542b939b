package experiment

import (
	"errors"
	"fmt"
	"strings"
)

// GroupBy says what makes a group of the targets found: workload, or label:NAME.
// The mode is then of each group.
type GroupBy string

// ByWorkload groups targets by the workload they are of; ByLabel, with a
// label's name behind it, by that label's value.
const (
	ByWorkload GroupBy = "workload"
	ByLabel    GroupBy = "label:"
)

// Group returns the group that t is in, and whether it is in one. A target of
// no workload is a group of its own; one without the label is in none.
func (g GroupBy) Group(t Target) (group string, ok bool) {
	label, byLabel := strings.CutPrefix(string(g), string(ByLabel))
	switch {
	case g == "":
		return "", true
	case byLabel:
		group, ok = t.Labels[label]
		return group, ok
	case t.Workload == "":
		return t.ID, true
	}
	return t.Workload, true
}

func (g GroupBy) check() error {
	switch label, byLabel := strings.CutPrefix(string(g), string(ByLabel)); {
	case g == "", g == ByWorkload, byLabel && label != "":
		return nil
	case byLabel:
		return Fieldf("groupBy", "label: without a name behind it, as in label:team")
	default:
		why := fmt.Sprintf("%s groups nothing: say workload, or label: and the label's name", quote(string(g)))
		if near := Nearest(string(g), []string{string(ByWorkload)}); near != "" {
			why += fmt.Sprintf(" (did you mean %q?)", near)
		}
		return &FieldError{"groupBy", errors.New(why)}
	}
}
