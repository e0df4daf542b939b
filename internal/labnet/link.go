package labnet

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/proc"
)

// inNewNamespace runs fn on a thread in a network namespace that is new, and
// returns it: ns is what keeps it, in fn too. It goes where fn fails.
func inNewNamespace(fn func(ns *os.File) error) (ns *os.File, err error) {
	err = proc.Do("/proc/self/ns/net", func() error { // Do takes the thread back home, or ends it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return fmt.Errorf("hold the network namespace: %w", err)
		}
		return fn(ns)
	})
	if err != nil && ns != nil {
		_ = ns.Close() // nothing was written
	}
	return ns, err
}

// inNamespace runs fn on a thread in ns.
func inNamespace(ns *os.File, fn func() error) error {
	return proc.Do("/proc/self/fd/"+strconv.Itoa(int(ns.Fd())), fn)
}

// newHandle opens a netlink socket in the namespace of this thread.
func newHandle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return h, nil
}

// setting is a file below /proc/sys/net, of the namespace of the thread that
// writes it.
type setting struct{ file, value string }

// noIPv6 keeps IPv6 addresses, and the packets that come with them, from links
// made later. Loopback keeps ::1.
var noIPv6 = setting{"ipv6/conf/default/disable_ipv6", "1"}

// containerSettings are what Docker sets: ports below 1024 and ping need no
// capability.
var containerSettings = []setting{
	noIPv6,
	{"ipv4/ip_unprivileged_port_start", "0"},
	{"ipv4/ping_group_range", "0 2147483647"},
}

func set(list []setting) error {
	for _, s := range list {
		err := os.WriteFile("/proc/sys/net/"+s.file, []byte(s.value), 0)
		if errors.Is(err, fs.ErrNotExist) && s == noIPv6 { // a kernel without
			continue
		}
		if err != nil {
			return fmt.Errorf("set net/%s to %s: %w", s.file, s.value, err)
		}
	}
	return nil
}

// prepareLab readies the namespace of this thread to be a lab's. What comes in
// from a container is either for an address of this namespace (rule 0, table
// local) or for nobody: networks are kept apart and there is no way out. Who
// tries is told at once ("network is unreachable") instead of waiting for an answer;
// for that the namespace must seem to forward (ip_error in net/ipv4/route.c).
// A kernel without policy routing drops the packets silently.
func prepareLab(h *netlink.Handle) error {
	forward := setting{"ipv4/ip_forward", "1"} // a new namespace takes the host's
	switch err := h.RuleAdd(forwardNothing()); {
	case errors.Is(err, unix.EOPNOTSUPP):
		forward.value = "0"
	case err != nil:
		return fmt.Errorf("keep the networks apart: %w", err)
	}
	err := set([]setting{
		noIPv6,
		{"ipv4/icmp_ratemask", "0"}, // or some are told late
		forward,
	})
	if err != nil {
		return err
	}
	return loopbackUp(h)
}

// forwardNothing is the rule that what was not sent from here goes nowhere.
func forwardNothing() *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority = unix.AF_INET, 1 // after table local
	rule.IifName, rule.Invert = "lo", true       // lo stands for what is sent from here
	rule.Type = unix.RTN_UNREACHABLE
	return rule
}

func loopbackUp(h *netlink.Handle) error {
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1}} // in every namespace (net/core/dev.c)
	if err := h.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// addBridge makes the bridge of a network, up and with its gateway address.
// Its MAC is set, or it would change with the containers that come and go.
func addBridge(h *netlink.Handle, number int, n Network) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br" + strconv.Itoa(number)
	attrs.Flags = net.FlagUp
	attrs.HardwareAddr = mac(n.Gateway)
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := h.LinkAdd(bridge); err != nil {
		return 0, fmt.Errorf("add bridge %s: %w", attrs.Name, err)
	}
	index = bridge.Attrs().Index
	return index, addAddress(h, index, n.Gateway, n.Subnet)
}

// mac makes a hardware address of an IPv4 address, as Docker did for long: who
// takes an address over is found at once by those who have talked to it.
func mac(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

func addAddress(h *netlink.Handle, link int, a netip.Addr, subnet netip.Prefix) error {
	err := h.AddrAdd(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: link}}, &netlink.Addr{
		IPNet:     &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)},
		Broadcast: last(subnet).AsSlice(),
	})
	if err != nil {
		return fmt.Errorf("add address %s: %w", netip.PrefixFrom(a, subnet.Bits()), err)
	}
	return nil
}

// veth is a pair of links: one end on a bridge in the lab, the other in a
// container.
type veth struct {
	name    string // in the lab
	peer    string // in the container
	segment *segment
	address netip.Addr
}

// addVeth makes a pair, and returns the index of the lab's end. The
// container's end is made in its namespace: moving it there later would take
// the kernel a grace period.
func addVeth(h *netlink.Handle, v veth, container *os.File) (index int, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags, attrs.MasterIndex = v.name, net.FlagUp, v.segment.bridge
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: v.peer, PeerHardwareAddr: mac(v.address),
		PeerNamespace: netlink.NsFd(container.Fd()),
	}
	if err := h.LinkAdd(pair); err != nil {
		return 0, fmt.Errorf("add a pair of links on network %s: %w", v.segment.Name, err)
	}
	return pair.Attrs().Index, nil
}

// awaitUp waits until packets pass a link of the lab's. When a link gets its
// carrier, the kernel lets a worker activate it, and the bridge's port with
// it (net/core/link_watch.c); a question for an address that is lost before
// that is asked again after 1 s. To be asked about the link makes a kernel of
// 6.8 or later do the work at once (rtnl_getlink); others are waited for.
func awaitUp(h *netlink.Handle, index int) error {
	for end := time.Now().Add(upTime); ; time.Sleep(100 * time.Microsecond) {
		link, err := h.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("look at link %d: %w", index, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("link %s is not up after %v", link.Attrs().Name, upTime)
		}
	}
}

// upTime is how long a link may take; the kernel waits for 1 s at most between
// two rounds of its worker.
const upTime = 3 * time.Second

// setUp gives the container's end of a pair its address. The netlink socket is
// of the container's namespace.
func (v veth) setUp(h *netlink.Handle) error {
	link, err := h.LinkByName(v.peer)
	if err != nil {
		return fmt.Errorf("find %s: %w", v.peer, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", v.peer, err)
	}
	if err := addAddress(h, link.Attrs().Index, v.address, v.segment.Subnet); err != nil {
		return err
	}
	return addNeighbour(h, link.Attrs().Index, v.segment.Gateway)
}

// addNeighbour tells a link the hardware address of one who is always asked
// for: the gateway, or a container by the lab. So the first packet waits for
// nothing, and the entry is not one of the 1024 that all namespaces of a
// kernel have together (net.ipv4.neigh.default.gc_thresh3, arp(7)), which 100
// containers that talk to each other fill.
func addNeighbour(h *netlink.Handle, link int, a netip.Addr) error {
	if err := h.NeighSet(neighbour(link, a)); err != nil {
		return fmt.Errorf("add neighbour %s: %w", a, err)
	}
	return nil
}

func neighbour(link int, a netip.Addr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link, Family: unix.AF_INET, State: netlink.NUD_PERMANENT,
		IP: a.AsSlice(), HardwareAddr: mac(a),
	}
}

func addDefaultRoute(h *netlink.Handle, gateway netip.Addr) error {
	err := h.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()})
	if err != nil {
		return fmt.Errorf("add a default route by %s: %w", gateway, err)
	}
	return nil
}
