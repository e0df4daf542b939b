package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// selectUnit returns all that runs in a systemd unit as one target. A user's
// unit of the same name is another, and so another target.
func (p *Process) selectUnit(ctx context.Context) ([]experiment.Target, error) {
	unit := unitName(p.Unit)
	pids, err := p.fs.PIDs()
	if err != nil {
		return nil, err
	}
	groups, units := map[string][]int{}, map[string]bool{}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := p.systemdPath(pid)
		if whole, ok := cutAt(path, unit); ok {
			groups[whole] = append(groups[whole], pid)
		}
		if own := lastUnit(path); own != "" {
			units[own] = true
		}
	}
	var targets []experiment.Target
	for _, whole := range slices.Sorted(maps.Keys(groups)) {
		t, err := p.unitTarget(unit, whole, groups[whole])
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("select unit %s: %w", unit, err)
		}
		targets = append(targets, t)
	}
	if len(targets) > 0 {
		return targets, nil
	}
	what := "nothing runs in unit " + unit
	if near := experiment.Nearest(unit, slices.Sorted(maps.Keys(units))); near != "" && near != unit {
		what += fmt.Sprintf(" (did you mean %q?)", near)
	}
	return nil, noMatch(what, nil)
}

func (p *Process) unitTarget(unit, path string, pids []int) (experiment.Target, error) {
	t, err := p.group(func() ([]int, error) {
		return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
			whole, ok := cutAt(p.systemdPath(pid), unit)
			return !ok || whole != path
		}), nil
	})
	if err != nil {
		return t, err
	}
	t.Cgroup = widen(t.Cgroup, func(own experiment.CgroupDir) (experiment.CgroupDir, bool) {
		whole, ok := cutAt(own.Path, unit)
		if !ok {
			return own, false
		}
		dir, err := proc.StatCgroup(whole)
		return dir, err == nil
	})
	t.Name, t.ID, t.Workload = unit, t.PIDs[0].Handle(), unit
	for _, dir := range []experiment.CgroupDir{t.Cgroup.V2, t.Cgroup.V1["systemd"]} {
		if _, ok := cutAt(dir.Path, unit); ok {
			t.ID = dir.Handle()
		}
	}
	t.Labels["unit"] = unit
	return t, nil
}

// unitSuffixes are the kinds of units that have processes, or group those
// that have (systemd.unit(5)).
func unitSuffixes() []string {
	return []string{".service", ".scope", ".slice", ".socket", ".mount", ".swap"}
}

// unitName adds the .service that may be left out, as systemctl(1) does.
func unitName(name string) string {
	if slices.Contains(unitSuffixes(), filepath.Ext(name)) {
		return name
	}
	return name + ".service"
}

// systemdPath returns where systemd has put a process, "" where it is gone: in
// its own hierarchy or, where there is none, in version 2's.
func (p *Process) systemdPath(pid int) string {
	paths, err := p.fs.CgroupPaths(pid)
	if err != nil {
		return ""
	}
	if path := paths["systemd"]; path != "" && path != "/" {
		return path
	}
	return paths[""]
}

// cutAt cuts a path after the last component that is the unit's. Systemd
// writes an underscore before a name that the kernel could take for a file of
// its own.
func cutAt(path, unit string) (string, bool) {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if parts[i] == unit || parts[i] == "_"+unit {
			return strings.Join(parts[:i+1], "/"), true
		}
	}
	return "", false
}

// lastUnit returns the unit a process is in, the innermost but for slices.
func lastUnit(path string) string {
	parts := strings.Split(path, "/")
	for _, part := range slices.Backward(parts) {
		if ext := filepath.Ext(part); ext != ".slice" && slices.Contains(unitSuffixes(), ext) {
			return strings.TrimPrefix(part, "_")
		}
	}
	return ""
}
