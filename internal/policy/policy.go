// Package policy holds every run on a host to what its administrator allows.
// The policy is a file that no flag and no experiment overrides; where there is
// none, everything is allowed.
package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/targets/match"
)

// Path is where the policy of a host stands.
const Path = "/etc/simian/policy.yaml"

// Kind is what a policy file calls itself.
const Kind = "Policy"

// OptInLabel, with the value true, opts a target in.
const OptInLabel = "simian.dev/enabled"

// Policy is what may be broken on this host, when, and how much of it at once.
// A field left out forbids nothing. A nil Policy allows everything.
type Policy struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       Spec   `json:"spec"`

	file string
	line func(at jsontext.Pointer) int
}

// Spec is what a policy says.
type Spec struct {
	Runtimes     []string     `json:"runtimes,omitempty"`   // types of targets: docker, process …
	Namespaces   []string     `json:"namespaces,omitempty"` // of Kubernetes and containerd; * matches any part
	Faults       []string     `json:"faults,omitempty"`
	BlastRadius  BlastRadius  `json:"blastRadius,omitzero"`
	Hours        *Hours       `json:"hours,omitempty"`
	RequireOptIn bool         `json:"requireOptIn,omitzero"` // only what has the label simian.dev/enabled=true
	Protect      match.Labels `json:"protect,omitzero"`      // what has these labels is never touched
}

// BlastRadius is the largest that an experiment may have; one that has none is
// given it.
type BlastRadius struct {
	Targets int                 `json:"targets,omitzero"`
	Percent *experiment.Percent `json:"percent,omitempty"`
}

// Hours are when something may be broken.
type Hours struct {
	From     string   `json:"from"` // 09:00
	To       string   `json:"to"`   // 17:00; before From it is on the next day
	Days     []string `json:"days,omitempty"`
	TimeZone string   `json:"timeZone"` // such as Europe/Brussels
}

// RefusedError says what the policy forbids, where, and what it allows.
type RefusedError struct {
	Place string // file and line
	What  string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return e.What + "\n        " + e.Place + " says so, and no flag overrides it"
}

// Is makes a refusal one by experiment.ErrProtected.
func (e *RefusedError) Is(target error) bool { return target == experiment.ErrProtected }

func (p *Policy) refuse(field, format string, args ...any) error {
	return &RefusedError{fmt.Sprintf("%s:%d: spec.%s", p.file, p.line(jsontext.Pointer("/spec/"+field)), strings.ReplaceAll(field, "/", ".")), fmt.Sprintf(format, args...)}
}

// Action tells why an action may not be done at all at this time: its fault or
// its type of targets is not allowed, or the hour. The second is the action's
// field to blame.
func (p *Policy) Action(a experiment.Action, now time.Time) (field string, err error) {
	if p == nil {
		return "", nil
	}
	s := &p.Spec
	if len(s.Faults) > 0 && !slices.Contains(s.Faults, a.Type) {
		return "fault", p.refuse("faults", "fault %s is not allowed on this host: %s are", a.Type, strings.Join(s.Faults, ", "))
	}
	if len(s.Runtimes) > 0 && !slices.Contains(s.Runtimes, a.Target.Type) {
		return "target", p.refuse("runtimes", "targets of type %s are not allowed on this host: %s are", a.Target.Type, strings.Join(s.Runtimes, ", "))
	}
	if s.Hours != nil && !s.Hours.within(now) {
		return "fault", p.refuse("hours", "it is %s: nothing may be broken but from %s", now.In(s.Hours.location()).Format("Mon 15:04 MST"), s.Hours)
	}
	return "", nil
}

// Target tells why a target may not be touched.
func (p *Policy) Target(t experiment.Target) error {
	if p == nil {
		return nil
	}
	s := &p.Spec
	if ns := Namespace(t); ns != "" && len(s.Namespaces) > 0 && !slices.ContainsFunc(s.Namespaces, func(pattern string) bool { ok, _ := path.Match(pattern, ns); return ok }) {
		return p.refuse("namespaces", "%s is in namespace %s, which is not allowed: %s are", t.Name, ns, strings.Join(s.Namespaces, ", "))
	}
	if s.RequireOptIn && t.Labels[OptInLabel] != "true" {
		return p.refuse("requireOptIn", "%s has not opted in: it lacks the label %s=true", t.Name, OptInLabel)
	}
	if !s.Protect.Empty() && s.Protect.Matches(t.Labels) {
		return p.refuse("protect", "%s is protected: it has the labels %s", t.Name, s.Protect)
	}
	return nil
}

// Namespace returns the namespace that a target is in, of Kubernetes or of
// containerd; "" where it is in none.
func Namespace(t experiment.Target) string {
	switch {
	case t.Object != nil:
		return t.Object.Namespace
	case t.Labels["io.kubernetes.pod.namespace"] != "":
		return t.Labels["io.kubernetes.pod.namespace"]
	case t.Runtime != nil:
		return t.Runtime.Namespace
	}
	return ""
}

// Limit narrows the blast radius of x to what is allowed. What asks for more
// is refused; the second is the field of the blast radius to blame.
func (p *Policy) Limit(x *experiment.Experiment) (field string, err error) {
	if p == nil {
		return "", nil
	}
	most, own := p.Spec.BlastRadius, &x.Spec.BlastRadius
	switch {
	case most.Targets > 0 && own.Targets > most.Targets:
		return "targets", p.refuse("blastRadius/targets", "%d targets are more than the %d allowed on this host", own.Targets, most.Targets)
	case most.Percent != nil && own.Percent != nil && *own.Percent > *most.Percent:
		return "percent", p.refuse("blastRadius/percent", "%v %% are more than the %v allowed on this host", float64(*own.Percent), float64(*most.Percent))
	}
	if own.Targets == 0 {
		own.Targets = most.Targets
	}
	if own.Percent == nil {
		own.Percent = most.Percent
	}
	return "", nil
}

// String is what holds, in one line.
func (p *Policy) String() string {
	if p == nil {
		return "everything is allowed"
	}
	s := &p.Spec
	var words []string
	add := func(given bool, format string, args ...any) {
		if given {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(len(s.Runtimes) > 0, "targets %s", strings.Join(s.Runtimes, " "))
	add(len(s.Namespaces) > 0, "namespaces %s", strings.Join(s.Namespaces, " "))
	add(len(s.Faults) > 0, "faults %s", strings.Join(s.Faults, " "))
	add(s.BlastRadius.Targets > 0, "blast radius %d", s.BlastRadius.Targets)
	if s.BlastRadius.Percent != nil {
		add(true, "blast radius %v %%", float64(*s.BlastRadius.Percent))
	}
	add(s.Hours != nil, "from %s", s.Hours)
	add(s.RequireOptIn, "only what has %s=true", OptInLabel)
	add(!s.Protect.Empty(), "never %s", s.Protect)
	return strings.Join(words, "; ")
}
