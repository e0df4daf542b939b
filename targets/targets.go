// Package targets is the catalogue of selectors.
package targets

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/targets/process"
)

// All returns every selector, by the name that files call it. They read the
// host through fs.
func All(fs proc.FS) experiment.Catalog[experiment.Selector] {
	return experiment.Catalog[experiment.Selector]{
		"process": process.New(fs),
	}
}
