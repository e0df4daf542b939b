package op

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/experiment"
)

// clockFollowEvery is how soon a process that starts in the target's cgroup, or
// becomes another program, reads the same time as the others.
const clockFollowEvery = 50 * time.Millisecond

// Follow implements experiment.Follower: what becomes another program has a new
// vDSO, and what is started in the target's cgroup may have.
func (c *Clock) Follow(ctx context.Context) error {
	if !c.Present {
		<-ctx.Done()
		return nil
	}
	s := c.shift()
	tick := time.NewTicker(clockFollowEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_, err := c.install(ctx, s)
		if err == nil && ctx.Err() == nil {
			err = c.catchCalls()
		}
		if ctx.Err() != nil || err == nil || errors.Is(err, experiment.ErrBusy) {
			continue // busy: a moment later it may not be
		}
		return fmt.Errorf("follow the processes of %s: %w", c.Name, err)
	}
}
