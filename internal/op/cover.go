package op

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Cover mounts an empty tmpfs that can only be read over a mount of a target,
// or takes it away. What is below is not touched: the same mount shows again,
// with all that is mounted in it.
type Cover struct {
	MountPoint
	Present bool `json:"present"`

	host *Host
}

// NewCover returns the op that covers at. Its undo is Gone.
func NewCover(host *Host, at MountPoint) *Cover { return &Cover{at, true, host} }

// Gone returns the op that takes the cover away.
func (c *Cover) Gone() *Cover { return &Cover{c.MountPoint, false, c.host} }

// String implements experiment.Op.
func (c *Cover) String() string {
	if !c.Present {
		return fmt.Sprintf("uncover %s of %s (%s): unmount tmpfs %s", c.Point, c.Target, c.what(), c.mark())
	}
	return fmt.Sprintf("cover %s of %s (%s) with an empty tmpfs %s", c.Point, c.Target, c.what(), c.mark())
}

// Backend implements experiment.Backed.
func (c *Cover) Backend() string { return "cover" }

// Handles implements experiment.Handled.
func (c *Cover) Handles() []string { return []string{c.handle()} }

// Apply implements experiment.Op.
func (c *Cover) Apply(context.Context) error {
	now, err := c.look(c.host.FS)
	if err != nil {
		return err
	}
	defer now.close()
	if !c.Present {
		return c.uncover(now)
	}
	switch {
	case c.ours(now):
		return nil
	case !c.same(now):
		return fmt.Errorf("another mount is at %s now (%s %s): %w", c.Point, now.Kind, now.Source, experiment.ErrGone)
	}
	cover, err := newTmpfs(c.mark(), "4096", "0555", unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(cover)
	return c.inside(c.host.FS, func() error {
		if err := attach(cover, now.fd); err != nil {
			return fmt.Errorf("mount over %s: %w", c.Point, err)
		}
		return nil
	})
}

// uncover takes the cover away, where it is there. One that somebody has
// mounted over cannot be reached.
func (c *Cover) uncover(now *there) error {
	if c.ours(now) {
		return c.inside(c.host.FS, func() error { return now.detach(false) })
	}
	left, err := c.buried(now)
	if err == nil && left {
		err = fmt.Errorf("uncover %s: somebody has mounted %s %s over it: %w", c.Point, now.Kind, now.Source, experiment.ErrBusy)
	}
	return err
}

// buried tells whether the cover is below another mount.
func (c *Cover) buried(now *there) (bool, error) {
	list, err := c.host.FS.Mounts(now.via.PID)
	if err != nil {
		return false, err
	}
	for _, m := range list {
		if m.Point == c.Point && m.Kind == "tmpfs" && m.Source == c.mark() {
			return true, nil
		}
	}
	return false, nil
}

// Verify implements experiment.Verifier.
func (c *Cover) Verify(context.Context) (experiment.Evidence, error) {
	now, err := c.look(c.host.FS)
	if err != nil {
		return experiment.Evidence{}, err
	}
	defer now.close()
	if !c.Present {
		left, err := c.buried(now)
		return experiment.Evidence{InForce: !left, What: fmt.Sprintf("%s is %s %s", c.Point, now.Kind, now.Source)}, err
	}
	if !c.ours(now) {
		return experiment.Evidence{
			What: fmt.Sprintf("%s is %s %s, not covered", c.Point, now.Kind, now.Source),
			Hint: "somebody has unmounted the cover, or mounted over it",
		}, nil
	}
	return experiment.Evidence{
		InForce: true,
		What:    fmt.Sprintf("%s is empty and read-only (tmpfs %s over %s); files that were open go on", c.Point, now.Source, c.what()),
	}, nil
}
