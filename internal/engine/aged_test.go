package engine_test

import (
	"context"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
)

// aged finds targets that have a process each, and so a beginning.
type aged struct {
	experimenttest.Find
	Identity bool   `json:"identity,omitzero" jsonschema:"it names its target by its identity"`
	Loose    bool   `json:"loose,omitzero" jsonschema:"its targets are of no workload"`
	Whole    bool   `json:"whole,omitzero" jsonschema:"it can list all of a workload"`
	Sick     string `json:"sick,omitempty" jsonschema:"the target whose health check does not pass"`
	Net      uint64 `json:"net,omitzero" jsonschema:"inode of the network namespace that all are in"`

	lab *lab
}

// Select implements experiment.Selector.
func (a *aged) Select(ctx context.Context) ([]experiment.Target, error) {
	a.lab.mu.Lock()
	looking, broken := a.lab.looking, a.lab.broken
	a.lab.mu.Unlock()
	if broken != nil {
		return nil, broken
	}
	if looking != nil {
		looking(ctx)
	}
	found, err := a.Find.Select(ctx)
	a.lab.mu.Lock()
	defer a.lab.mu.Unlock()
	for i, t := range found {
		began := a.lab.came[t.ID]
		found[i].PIDs = []experiment.ProcessID{{PID: 100 + int(crc32.ChecksumIEEE([]byte(t.Name))%30000), Start: uint64(time.Duration(began) / (10 * time.Millisecond))}}
		found[i].Net.Inode = a.Net
		found[i].Unhealthy = t.Name == a.Sick
		if a.Loose {
			found[i].Workload = ""
		}
	}
	return found, err
}

// ByIdentity and Running are what the engine counts such targets by.
func (a *aged) ByIdentity() bool { return a.Identity }

// Running counts the targets of a workload.
func (a *aged) Running(ctx context.Context, workload string) (int, error) {
	found, err := a.Find.Select(ctx)
	return experiment.Workloads(found)[workload], err
}

// placedOp changes a setting on behalf of a network namespace, as many
// processes may be in.
type placedOp struct {
	experimenttest.SetOp
	Net string `json:"net"`
}

func (o *placedOp) Handles() []string { return []string{o.Net + ":link:2:root"} }

// Notes implements experiment.Noted.
func (o *placedOp) Notes() []string { return []string{"others are there too"} }

// placedFault breaks the setting place-1/1, whichever its target is.
type placedFault struct{ experimenttest.SetFault }

func (f *placedFault) Plan(ctx context.Context, run experiment.RunID, _ experiment.Target) ([]experiment.Step, error) {
	place, err := f.World.Target("place-1")
	if err != nil {
		return nil, err
	}
	steps, err := f.SetFault.Plan(ctx, run, place)
	for i, s := range steps {
		steps[i].Do = &placedOp{*s.Do.(*experimenttest.SetOp), "net:7:99"}
	}
	return steps, err
}

// Group lists all targets of a workload, or those that are selected.
func (a *aged) Group(ctx context.Context, workload string) ([]experiment.Target, error) {
	all := *a
	if a.Whole {
		all.Name = "*"
	}
	found, err := all.Select(ctx)
	return slices.DeleteFunc(found, func(t experiment.Target) bool { return t.Workload != workload }), err
}

// after calls fn d after the first event whose line is at.
func (l *lab) after(at string, d time.Duration, fn func()) {
	l.once(at, func(*experiment.Event) { time.AfterFunc(d, fn) })
}

// gone is where a target is that has left: its inodes are not given to others.
func (l *lab) gone(name string) string { return filepath.Join(l.world.Dir, "gone-"+name) }

// leave makes a target go.
func (l *lab) leave(name string) {
	if err := os.Rename(filepath.Join(l.world.Dir, "targets", name), l.gone(name)); err != nil {
		l.t.Error(err)
	}
}

// vanish makes a setting go, as a cgroup does.
func (l *lab) vanish(setting string) {
	if err := os.Rename(filepath.Join(l.world.Dir, "targets", setting), l.gone(strings.ReplaceAll(setting, "/", "-"))); err != nil {
		l.t.Error(err)
	}
}

// come makes a target that begins now.
func (l *lab) come(name string) {
	err := l.world.Add(name)
	t, terr := l.world.Target(name)
	if err != nil || terr != nil {
		l.t.Error(err, terr)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.came[t.ID] = l.boot()
}

// restart makes a target go, and another of its name come.
func (l *lab) restart(name string) {
	_ = os.RemoveAll(l.gone(name) + "-before")
	_ = os.Rename(l.gone(name), l.gone(name)+"-before")
	l.leave(name)
	l.come(name)
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return names
}
