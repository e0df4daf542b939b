package native

import (
	"context"
	"errors"

	"github.com/simianhq/simian/experiment"
)

// Group returns all containers of a service that run, or are to, whichever of
// them the selector names.
func (s *Selector) Group(ctx context.Context, service string) ([]experiment.Target, error) {
	whole := &Selector{Service: service, current: s.current}
	all, err := whole.Select(ctx)
	if errors.Is(err, experiment.ErrNoMatch) {
		return nil, nil
	}
	return all, err
}

// unhealthy tells whether a container has a health check that does not pass.
func unhealthy(b Box) bool { return b.State == experiment.ContainerUnhealthy || b.Health != "" }
