// Package process finds processes that already run on this host: by pid,
// name, command line, port, cgroup or systemd unit.
package process

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// Process selects running processes. All that is given must hold, and each
// process is a target, or with Group all of them are one. Cgroup and Unit stand
// alone: all the processes in one are one target.
type Process struct {
	PID     int    `json:"pid,omitzero" jsonschema:"the process with this pid"`
	Name    string `json:"name,omitzero" jsonschema:"processes of this name, or whose executable is called so"`
	Command string `json:"command,omitzero" jsonschema:"processes whose whole command line this regular expression matches somewhere"`
	Port    int    `json:"port,omitzero" jsonschema:"processes that listen on this TCP port, or have bound this UDP port"`
	Cgroup  string `json:"cgroup,omitzero" jsonschema:"all processes in this cgroup and below it, as one target: its directory, or its path from the hierarchy's root"`
	Unit    string `json:"unit,omitzero" jsonschema:"all processes of this systemd unit, as one target; .service may be left out"`

	NetNS     string `json:"netns,omitzero" jsonschema:"processes in this network namespace: its path, or its name (ip netns)"`
	Container string `json:"container,omitzero" jsonschema:"processes of the container with this id, or one that begins so, as their cgroup says"`
	Ancestor  Word   `json:"ancestor,omitzero" jsonschema:"processes below this one, by pid or by name"`
	User      Word   `json:"user,omitzero" jsonschema:"processes of this user, by name or uid"`
	Group     bool   `json:"group,omitzero" jsonschema:"all that match are one target"`

	fs proc.FS
}

// New returns the constructor of the selector that reads the host through fs.
func New(fs proc.FS) func() experiment.Selector {
	return func() experiment.Selector { return &Process{fs: fs} }
}

// Validate implements experiment.Validator.
func (p *Process) Validate() error {
	if p.PID < 0 {
		return experiment.Fieldf("pid", "%d is not a pid (1 or more)", p.PID)
	}
	if p.Port < 0 || p.Port > 65535 {
		return experiment.Fieldf("port", "%d is not a port (1 to 65535)", p.Port)
	}
	if _, err := regexp.Compile(p.Command); err != nil {
		return experiment.Fieldf("command", "%q is not a regular expression: %s", p.Command, reason(err))
	}
	if strings.Contains(p.Unit, "/") {
		return experiment.Fieldf("unit", "%q is not the name of a unit, such as nginx.service", p.Unit)
	}
	if slices.Contains(strings.Split(p.Cgroup, "/"), "..") {
		return experiment.Fieldf("cgroup", "%q leads upwards: give the path of the cgroup itself", p.Cgroup)
	}
	if err := p.checkKin(); err != nil {
		return err
	}
	return p.combination()
}

// reason is what regexp.Compile found, without the expression again.
func reason(err error) string {
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

// combination refuses a section without a field, and fields that don't go
// together.
func (p *Process) combination() error {
	some := p.PID != 0 || p.Name != "" || p.Command != "" || p.Port != 0 ||
		p.NetNS != "" || p.Container != "" || p.Ancestor != "" || p.User != ""
	switch {
	case !some && p.Cgroup == "" && p.Unit == "":
		return errors.New("says nothing of which process: give pid, name, command, port, user, netns, container, ancestor, cgroup or unit")
	case p.Cgroup != "" && (some || p.Unit != ""):
		return experiment.Fieldf("cgroup", "stands alone: it selects all the processes in the cgroup")
	case p.Unit != "" && some:
		return experiment.Fieldf("unit", "stands alone: it selects all the processes of the unit")
	case p.Group && !some:
		return experiment.Fieldf("group", "all the processes of a cgroup or a unit are one target anyway: leave group out")
	}
	return nil
}

// Select implements experiment.Selector. Zombies and kernel threads are left
// out, and so are processes that must never be touched, but for what is asked
// for by its pid, cgroup or unit: whoever acts on it must be told why not. Where nothing is left the error wraps experiment.ErrNoMatch.
func (p *Process) Select(ctx context.Context) ([]experiment.Target, error) {
	if err := p.fs.OwnPIDNamespace(); err != nil {
		return nil, err
	}
	var targets []experiment.Target
	var err error
	switch {
	case p.Cgroup != "":
		targets, err = p.selectCgroup()
	case p.Unit != "":
		targets, err = p.selectUnit(ctx)
	default:
		targets, err = p.selectEach(ctx)
	}
	if err != nil {
		return nil, err
	}
	experiment.SortTargets(targets)
	return targets, nil
}

// selectEach returns a target for each process that matches.
func (p *Process) selectEach(ctx context.Context) ([]experiment.Target, error) {
	s, err := p.newSearch()
	if err != nil {
		return nil, err
	}
	found, err := s.run(ctx)
	if err == nil {
		err = s.oneContainer()
	}
	if err != nil {
		return nil, err
	}
	if p.Group {
		return s.together(ctx)
	}
	groups := make([][]int, 0, len(found))
	for _, pid := range found {
		groups = append(groups, []int{pid})
	}
	targets, err := p.fs.Targets(groups...)
	if err != nil {
		return nil, err
	}
	targets = slices.DeleteFunc(targets, func(t experiment.Target) bool { // the pid is another's by now
		return t.PIDs[0] != s.stats[t.PIDs[0].PID].ID()
	})
	for i := range targets {
		t := &targets[i]
		p.describe(t)
		t.Name, t.ID = s.stats[t.PIDs[0].PID].Comm, t.PIDs[0].Handle()
	}
	if len(targets) == 0 {
		return nil, s.noMatch()
	}
	return targets, nil
}

// together returns all that match as one target.
func (s *search) together(ctx context.Context) ([]experiment.Target, error) {
	t, err := s.group(func() ([]int, error) { s.left = nil; return s.run(ctx) })
	if errors.Is(err, experiment.ErrGone) {
		return nil, s.noMatch()
	}
	if err != nil {
		return nil, fmt.Errorf("select processes with %s: %w", s.Process, err)
	}
	t.Name, t.ID = s.stats[t.PIDs[0].PID].Comm, t.PIDs[0].Handle()
	return []experiment.Target{t}, nil
}

// String says what is looked for: `name "worker" and port 80`.
func (p *Process) String() string {
	var words []string
	add := func(given bool, format string, value any) {
		if given {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	add(p.PID != 0, "pid %d", p.PID)
	add(p.Name != "", "name %q", p.Name)
	add(p.Command != "", "a command line that matches %q", p.Command)
	add(p.Port != 0, "port %d", p.Port)
	add(p.User != "", "user %s", p.User)
	add(p.NetNS != "", "network namespace %s", p.NetNS)
	add(p.Container != "", "container %s", p.Container)
	add(p.Ancestor != "", "ancestor %s", p.Ancestor)
	add(p.Cgroup != "", "cgroup %s", p.Cgroup)
	add(p.Unit != "", "unit %s", unitName(p.Unit))
	return strings.Join(words, " and ")
}
