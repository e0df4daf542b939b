// Package op is the only code that changes a Linux system. Each op is one
// small change, held as plain data: it compares the identity of its object
// right before it acts, and gives experiment.ErrGone where that is another.
package op

import (
	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// All returns the catalogue of ops. Journals are decoded with it.
func All(fs proc.FS) experiment.Catalog[experiment.Op] {
	return experiment.Catalog[experiment.Op]{
		"signal":  func() experiment.Op { return &Signal{fs: fs} },
		"stop":    func() experiment.Op { return &Stop{fs: fs} },
		"freezer": func() experiment.Op { return &Freezer{fs: fs} },
	}
}
