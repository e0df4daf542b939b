package experimenttest

import (
	"reflect"
	"testing"

	"github.com/simianhq/simian/experiment"
)

// InspectorCase is an inspector, and something that is wrong.
type InspectorCase struct {
	Inspector experiment.Inspector
	// Ops decodes the ops that mend, as the guardian does.
	Ops experiment.Catalog[experiment.Op]
	// Wrong makes a target that something is wrong with.
	Wrong func(t testing.TB) experiment.Target
	// Right, where given, makes one that nothing is wrong with.
	Right func(t testing.TB) experiment.Target
	// Snapshot reads, from the system, all that mending might change.
	Snapshot func(experiment.Target) string
}

// Inspector asks of an inspector what every inspector must do: it changes
// nothing, finds the same each time, names a rule, and is content once what it
// found is mended.
func Inspector(t testing.TB, c InspectorCase) {
	t.Helper()
	part(t, "finds", c.finds)
	part(t, "mends", c.mends)
	if c.Right != nil {
		part(t, "right", func(t testing.TB) {
			if found := c.inspect(t, c.Right(t)); len(found) > 0 {
				t.Errorf("nothing is wrong, and it finds %v", found)
			}
		})
	}
}

func (c InspectorCase) finds(t testing.TB) {
	target := c.Wrong(t)
	before := c.Snapshot(target)
	found := c.inspect(t, target)
	if len(found) == 0 {
		t.Fatalf("something is wrong, and it finds nothing")
	}
	if again := c.inspect(t, target); !reflect.DeepEqual(found, again) {
		t.Errorf("it found %v, then %v", found, again)
	}
	same(t, "after Inspect", before, func() string { return c.Snapshot(target) }, 0)
	for _, f := range found {
		oneLine(t, "the rule of a finding", f.Rule)
		oneLine(t, "the message of a finding", f.Message)
		if len(f.Mend) > 0 {
			sameSteps(t, "read from the journal", f.Mend, survive(t, experiment.Codec{Ops: c.Ops}, f.Mend))
			describesItself(t, f.Mend)
		}
	}
}

func (c InspectorCase) mends(t testing.TB) {
	target := c.Wrong(t)
	for _, f := range c.inspect(t, target) {
		if len(f.Mend) == 0 {
			continue
		}
		do(t, survive(t, experiment.Codec{Ops: c.Ops}, f.Mend))
		for _, still := range c.inspect(t, target) {
			if still.Rule == f.Rule && still.Message == f.Message {
				t.Errorf("%s: %s: it is mended, and found again", f.Rule, f.Message)
			}
		}
	}
}

func (c InspectorCase) inspect(t testing.TB, target experiment.Target) []experiment.Finding {
	t.Helper()
	found, err := c.Inspector.Inspect(bounded(t), target)
	if err != nil {
		t.Fatalf("Inspect: %v", err)
	}
	return found
}
