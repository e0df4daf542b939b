package chaos

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// All returns the faults of the Chaos Monkey. They read the host through fs.
func All(fs proc.FS) experiment.Catalog[experiment.Fault] {
	return experiment.Catalog[experiment.Fault]{
		"freeze": func() experiment.Fault { return &Freeze{fs: fs} },
		"kill":   func() experiment.Fault { return &Kill{fs: fs} },

		"partition": partitions(op.NewHost(fs)),
	}
}
