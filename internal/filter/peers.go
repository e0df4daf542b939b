package filter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/simianhq/simian/experiment"
)

// peers returns the addresses of all that a selector finds. Those that share
// the target's network are left out: what goes between them goes over lo.
func (r *matcher) peers(ctx context.Context, to experiment.TargetSpec) ([]netip.Addr, error) {
	found, err := to.Selector.Select(ctx)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, experiment.ErrNoMatch
	}
	var list []netip.Addr
	var seen []uint64
	inside := 0
	for _, t := range found {
		if t.Net.Inode == r.net.Inode {
			inside++
			continue
		}
		if slices.Contains(seen, t.Net.Inode) {
			continue
		}
		seen = append(seen, t.Net.Inode)
		more, err := r.addressesOf(t)
		if err != nil && !errors.Is(err, experiment.ErrGone) {
			return nil, err
		}
		list = append(list, more...)
	}
	switch {
	case list != nil:
		return list, nil
	case inside == len(found):
		return nil, fmt.Errorf("all %d that it selects share the network of %s: what goes between them goes over lo", inside, r.target.Name)
	}
	return nil, fmt.Errorf("none of the %d that it selects has an address: %w", len(found), experiment.ErrNoMatch)
}

// addressesOf returns the addresses by which others reach t: link-local ones
// only where it has no others.
func (r *matcher) addressesOf(t experiment.Target) ([]netip.Addr, error) {
	ns, err := r.fs.NetworkOf(t)
	if err != nil {
		return nil, err
	}
	links, err := r.fs.Links(ns)
	if err != nil {
		return nil, err
	}
	var near, far []netip.Addr
	for _, l := range links {
		if l.Loopback || !l.Up {
			continue
		}
		for _, p := range l.Addresses {
			if a := p.Addr(); a.IsLinkLocalUnicast() {
				near = append(near, a)
			} else {
				far = append(far, a)
			}
		}
	}
	if far == nil {
		return near, nil
	}
	return far, nil
}
