package targets_test

import (
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets"
	"github.com/simianhq/simian/targets/native"
)

func TestAll(t *testing.T) {
	t.Parallel()
	for name, build := range targets.All(proc.Host(), native.NewCurrent(proc.Host())) {
		fields := experiment.Fields(build())
		if len(fields) == 0 {
			t.Errorf("%s has no fields", name)
		}
		for _, f := range fields {
			if f.Doc == "" {
				t.Errorf("%s: field %s has no words", name, f.Name)
			}
		}
		if _, ok := build().(experiment.Validator); !ok {
			t.Errorf("%s does not validate", name)
		}
	}
}
