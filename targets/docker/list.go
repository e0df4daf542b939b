package docker

import (
	"context"

	"github.com/simianhq/simian/experiment"
)

// List implements experiment.Lister: all containers, those too that are stopped
// or paused.
func (s *Selector) List(ctx context.Context) ([]experiment.Listed, error) {
	d, err := s.daemon()
	if err != nil {
		return nil, err
	}
	all, err := d.All(ctx)
	if err != nil {
		return nil, err
	}
	found, _, err := d.Containers(ctx, func(map[string]string, ...string) bool { return true })
	if err != nil {
		return nil, err
	}
	pids := map[string]int{}
	for _, c := range found {
		pids[c.Ref.ID] = c.PID
	}
	rows := make([]experiment.Listed, 0, len(all))
	for _, c := range all {
		c.PID = pids[c.Ref.ID]
		rows = append(rows, c.Listed(workloadOf(c.Labels, c.Name)))
	}
	return rows, nil
}
