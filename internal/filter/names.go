package filter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"
	"golang.org/x/sync/errgroup"

	"github.com/simianhq/simian/internal/proc"
)

const (
	// atOnce is how many names are resolved at a time.
	atOnce = 8
	// maxFollowed bounds what names may add to a filter while it is in force:
	// a target's resolver may be its own.
	maxFollowed = 1 << 16
)

// Refresh resolves the names of m again, from where the target stands, and
// tells whether m has changed. New addresses are added; those that a name no
// longer has stay, since connections to them go on. A name that does not
// resolve now, for the fault itself may be in the way, changes nothing: the
// error says so, and what the others led to is added all the same.
func (m *Match) Refresh(ctx context.Context, fs proc.FS) (changed bool, err error) {
	if m.Names == nil {
		return false, nil
	}
	r, err := m.Names.resolver(fs)
	if err != nil {
		return false, err
	}
	far, err1 := r.lookupAll(ctx, m.Names.Hosts)
	except, err2 := r.lookupAll(ctx, m.Names.ExceptHosts)
	grown1, err3 := grow(&m.Far, far)
	grown2, err4 := grow(&m.Except.Far, except)
	return grown1 || grown2, errors.Join(err1, err2, err3, err4)
}

func (n *Names) resolver(fs proc.FS) (*resolver, error) {
	return newResolver(fs, n.Root, n.Process, n.Net)
}

// lookupAll returns the addresses of those hosts that resolve, and why the
// others don't.
func (r *resolver) lookupAll(ctx context.Context, hosts []string) ([]netip.Addr, error) {
	lists, errs := r.lookupEach(ctx, hosts)
	return slices.Concat(lists...), errors.Join(errs...)
}

// lookupEach resolves each host by itself.
func (r *resolver) lookupEach(ctx context.Context, hosts []string) (lists [][]netip.Addr, errs []error) {
	lists, errs = make([][]netip.Addr, len(hosts)), make([]error, len(hosts))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, host := range hosts {
		group.Go(func() error {
			lists[i], errs[i] = r.lookup(ctx, host)
			return nil
		})
	}
	_ = group.Wait()
	return lists, errs
}

// grow adds addresses to prefixes, which stay sorted and disjoint.
func grow(prefixes *[]netip.Prefix, more []netip.Addr) (bool, error) {
	var b netipx.IPSetBuilder
	for _, p := range *prefixes {
		b.AddPrefix(p)
	}
	grown := false
	for _, a := range more {
		if !slices.ContainsFunc(*prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			grown = true
			b.Add(a)
		}
	}
	if !grown {
		return false, nil
	}
	set, err := b.IPSet()
	if err != nil {
		return false, fmt.Errorf("add addresses of names: %w", err)
	}
	all := set.Prefixes()
	if len(all) > maxFollowed {
		return false, fmt.Errorf("the names have led to more than %d addresses: no more are added", maxFollowed)
	}
	*prefixes = all
	return true, nil
}
