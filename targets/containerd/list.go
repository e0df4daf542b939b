package containerd

import (
	"context"

	"github.com/simianhq/simian/experiment"
)

// List implements experiment.Lister: all containers of the namespace, those too
// that do not run.
func (s *Selector) List(ctx context.Context) ([]experiment.Listed, error) {
	all, err := s.daemon().Containers(ctx, s.namespace())
	if err != nil {
		return nil, err
	}
	rows := make([]experiment.Listed, 0, len(all))
	for _, c := range all {
		rows = append(rows, c.Listed(workloadOf(c.Labels, c.Name)))
	}
	return rows, nil
}
