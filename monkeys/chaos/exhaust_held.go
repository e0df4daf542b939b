package chaos

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/exhaust"
	"github.com/simianhq/simian/internal/op"
)

const (
	// helperPIDs is how many pids the helper itself may want: they must be
	// free, or it could not begin.
	helperPIDs = 16
	// idleCost is what a thread that does nothing costs the kernel in memory,
	// in bytes, and helperCost what the helper does.
	idleCost   = 32 << 10
	helperCost = 16 << 20
)

// pids plans the helper that fills the target's cgroup.
func (e *Exhaust) pids(run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	dir, v2, err := e.host.FS.OwnController(t, "pids")
	if err != nil {
		return nil, fmt.Errorf("others would have no pids left either: %w", err)
	}
	limit, current, err := pidsOf(dir.Path)
	if err != nil {
		return nil, err
	}
	if limit == 0 {
		return nil, fmt.Errorf("it has no limit of pids (pids.max): the host's would be exhausted: %w", experiment.ErrUnsupported)
	}
	free := limit - current
	take := free - e.Leave
	switch {
	case take < helperPIDs:
		return nil, fmt.Errorf("of its %d pids %d are free: what takes all but %d needs %d for itself (throttle lowers the limit): %w", limit, free, e.Leave, helperPIDs, experiment.ErrUnsupported)
	case v2:
		if err := e.remember(dir, take); err != nil {
			return nil, err
		}
	}
	if err := leastAbove(dir.Path, free); err != nil {
		return nil, err
	}
	return burner(e.host, t, op.Helper{
		Run: run, Name: "exhaust-pids", Program: exhaust.PIDsName, Counts: []experiment.CgroupDir{dir}, Holds: []string{dir.Handle() + "#pids.max"},
		Words: fmt.Sprintf("exhaust for %s: all but %d of its %d pids", t.Name, e.Leave, limit),
	}, exhaust.PIDs{Dir: dir.Path, Leave: e.Leave})
}

// remember refuses what would cost the target its memory: of version 2 what
// the helper needs counts there too.
func (e *Exhaust) remember(dir experiment.CgroupDir, take int) error {
	limit, limited := e.host.FS.MemoryLimit(dir)
	cost := int64(take)*idleCost + helperCost
	if used := e.host.FS.MemoryUse(dir); limited && used+cost > limit {
		return fmt.Errorf("%d idle threads cost about %s of memory, and it uses %s of its %s: leave more, or give it more: %w",
			take, experiment.Size(cost), experiment.Size(used), experiment.Size(limit), experiment.ErrUnsupported)
	}
	return nil
}

// leastAbove refuses a cgroup in one that has fewer pids left: its neighbours
// would have none.
func leastAbove(dir string, free int) error {
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		limit, current, err := pidsOf(up)
		if err != nil {
			return nil // the topmost has no limit, and what is above is no cgroup
		}
		if limit > 0 && limit-current < free {
			return fmt.Errorf("cgroup %s above it has only %d pids free: its neighbours would have none: %w", up, limit-current, experiment.ErrUnsupported)
		}
	}
}

// pidsOf returns a cgroup's limit, 0 for none, and how many there are.
func pidsOf(dir string) (limit, current int, err error) {
	text, err1 := os.ReadFile(filepath.Join(dir, "pids.max"))
	now, err2 := os.ReadFile(filepath.Join(dir, "pids.current"))
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("read the limit of pids: %w", err)
	}
	if word := strings.TrimSpace(string(text)); word != "max" {
		if limit, err = strconv.Atoi(word); err != nil {
			return 0, 0, fmt.Errorf("read the limit of pids: %w", err)
		}
	}
	current, err = strconv.Atoi(strings.TrimSpace(string(now)))
	return limit, current, err
}

// connections plans the helper that connects from inside the target's network.
func (e *Exhaust) connections(run experiment.RunID, t experiment.Target) ([]experiment.Step, error) {
	ns, err := e.host.FS.NetworkOf(t)
	if err != nil {
		return nil, err
	}
	at, err := e.host.FS.Listener(t, e.Port)
	if err != nil {
		return nil, err
	}
	switch at {
	case netip.IPv4Unspecified():
		at = netip.MustParseAddr("127.0.0.1")
	case netip.IPv6Unspecified():
		at = netip.IPv6Loopback()
		if six, err := loopbackOf(e.host.FS, ns, t.Name); err != nil || !six { // as in Docker's networks; it listens to both
			at = netip.MustParseAddr("127.0.0.1")
		}
	}
	to := netip.AddrPortFrom(at, uint16(e.Port))
	return burner(e.host, t, op.Helper{
		Run: run, Name: fmt.Sprintf("exhaust-connections-%d", e.Port), Program: exhaust.ConnectionsName, Net: ns,
		Words: fmt.Sprintf("exhaust for %s: %d connections to %s", t.Name, e.Count, to),
	}, exhaust.Connections{To: to, Count: e.Count})
}
