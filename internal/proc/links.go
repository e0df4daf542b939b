package proc

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Link is a network link as its namespace shows it (netdevice(7)).
type Link struct {
	Name      string
	Index     int
	Kind      string // of rtnetlink(7): veth, bridge, ifb, tuntap …; "device" is hardware's own
	Up        bool   // set to be so; a cable may be missing yet
	Loopback  bool
	Hardware  uint16 // type of its addresses: unix.ARPHRD_ETHER …
	MAC       net.HardwareAddr
	MTU       int            // bytes
	Master    int            // index of the bridge, bond or VRF that it is a port of; 0 for none
	Lower     int            // index of the link it stands on (a VLAN's, a macvlan's) in the same namespace; 0 for none
	Addresses []netip.Prefix // with the length of their network
}

// IPv6 tells whether IPv6 can be used on the link: it has an address, as each
// that is up has unless IPv6 was switched off (disable_ipv6, ip-sysctl).
func (l Link) IPv6() bool {
	return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// Links returns the links of a network namespace with their addresses, in
// order of index.
func (f FS) Links(ns experiment.Namespace) (links []Link, err error) {
	err = f.InNetwork(ns, func() error {
		links, err = readLinks()
		if errors.Is(err, netlink.ErrDumpInterrupted) { // it changed meanwhile
			links, err = readLinks()
		}
		return err
	})
	return links, err
}

// readLinks reads the links of this thread's network namespace.
func readLinks() ([]Link, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	messages, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]Link, 0, len(messages))
	for _, m := range messages {
		l, err := netlink.LinkDeserialize(nil, m)
		if err != nil {
			return nil, fmt.Errorf("read a link: %w", err)
		}
		links = append(links, linkOf(l, nl.DeserializeIfInfomsg(m).Type))
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Index, b.Index) })
	return links, addAddresses(links)
}

func linkOf(l netlink.Link, hardware uint16) Link {
	a := l.Attrs()
	link := Link{
		Name: a.Name, Index: a.Index, Kind: l.Type(), Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0,
		Hardware: hardware, MAC: a.HardwareAddr, MTU: a.MTU, Master: a.MasterIndex,
	}
	// What IFLA_LINK means is the kind's affair: a veth's is its other end,
	// and that of another namespace comes with that namespace's id.
	if slices.Contains([]string{"vlan", "macvlan", "ipvlan", "macsec"}, link.Kind) && a.NetNsID < 0 {
		link.Lower = a.ParentIndex
	}
	return link
}

// addAddresses gives each link its addresses. Links are in order of index.
func addAddresses(links []Link) error {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		i, found := slices.BinarySearchFunc(links, a.LinkIndex, func(l Link, index int) int { return cmp.Compare(l.Index, index) })
		if p, ok := prefixOf(a.IPNet); ok && found {
			links[i].Addresses = append(links[i].Addresses, p)
		}
	}
	return nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), ones), ok
}
