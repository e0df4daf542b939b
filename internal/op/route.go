package op

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// The types of a route that leads nowhere (ip-route(8)).
const (
	RouteBlackhole   = "blackhole"   // packets are lost; whoever sends is told EINVAL
	RouteUnreachable = "unreachable" // EHOSTUNREACH, and ICMP host unreachable to others
	RouteProhibit    = "prohibit"    // EACCES, and ICMP administratively prohibited to others
)

// routeTypes are their numbers, and what a connect(2) gives.
var routeTypes = map[string]struct {
	number int
	errno  unix.Errno
}{
	RouteBlackhole:   {unix.RTN_BLACKHOLE, unix.EINVAL},
	RouteUnreachable: {unix.RTN_UNREACHABLE, unix.EHOSTUNREACH},
	RouteProhibit:    {unix.RTN_PROHIBIT, unix.EACCES},
}

const (
	// routeProtocol says who made a route (rtm_protocol, rtnetlink(7)). Nobody
	// else is known to use this one (/etc/iproute2/rt_protos).
	routeProtocol = 0xd5
	// routeMetric6 is before all others of IPv6, whose metrics begin at 1: the
	// kernel's own have 256, those made by hand 1024. Of IPv4 the first of
	// those with metric 0 counts, and one can be put before the first.
	routeMetric6 = 1
)

// Routes leads packets nowhere, by routes of this type in the main table of a
// network namespace, or removes them. Routes that are there stay as they are:
// those of the run come before the ones with the same prefix.
type Routes struct {
	Net      experiment.Namespace `json:"net"`
	Type     string               `json:"how"`                // RouteBlackhole …
	Match    filter.Match         `json:"match,omitzero"`     // where to, and the names that led there
	Narrower []netip.Prefix       `json:"narrower,omitempty"` // inside of that: there are routes to them, which would come first
	IPv4Only bool                 `json:"ipv4Only,omitzero"`  // there is no IPv6 in the namespace, which may take no routes of it
	Remove   bool                 `json:"remove,omitzero"`

	host *Host
}

// PlanRoutes returns the step that makes routes of a type to where m leads. It
// gives ErrBusy where somebody else's would come before them.
func PlanRoutes(h *Host, ns experiment.Namespace, kind string, m filter.Match, ipv4Only bool) (experiment.Step, error) {
	do := &Routes{Net: ns, Type: kind, Match: m, IPv4Only: ipv4Only, host: h}
	do.Match.Far = do.usable(m.Far)
	if len(do.Match.Far) == 0 {
		return experiment.Step{}, fmt.Errorf("add routes to %s: there is no IPv6 address: %w", fewPrefixes(m.Far), experiment.ErrUnsupported)
	}
	err := h.FS.InNetwork(ns, func() error {
		present, err := mainRoutes()
		if err != nil {
			return err
		}
		if err := do.others(present); err != nil {
			return err
		}
		return do.rules()
	})
	return experiment.Step{Do: do, Undo: &Routes{Net: ns, Type: kind, Remove: true, host: h}}, err
}

// usable leaves out what there can be no routes to. Names often have addresses
// of both families.
func (r *Routes) usable(to []netip.Prefix) []netip.Prefix {
	if !r.IPv4Only {
		return to
	}
	return slices.DeleteFunc(slices.Clone(to), func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// others looks at the routes that are there.
func (r *Routes) others(present []netlink.Route) error {
	for _, p := range present {
		to := prefixTo(p)
		within := slices.ContainsFunc(r.Match.Far, func(far netip.Prefix) bool { return far.Bits() <= to.Bits() && far.Contains(to.Addr()) })
		switch {
		case p.Protocol == routeProtocol && p.Type == routeTypes[r.Type].number:
			return fmt.Errorf("there is a route of another run's to %s already (%s, protocol %d): %w", to, r.Type, routeProtocol, experiment.ErrBusy)
		case within && to.Addr().Is6() && p.Priority <= routeMetric6:
			return fmt.Errorf("the route to %s has metric %d, which none can come before: %w", to, p.Priority, experiment.ErrBusy)
		case within && !slices.Contains(r.Match.Far, to) && !slices.Contains(r.Narrower, to):
			r.Narrower = append(r.Narrower, to)
		}
	}
	return nil
}

// rules notes where packets may be led past the main table.
func (r *Routes) rules() error {
	list, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list routing rules: %w", err)
	}
	for _, rule := range list {
		if rule.Table != 0 && !slices.Contains([]int{unix.RT_TABLE_LOCAL, unix.RT_TABLE_MAIN, unix.RT_TABLE_DEFAULT}, rule.Table) {
			r.Match.Notes = append(r.Match.Notes, fmt.Sprintf("the rule with preference %d leads to table %d, which is left alone: what it matches may pass", rule.Priority, rule.Table))
		}
	}
	return nil
}

// mainRoutes lists the routes of this thread's main table.
func mainRoutes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := listRoutes(family)
		for range 3 {
			if !errors.Is(err, netlink.ErrDumpInterrupted) { // it changed meanwhile
				break
			}
			list, err = listRoutes(family)
		}
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, list...)
	}
	return all, nil
}

func listRoutes(family int) ([]netlink.Route, error) {
	return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
}

// prefixTo is where a route leads.
func prefixTo(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		if r.Family == netlink.FAMILY_V6 {
			return netip.MustParsePrefix("::/0")
		}
		return netip.MustParsePrefix("0.0.0.0/0")
	}
	a, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

// String implements experiment.Op.
func (r *Routes) String() string {
	if r.Remove {
		return fmt.Sprintf("remove %s routes (protocol %d)", r.Type, routeProtocol)
	}
	s := fmt.Sprintf("add %s routes to %s", r.Type, fewPrefixes(r.Match.Far))
	if len(r.Narrower) > 0 {
		s += ", and in there to " + fewPrefixes(r.Narrower)
	}
	return s + fmt.Sprintf(" (protocol %d)", routeProtocol)
}

func fewPrefixes(list []netip.Prefix) string {
	const most = 4
	var words []string
	for i, p := range list {
		if i == most && len(list) > most+1 {
			return strings.Join(words, ", ") + fmt.Sprintf(" and %d more", len(list)-most)
		}
		word := p.String()
		if p.IsSingleIP() {
			word = p.Addr().String()
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// Handles implements experiment.Handled. Routes of one type are one object: no
// more tells those of two runs apart.
func (r *Routes) Handles() []string { return []string{r.Net.Handle() + ":routes:" + r.Type} }

// Backend implements experiment.Backed.
func (r *Routes) Backend() string { return "routes" }

// Notes implements experiment.Noted.
func (r *Routes) Notes() []string { return r.Match.Notes }

// Apply implements experiment.Op. Where one can't be made, none is left.
func (r *Routes) Apply(context.Context) error {
	return r.host.FS.InNetwork(r.Net, func() error {
		if r.Remove {
			return r.remove()
		}
		if err := r.add(slices.Concat(r.Match.Far, r.Narrower)); err != nil {
			return errors.Join(err, r.remove())
		}
		return nil
	})
}

// add makes those that are not there yet.
func (r *Routes) add(to []netip.Prefix) error {
	own, err := r.own()
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	for _, p := range to {
		if slices.ContainsFunc(own, func(o netlink.Route) bool { return prefixTo(o) == p }) {
			continue
		}
		// NLM_F_CREATE alone puts it before those of IPv4 with its prefix and
		// metric (fib_table_insert, net/ipv4/fib_trie.c).
		if err := h.RouteAddEcmp(r.route(p)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add %s route to %s: %w", r.Type, p, err)
		}
	}
	return nil
}

func (r *Routes) route(to netip.Prefix) *netlink.Route {
	route := &netlink.Route{
		Dst:   &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())},
		Table: unix.RT_TABLE_MAIN, Type: routeTypes[r.Type].number, Protocol: routeProtocol,
	}
	if to.Addr().Is6() {
		route.Priority = routeMetric6
	}
	return route
}

// own lists the run's routes.
func (r *Routes) own() ([]netlink.Route, error) {
	all, err := mainRoutes()
	return slices.DeleteFunc(all, func(p netlink.Route) bool {
		return p.Protocol != routeProtocol || p.Type != routeTypes[r.Type].number
	}), err
}

func (r *Routes) remove() error {
	own, err := r.own()
	if err != nil || len(own) == 0 {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	var errs []error
	for _, o := range own {
		to := prefixTo(o)
		if err := h.RouteDel(r.route(to)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove %s route to %s: %w", r.Type, to, err))
		}
	}
	return errors.Join(errs...)
}
