package filter

import (
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// possible gives an error where no packet could match m, and notes which of
// the ranges asked for can't match any.
func (f *Filter) possible(m *Match, e ends, far, except *netipx.IPSet) error {
	if err := listsLeft(m); err != nil {
		return err
	}
	if len(m.Far)+len(m.Except.Far) == 0 {
		return nil
	}
	reach, err := e.reach()
	if err != nil {
		return err
	}
	if len(m.Far) == 0 {
		far = reach
	}
	left, err := minus(far, except)
	switch {
	case err != nil:
		return err
	case len(m.Far) > 0 && !far.Overlaps(reach):
		return fmt.Errorf("the filter could match nothing: %s: %s", cut(places(m.Far), ", "), e.why(m.Far[0].Addr()))
	case len(far.Prefixes()) > 0 && !left.Overlaps(reach):
		return fmt.Errorf("the filter could match nothing: all of %s is excluded (%s)", cut(places(far.Prefixes()), ", "), cut(places(m.Except.Far), ", "))
	}
	for _, text := range f.CIDRs {
		if p, err := parseRange(text); err == nil && !reach.OverlapsPrefix(p) {
			m.Notes = append(m.Notes, fmt.Sprintf("%s can match nothing: %s", text, e.why(p.Addr())))
		}
	}
	return nil
}

// listsLeft gives an error where a list of m's has nothing in it that is not
// excluded.
func listsLeft(m *Match) error {
	nothing := func(field string) error {
		return experiment.Fieldf("exclude/"+field, "the filter could match nothing: all of its %s are excluded", field)
	}
	excluded := func(n uint8) bool { return slices.Contains(m.Except.Protocols, n) }
	switch {
	case len(m.Protocols) > 0 && !slices.ContainsFunc(m.Protocols, func(n uint8) bool { return !excluded(n) }):
		return nothing("protocol")
	case len(m.Ports) > 0 && !anyLeft(m.Ports, m.Except.Ports):
		return nothing("ports")
	case len(m.SourcePorts) > 0 && !anyLeft(m.SourcePorts, m.Except.SourcePorts):
		return nothing("sourcePorts")
	}
	return nil
}

// ends are what a target can talk from.
type ends struct {
	lo, others bool         // which links are meant
	v4, v6     bool         // it has such an address
	near6      bool         // it has a link-local one of IPv6
	own        []netip.Addr // all of its addresses
}

// endsOf looks at all links, since a packet may leave by one link with the
// address of another.
func endsOf(all []proc.Link, meant []Link) (e ends) {
	for _, l := range all {
		chosen := slices.ContainsFunc(meant, func(m Link) bool { return m.Index == l.Index })
		e.lo = e.lo || chosen && l.Loopback
		e.others = e.others || chosen && !l.Loopback
		for _, p := range l.Addresses {
			a := p.Addr()
			e.own = append(e.own, a)
			e.v4 = e.v4 || a.Is4() && !a.IsLoopback()
			e.v6 = e.v6 || a.Is6() && !a.IsLoopback() && !a.IsLinkLocalUnicast()
			e.near6 = e.near6 || a.Is6() && a.IsLinkLocalUnicast()
		}
	}
	return e
}

// reach returns the addresses that packets on the links meant may go to, or
// come from.
func (e ends) reach() (*netipx.IPSet, error) {
	var b netipx.IPSetBuilder
	add := func(ranges ...string) {
		for _, r := range ranges {
			b.AddPrefix(netip.MustParsePrefix(r))
		}
	}
	if e.others && e.v4 {
		add("0.0.0.0/0")
	}
	if e.others && e.v6 {
		add("::/0")
	}
	if e.others && e.near6 {
		add("fe80::/10", "ff00::/8")
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, a := range e.own {
		loopback = append(loopback, netip.PrefixFrom(a, a.BitLen())) // to itself it talks over lo
	}
	for _, p := range loopback {
		b.RemovePrefix(p)
		if e.lo {
			b.AddPrefix(p)
		}
	}
	return b.IPSet()
}

// why says what keeps packets from going to a.
func (e ends) why(a netip.Addr) string {
	switch {
	case a.IsLoopback() || slices.Contains(e.own, a):
		return "packets to it go over lo (interfaces: [lo])"
	case !e.others:
		return "packets to it do not go over lo, the only link meant"
	case a.Is4():
		return "the target has no IPv4 address"
	case e.near6:
		return "the target has link-local IPv6 addresses only"
	}
	return "the target has no IPv6 address"
}

func union(a, b *netipx.IPSet) (*netipx.IPSet, error) {
	var all netipx.IPSetBuilder
	all.AddSet(a)
	all.AddSet(b)
	return all.IPSet()
}

func minus(a, b *netipx.IPSet) (*netipx.IPSet, error) {
	var left netipx.IPSetBuilder
	left.AddSet(a)
	left.RemoveSet(b)
	return left.IPSet()
}
