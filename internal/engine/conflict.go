package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
)

// The rule of conflicts. A step that can be taken back holds the objects that
// its Do names (experiment.Handled), from when it is announced until it is
// taken back. No two steps hold one object at a time:
//
//   - of two actions that overlap in time: found when they are planned. An
//     object that the run itself makes has the run's name, and is named anew
//     when its action strikes: there each action has its own;
//   - of two targets of one action, which share the object: found when it is
//     planned, and again when it strikes;
//   - of two runs: found by the lock on the object's handle (internal/journal).
//
// A step without an undo, such as a signal, holds nothing. The steps of one
// target in one action are made for each other.

// apart is what must lie between the end of an action and the start of another
// of its group, for the two not to overlap: taking back takes its time.
const apart = time.Second

// overlap tells whether actions a and b, of one group, hold their faults at the
// same time.
func overlap(a, b experiment.Action) bool {
	return a.After.D() < b.After.D()+b.For.D()+apart && b.After.D() < a.After.D()+a.For.D()+apart
}

// beside lists the actions before i that overlap in time with it.
func beside(method []experiment.Action, i int) []int {
	var list []int
	for _, group := range groups(method) {
		if !slices.Contains(group, i) {
			continue
		}
		for _, j := range group {
			if j < i && overlap(method[i], method[j]) {
				list = append(list, j)
			}
		}
	}
	return list
}

// holding lists the objects that s holds until it is taken back.
func holding(s experiment.Step) []string {
	h, ok := s.Do.(experiment.Handled)
	if s.Undo == nil || !ok {
		return nil
	}
	return h.Handles()
}

// ownName tells whether a handle is of an object that run makes, and names so.
func ownName(run experiment.RunID, handle string) bool {
	for _, prefix := range []string{"simian_", "simian-", "sm"} {
		if strings.Contains(handle, prefix+string(run)) {
			return true
		}
	}
	return false
}

// shared returns an object that steps of both lists hold, and that is not of
// run's own making.
func shared(run experiment.RunID, a, b []experiment.PlannedStep) string {
	held := map[string]bool{}
	for _, s := range a {
		for _, h := range holding(s.Step) {
			held[h] = true
		}
	}
	for _, s := range b {
		for _, h := range holding(s.Step) {
			if held[h] && !ownName(run, h) {
				return h
			}
		}
	}
	return ""
}

// conflict says that action i would hold what action j, which overlaps with it,
// holds.
func (p *planner) conflict(i, j int, handle string) error {
	a, b := p.x.Spec.Method[j], p.x.Spec.Method[i]
	return &ActionError{i, "fault", fmt.Errorf(
		"%q and %q overlap in time, and both hold %s: let one begin once the other is over (leave parallel out, or say after: %s), or let them have other targets",
		a.Name, b.Name, objectOf(handle), a.After+a.For+experiment.Duration(apart))}
}

// conflicts finds what action i would hold while an earlier one does.
func (p *planner) conflicts(i int, plan *ActionPlan, before []ActionPlan) error {
	for _, j := range beside(p.x.Spec.Method, i) {
		if h := shared(p.run, before[j].Steps, plan.Steps); h != "" {
			return p.conflict(i, j, h)
		}
	}
	return nil
}

// sharing finds an object that two targets of one action share.
func (p *planner) sharing(i int, plan *ActionPlan) error {
	holder := map[string]string{}
	for _, s := range plan.Steps {
		for _, h := range holding(s.Step) {
			first, known := holder[h]
			if known && first != s.Target {
				return &ActionError{i, "target", fmt.Errorf("%s and %s share %s: what is done to one is done to both, so let it have one of them only",
					plan.named(first), plan.named(s.Target), objectOf(h))}
			}
			holder[h] = s.Target
		}
	}
	return nil
}

// named names a target of the plan by its ID.
func (a *ActionPlan) named(id string) string {
	for _, t := range a.Targets {
		if t.ID != id {
			continue
		}
		if len(t.PIDs) > 0 {
			return fmt.Sprintf("%s (pid %d)", t.Name, t.PIDs[0].PID)
		}
		return t.Name
	}
	return id
}

// objectOf says in words which object a handle names:
//
//	process:812:99123#state        the state of process 812
//	nofile:process:812:99123       nofile of process 812
//	cgroup:31:/web#cpu.max         cpu.max of cgroup /web
//	net:4026533210:7:link:2:root   link 2 root in network namespace 4026533210
func objectOf(handle string) string {
	whole, part, parted := strings.Cut(handle, "#")
	if parted {
		if part += " of "; !strings.Contains(part, ".") {
			part = "the " + part
		}
	}
	if of, process, ok := strings.Cut(whole, ":process:"); ok {
		pid, _, _ := strings.Cut(process, ":")
		return part + of + " of process " + pid
	}
	kind, rest, _ := strings.Cut(whole, ":")
	first, second, _ := strings.Cut(rest, ":")
	switch kind {
	case "process":
		return part + "process " + first
	case "cgroup":
		return part + "cgroup " + second
	case "mount": // NAMESPACE:ID:PATH
		_, path, _ := strings.Cut(second, ":")
		return part + "mount " + path
	case "object": // KIND NAMESPACE/NAME:UID
		return part + first
	case "container": // RUNTIME:LAB:NAME
		return part + "container " + rest[strings.LastIndex(rest, ":")+1:]
	case "net":
		if _, what, _ := strings.Cut(second, ":"); what != "" {
			part += strings.ReplaceAll(what, ":", " ") + " in "
		}
		return part + "network namespace " + first
	}
	return part + whole
}
