package proc

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Gateway returns the address of the default gateway of a network namespace,
// IPv4's before IPv6's, or, where it has none, that of a neighbour it has
// talked to lately. It is one that a link of links, by their indexes, leads to;
// none are all. An IPv6 address that belongs to one link carries its name as
// zone. It gives experiment.ErrUnsupported where there is no such address.
func (f FS) Gateway(ns experiment.Namespace, links ...int) (addr netip.Addr, err error) {
	err = f.InNetwork(ns, func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer handle.Close()
		n := nearby{handle, links}
		if addr, err = n.gateway(); err == nil && !addr.IsValid() {
			addr, err = n.neighbour()
		}
		return err
	})
	if err == nil && !addr.IsValid() {
		err = fmt.Errorf("it has neither a default route nor a neighbour it has talked to: %w", experiment.ErrUnsupported)
	}
	return addr, err
}

// nearby looks for the addresses next to a network namespace.
type nearby struct {
	handle *netlink.Handle
	links  []int
}

// asked tells whether a link is one of those asked for.
func (n nearby) asked(link int) bool { return len(n.links) == 0 || slices.Contains(n.links, link) }

// gateway returns that of the default route with the best metric; none where
// there is no such route.
func (n nearby) gateway() (netip.Addr, error) {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := again(func() ([]netlink.Route, error) { return n.handle.RouteList(nil, family) })
		if err != nil {
			return netip.Addr{}, fmt.Errorf("list routes: %w", err)
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
		for _, r := range routes {
			if addr := n.via(r); addr.IsValid() {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, nil
}

// via returns the gateway of r where r is a default route that works.
func (n nearby) via(r netlink.Route) netip.Addr {
	if r.Type != unix.RTN_UNICAST || r.Dst != nil && (!r.Dst.IP.IsUnspecified() || slices.Max(r.Dst.Mask) > 0) {
		return netip.Addr{}
	}
	hops := append([]*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via, Flags: r.Flags}}, r.MultiPath...)
	for _, h := range hops {
		addr, ok := netip.AddrFromSlice(h.Gw)
		if via, other := h.Via.(*netlink.Via); other {
			addr, ok = netip.AddrFromSlice(via.Addr)
		}
		if ok && n.asked(h.LinkIndex) && h.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) == 0 {
			return n.zoned(addr, h.LinkIndex)
		}
	}
	return netip.Addr{}
}

// neighbour returns the first one of those whose link address is known.
func (n nearby) neighbour() (netip.Addr, error) {
	list, err := again(func() ([]netlink.Neigh, error) { return n.handle.NeighList(0, netlink.FAMILY_ALL) })
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list neighbours: %w", err)
	}
	const known = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	var found []netip.Addr
	for _, each := range list {
		addr, ok := netip.AddrFromSlice(each.IP)
		if ok && each.State&known != 0 && !addr.IsMulticast() && n.asked(each.LinkIndex) {
			found = append(found, n.zoned(addr, each.LinkIndex))
		}
	}
	if len(found) == 0 {
		return netip.Addr{}, nil
	}
	return slices.MinFunc(found, netip.Addr.Compare), nil // IPv4 sorts first
}

// zoned returns addr with what tells apart links that use the same one.
func (n nearby) zoned(addr netip.Addr, link int) netip.Addr {
	addr = addr.Unmap()
	if !addr.IsLinkLocalUnicast() || addr.Is4() {
		return addr
	}
	if l, err := n.handle.LinkByIndex(link); err == nil {
		return addr.WithZone(l.Attrs().Name)
	}
	return addr.WithZone(strconv.Itoa(link))
}

// again reads a list, once more where it changed meanwhile.
func again[T any](read func() ([]T, error)) ([]T, error) {
	list, err := read()
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		list, err = read()
	}
	return list, err
}
