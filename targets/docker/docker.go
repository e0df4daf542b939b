// Package docker finds the containers of a Docker, or of a Podman by the socket
// that speaks Docker's API, and resolves them to handles. It only reads.
package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/runtime"
	"github.com/simianhq/simian/targets/match"
)

// Selector finds running containers.
type Selector struct {
	match.Match

	fs     proc.FS
	daemon func() (*runtime.Docker, error) // made when it is first asked for
}

// New returns the constructor of the selector for Docker's containers.
func New(fs proc.FS, clients *runtime.Clients) func() experiment.Selector {
	return func() experiment.Selector { return &Selector{fs: fs, daemon: clients.Docker} }
}

// NewPodman returns the constructor of the selector for Podman's containers.
func NewPodman(fs proc.FS, clients *runtime.Clients) func() experiment.Selector {
	return func() experiment.Selector { return &Selector{fs: fs, daemon: clients.Podman} }
}

// Validate implements experiment.Validator. Names, patterns and labels are
// checked as they are read.
func (s *Selector) Validate() error { return nil }

// Select implements experiment.Selector. Where nothing is found the error wraps
// experiment.ErrNoMatch.
func (s *Selector) Select(ctx context.Context) ([]experiment.Target, error) {
	if err := s.fs.OwnPIDNamespace(); err != nil {
		return nil, err
	}
	found, running, err := s.find(ctx, s.Matches)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, s.none(ctx, running)
	}
	return found, nil
}

// Scope returns how many containers run on this host: a percentage is of them.
func (s *Selector) Scope(ctx context.Context) (running int, err error) {
	d, err := s.daemon()
	if err != nil {
		return 0, err
	}
	return d.Running(ctx)
}

// Group returns all running containers of a workload, selected or not.
func (s *Selector) Group(ctx context.Context, workload string) ([]experiment.Target, error) {
	found, _, err := s.find(ctx, func(labels map[string]string, names ...string) bool {
		return workloadOf(labels, names[0]) == workload
	})
	return found, err
}

// find resolves the running containers that want tells of, and names all that
// run. What the daemon said of one whose process has ended is asked again.
func (s *Selector) find(ctx context.Context, want func(map[string]string, ...string) bool) (found []experiment.Target, running []string, err error) {
	d, err := s.daemon()
	if err != nil {
		return nil, nil, err
	}
	list, running, err := d.Containers(ctx, want)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range list {
		t, err := s.resolve(ctx, d, c)
		if errors.Is(err, experiment.ErrGone) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		found = append(found, t)
	}
	experiment.SortTargets(found)
	return found, running, nil
}

// resolve turns a container into a target.
func (s *Selector) resolve(ctx context.Context, d *runtime.Docker, c runtime.Container) (experiment.Target, error) {
	t, err := runtime.Resolve(s.fs, c, d.Local())
	if errors.Is(err, experiment.ErrGone) {
		d.Stale(c.Ref.ID)
		now, err := d.Inspect(ctx, c.Ref)
		if err != nil {
			return t, err
		}
		if !now.Running {
			return t, experiment.ErrGone
		}
		if t, err = runtime.Resolve(s.fs, now, d.Local()); errors.Is(err, experiment.ErrGone) && now.Ref.Started == c.Ref.Started {
			return t, runtime.Elsewhere(now)
		}
	}
	if err != nil {
		return t, err
	}
	t.Workload = workloadOf(c.Labels, c.Name)
	return t, nil
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
func (s *Selector) none(ctx context.Context, running []string) error {
	d, err := s.daemon()
	if err != nil {
		return err
	}
	down, err := d.Still(ctx, s.Matches)
	if err == nil && len(down) > 0 && !s.Empty() {
		const most = 6
		if more := len(down) - most; more > 0 {
			down = append(down[:most], fmt.Sprintf("and %d more", more))
		}
		return fmt.Errorf("%s: not running, or standing still: %w", strings.Join(down, ", "), experiment.ErrNoMatch)
	}
	return s.None("container", running)
}
