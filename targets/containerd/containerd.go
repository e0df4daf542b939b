// Package containerd finds the containers of a containerd, plain ones and those
// of pods, and resolves them to handles. It only reads.
package containerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/targets/match"
)

// Selector finds running containers of one namespace.
type Selector struct {
	match.Match
	Namespace string `json:"namespace,omitempty" jsonschema:"containerd's namespace (CONTAINERD_NAMESPACE, else default); Kubernetes' is k8s.io"`

	fs     proc.FS
	daemon func() *runtime.Containerd // made when it is first asked for
}

// New returns the constructor of the selector.
func New(fs proc.FS, clients *runtime.Clients) func() experiment.Selector {
	return func() experiment.Selector { return &Selector{fs: fs, daemon: clients.Containerd} }
}

// Validate implements experiment.Validator.
func (s *Selector) Validate() error {
	if strings.ContainsAny(s.Namespace, "/ ") {
		return experiment.Fieldf("namespace", "%q is not the name of a namespace, such as k8s.io", s.Namespace)
	}
	return nil
}

// namespace is the one that is looked in.
func (s *Selector) namespace() string {
	if s.Namespace != "" {
		return s.Namespace
	}
	return s.daemon().Namespace()
}

// Select implements experiment.Selector. Where nothing is found the error wraps
// experiment.ErrNoMatch.
func (s *Selector) Select(ctx context.Context) ([]experiment.Target, error) {
	if err := s.fs.OwnPIDNamespace(); err != nil {
		return nil, err
	}
	all, err := s.daemon().Containers(ctx, s.namespace())
	if err != nil {
		return nil, err
	}
	found, err := s.resolve(all, s.Matches)
	if err == nil && len(found) == 0 {
		err = s.none(ctx, all)
	}
	return found, err
}

// Scope returns how many containers run in the namespace: a percentage is of
// them.
func (s *Selector) Scope(ctx context.Context) (running int, err error) {
	all, err := s.daemon().Containers(ctx, s.namespace())
	for _, c := range all {
		if c.Running {
			running++
		}
	}
	return running, err
}

// Group returns all running containers of a workload, selected or not.
func (s *Selector) Group(ctx context.Context, workload string) ([]experiment.Target, error) {
	all, err := s.daemon().Containers(ctx, s.namespace())
	if err != nil {
		return nil, err
	}
	return s.resolve(all, func(labels map[string]string, names ...string) bool { return workloadOf(labels, names[0]) == workload })
}

// resolve turns those that run and that want tells of into targets.
func (s *Selector) resolve(all []runtime.Container, want func(map[string]string, ...string) bool) ([]experiment.Target, error) {
	var found []experiment.Target
	for _, c := range all {
		if !c.Running || !want(c.Labels, c.Names()...) {
			continue
		}
		t, err := runtime.Resolve(s.fs, c, true)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		t.Workload = workloadOf(c.Labels, c.Name)
		found = append(found, t)
	}
	experiment.SortTargets(found)
	return found, nil
}

// workloadOf names what a container is one of: by its manager's labels, else
// itself.
func workloadOf(labels map[string]string, name string) string {
	if w, _ := match.Workload(labels); w != "" {
		return w
	}
	return name
}

// none says why nothing was found, and what there is.
func (s *Selector) none(ctx context.Context, all []runtime.Container) error {
	var running, down []string
	for _, c := range all {
		switch {
		case c.Running:
			running = append(running, c.Name)
		case !s.Empty() && s.Matches(c.Labels, c.Names()...):
			down = append(down, fmt.Sprintf("%s (%s)", c.Name, c.State))
		}
	}
	if len(down) > 0 {
		return fmt.Errorf("%s: not running: %w", strings.Join(down, ", "), experiment.ErrNoMatch)
	}
	if len(running) > 0 {
		return s.None("container", running)
	}
	spaces, err := s.daemon().Namespaces(ctx)
	if err != nil {
		return err
	}
	spaces = slices.DeleteFunc(spaces, func(one string) bool { return one == s.namespace() })
	hint := ""
	if len(spaces) > 0 {
		hint = "\n        other namespaces: " + strings.Join(spaces, " ")
	}
	return fmt.Errorf("no container runs in containerd's namespace %s: %w%s", s.namespace(), experiment.ErrNoMatch, hint)
}
