package native

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/targets/match"
)

// Selector finds containers of the lab. All that it is told must hold; told
// nothing, it finds every one.
type Selector struct {
	Service   string `json:"service,omitempty" jsonschema:"the service of the Compose file"`
	Container string `json:"container,omitempty" jsonschema:"one replica of a service, such as web-1"`
	match.Match

	current *Current
}

// Selectors returns a function that makes selectors of the current lab.
func Selectors(current *Current) func() experiment.Selector {
	return func() experiment.Selector { return &Selector{current: current} }
}

// Validate implements experiment.Validator.
func (s *Selector) Validate() error {
	if s.Service != "" && s.Container != "" && ServiceOf(s.Container) != s.Service {
		return experiment.Fieldf("container", "%q is no replica of the service %s: those are called %s-1, %s-2 …", s.Container, s.Service, s.Service, s.Service)
	}
	return nil
}

// InLab implements experiment.InLab.
func (s *Selector) InLab() bool { return true }

// Select implements experiment.Selector. A container of a lab that is not up
// yet has no process.
func (s *Selector) Select(context.Context) ([]experiment.Target, error) {
	scene := s.current.get()
	if scene == nil {
		return nil, errors.New("there is no lab")
	}
	state, err := scene.state()
	if err != nil {
		return nil, err
	}
	var found []experiment.Target
	for _, b := range state.Boxes {
		if !s.matches(b) {
			continue
		}
		t, err := s.target(b)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(t.PIDs) > 0 {
			t.Runtime.Lab, t.Runtime.Keeper = scene.folder(), state.Process
		}
		found = append(found, t)
	}
	if len(found) == 0 {
		return nil, s.none(state.Boxes)
	}
	experiment.SortTargets(found)
	return found, nil
}

// Scope returns how many containers of the lab run, or are to.
func (s *Selector) Scope(context.Context) (running int, err error) {
	scene := s.current.get()
	if scene == nil {
		return 0, errors.New("there is no lab")
	}
	state, err := scene.state()
	for _, b := range state.Boxes {
		if b.Starts == 0 || b.Process.PID != 0 {
			running++
		}
	}
	return running, err
}

func (s *Selector) matches(b Box) bool {
	return s.Matches(b.Labels, b.Name, b.Service) && (s.Service == "" || s.Service == b.Service) && (s.Container == "" || s.Container == b.Name)
}

// target resolves a container to handles. One that does not run is gone; one
// that was never launched is pending, and has no handle yet.
func (s *Selector) target(b Box) (experiment.Target, error) {
	t := experiment.Target{}
	switch {
	case b.Starts == 0:
		t.ID = "native:" + b.Name
	case b.Process.PID == 0 || !s.current.live.Alive(b.Process):
		return t, experiment.ErrGone
	default:
		var err error
		if t, err = s.current.live.Target(b.Process.PID); err != nil {
			return t, err
		}
		if len(t.PIDs) == 0 || t.PIDs[0] != b.Process {
			return t, experiment.ErrGone
		}
		t.ID = fmt.Sprintf("native:%s:%d:%d", b.Name, b.Process.PID, b.Process.Start)
	}
	t.Kind, t.Name, t.Workload, t.Labels = "native", b.Name, b.Service, b.Labels
	t.Runtime = &experiment.RuntimeRef{Runtime: "simian", ID: b.Name, Restart: b.Policy}
	t.Unhealthy = unhealthy(b)
	if b.Process.PID != 0 {
		t.Runtime.Started = fmt.Sprint(b.Process.Start)
	}
	return t, nil
}

// none says why nothing was found, and what there is.
func (s *Selector) none(boxes []Box) error {
	var names, down []string
	for _, b := range boxes {
		if !slices.Contains(names, b.Service) {
			names = append(names, b.Service)
		}
		if s.matches(b) {
			down = append(down, b.Name)
		}
	}
	if len(down) > 0 {
		return fmt.Errorf("%s: not running: %w", strings.Join(down, ", "), experiment.ErrNoMatch)
	}
	hint := ""
	if near := experiment.Nearest(s.Service, names); s.Service != "" && near != "" && near != s.Service {
		hint = fmt.Sprintf(" (did you mean %q?)", near)
	} else if near := s.Nearest(append(boxNames(boxes), names...)); s.Service == "" && len(near) > 0 {
		hint = fmt.Sprintf(" (did you mean %q?)", near[0])
	}
	return fmt.Errorf("no container of the lab is %s%s: %w\n        services: %s", s, hint, experiment.ErrNoMatch, strings.Join(names, " "))
}

func boxNames(boxes []Box) []string {
	names := make([]string, len(boxes))
	for i, b := range boxes {
		names[i] = b.Name
	}
	return names
}

// String is the selector in words.
func (s *Selector) String() string {
	var words []string
	if s.Service != "" {
		words = append(words, "service "+s.Service)
	}
	if s.Container != "" {
		words = append(words, "container "+s.Container)
	}
	if !s.Empty() || len(words) == 0 {
		words = append(words, s.Match.String())
	}
	return strings.Join(words, ", ")
}
