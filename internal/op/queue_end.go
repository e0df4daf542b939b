package op

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// end ends the helper: by its socket where this process holds that, else by
// killing what is in its cgroup.
func (q *Queue) end(ctx context.Context) error {
	if held, _ := q.host.drop(q.Cgroup()).(*heldHelper); held != nil {
		held.end()
	}
	found, err := q.process().clear(ctx, q.host.FS)
	if err != nil {
		return err
	}
	err = q.host.FS.InNetwork(q.Net, q.sweep)
	if err == nil {
		err = q.table().Gone().Apply(ctx)
	}
	if errors.Is(err, experiment.ErrGone) && found {
		return nil
	}
	return err
}

// sweep removes what the kernel should have taken back already, in the
// target's network namespace.
func (q *Queue) sweep() error {
	var errs []error
	for _, l := range q.lanes() {
		link, err := netlink.LinkByName(l.device)
		if err != nil {
			continue
		}
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			errs = append(errs, fmt.Errorf("remove device %s: %w", l.device, err))
		}
	}
	return errors.Join(errs...)
}
