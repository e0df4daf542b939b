// Package exhaust holds what there is only so much of, until there is no more:
// pids of a cgroup, connections to a listener. It is the work of helpers
// (internal/helper): what they hold goes with them. The package imports the
// standard library only.
package exhaust

import "time"

// The names of the helpers: argv[0].
const (
	PIDsName        = "simian-exhaust-pids"
	ConnectionsName = "simian-exhaust-connections"
)

// again is how often what was given back is taken anew.
const again = 10 * time.Millisecond
