package native

import (
	"context"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
)

// The conditions of depends_on.
const (
	startedCondition   = "service_started"
	healthyCondition   = "service_healthy"
	completedCondition = "service_completed_successfully"
)

// await waits until all that a service depends on is as it should be.
func (l *Lab) await(ctx context.Context, s *Service) error {
	for _, d := range s.DependsOn {
		for _, c := range l.cells[d.Service] {
			if err := c.await(ctx, d.Condition); err != nil {
				return l.project.errorAt(s, "depends_on."+d.Service, err)
			}
		}
	}
	return nil
}

// awaitUp waits until the container is up: its health check passes; or it has
// none and runs, or has done its work.
func (c *container) awaitUp(ctx context.Context) error {
	condition := startedCondition
	if c.health != nil {
		condition = healthyCondition
	}
	if err := c.await(ctx, condition); err != nil {
		return c.lab.project.errorAt(c.service, "", err)
	}
	return nil
}

// await waits until the container meets a condition, or never will.
func (c *container) await(ctx context.Context, condition string) error {
	for {
		c.mu.Lock()
		met, err := c.meets(condition)
		moved := c.moved
		c.mu.Unlock()
		if met || err != nil {
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// meets tells whether a condition is met; an error says that it will not be.
// The caller holds mu.
func (c *container) meets(condition string) (bool, error) {
	exited := c.state == experiment.ContainerExited
	if exited && !c.last.Success() && !c.policyWants() {
		return false, fmt.Errorf("%s has ended: %s%s", c.name, c.last, c.lastWords())
	}
	switch condition {
	case healthyCondition:
		switch {
		case c.state == experiment.ContainerUnhealthy:
			return false, fmt.Errorf("%s is unhealthy: %s", c.name, c.why)
		case exited && !c.policyWants():
			return false, fmt.Errorf("%s has ended before it was healthy: %s", c.name, c.last)
		}
		return c.healthy, nil
	case completedCondition:
		return exited && c.last.Success(), nil
	}
	return c.starts > 0 && c.state != experiment.ContainerStarting, nil
}

// waiting says what is still missing, "" where it is up, or where another says
// why it is not.
func (c *container) waiting() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.starts == 0:
		return c.waitsFor()
	case c.health != nil && !c.healthy && c.why != "":
		return fmt.Sprintf("%s is not healthy: %s", c.name, c.why)
	case c.health != nil && !c.healthy:
		return c.name + " is not healthy yet"
	}
	return ""
}

// waitsFor says which containers have yet to do their work before this one can
// be started, "" where it waits for none.
func (c *container) waitsFor() string {
	var names []string
	for _, d := range c.service.DependsOn {
		for _, other := range c.lab.cells[d.Service] {
			if d.Condition == completedCondition && !other.done() {
				names = append(names, other.name)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("%s waits for %s to complete", c.name, list(names))
}

func (c *container) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	met, _ := c.meets(completedCondition)
	return met
}

// lastWords returns the last lines of its log, for an error.
func (c *container) lastWords() string {
	lines := c.log.tail(3)
	if len(lines) == 0 {
		return ""
	}
	return "\n        " + strings.Join(lines, "\n        ")
}

// list joins words for a sentence.
func list(words []string) string { return strings.Join(words, ", ") }
