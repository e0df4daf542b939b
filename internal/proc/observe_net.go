package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// observeNet reads a network namespace: through the process via, unless it is
// the one this process is in.
func (f FS) observeNet(ns experiment.Namespace) ([]string, error) {
	if own, err := inodeOf("/proc/self/ns/net"); err == nil && own == ns.Inode {
		return readNet()
	}
	path := f.path(ns.Via.PID, "ns", "net")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if !f.Alive(ns.Via) {
		if err == nil {
			_ = unix.Close(fd)
		}
		return nil, experiment.ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open its network namespace: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != ns.Inode {
		return nil, experiment.ErrGone
	}
	var lines []string
	err = doIn(fd, "its network namespace", func() (err error) {
		lines, err = readNet()
		return err
	})
	return lines, err
}

// readNet reads the network namespace of this thread.
func readNet() ([]string, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	r := netReader{handle: handle, names: map[int]string{0: "-"}}
	for _, read := range []func() error{r.links, r.addresses, r.routes, r.rules, r.control, r.nft, r.ports} {
		mark := len(r.lines)
		err := read()
		if errors.Is(err, netlink.ErrDumpInterrupted) { // it changed meanwhile
			r.lines = r.lines[:mark]
			err = read()
		}
		if err != nil {
			r.lines = append(r.lines, unreadable(err))
		}
	}
	return r.lines, nil
}

// ports gives those that are not handed out, where there are any
// (ip_local_reserved_ports, ip-sysctl).
func (r *netReader) ports() error {
	text, err := readFile("/proc/sys/net/ipv4/ip_local_reserved_ports", true)
	if list := strings.TrimSpace(string(text)); list != "" {
		r.lines = append(r.lines, "reserved ports "+list)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// netReader collects the facts of one network namespace.
type netReader struct {
	handle *netlink.Handle
	names  map[int]string // of links, by index
	lines  []string
}

// name returns the name of a link.
func (r *netReader) name(index int) string {
	if name, ok := r.names[index]; ok {
		return name
	}
	return fmt.Sprintf("if%d", index)
}

func (r *netReader) links() error {
	links, err := r.handle.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		r.names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		r.lines = append(r.lines, strings.TrimSpace(fmt.Sprintf("link %s index %d type %s flags %s%s mtu %d master %s parent %d txqueuelen %d address %s alias %q %s",
			a.Name, a.Index, l.Type(), a.Flags&^net.FlagRunning, modes(a), a.MTU, r.name(a.MasterIndex), a.ParentIndex, a.TxQLen,
			a.HardwareAddr, a.Alias, program(a.Xdp))))
	}
	return nil
}

// modes gives the flags of netdevice(7) that net.Flags leaves out.
func modes(a *netlink.LinkAttrs) (s string) {
	for _, f := range []struct {
		bit  uint32
		name string
	}{{unix.IFF_PROMISC, "|promisc"}, {unix.IFF_ALLMULTI, "|allmulti"}, {unix.IFF_NOARP, "|noarp"}} {
		if a.RawFlags&f.bit != 0 {
			s += f.name
		}
	}
	return s
}

func program(x *netlink.LinkXdp) string {
	if x == nil || !x.Attached {
		return ""
	}
	return fmt.Sprintf("xdp %d", x.ProgId)
}

// addresses leaves out those that IPv6's privacy extensions make and drop.
func (r *netReader) addresses() error {
	list, err := r.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range list {
		if a.IPNet == nil || a.IP.To4() == nil && a.Flags&unix.IFA_F_TEMPORARY != 0 {
			continue
		}
		r.lines = append(r.lines, fmt.Sprintf("address %s on %s scope %d label %q peer %s broadcast %s",
			a.IPNet, r.name(a.LinkIndex), a.Scope, a.Label, a.Peer, a.Broadcast))
	}
	return nil
}

func (r *netReader) routes() error {
	every := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	list, err := r.handle.RouteListFiltered(netlink.FAMILY_ALL, every, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range list {
		const state = unix.RTNH_F_DEAD | unix.RTNH_F_LINKDOWN | unix.RTNH_F_OFFLOAD
		route.Flags &^= state
		for _, hop := range route.MultiPath {
			hop.Flags &^= state
		}
		r.lines = append(r.lines, fmt.Sprintf("route %s via %s %s", route.Dst, r.name(route.LinkIndex), fact(route, "LinkIndex", "Dst")))
	}
	return nil
}

func (r *netReader) rules() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := r.handle.RuleList(family)
		if err != nil {
			return fmt.Errorf("list rules: %w", err)
		}
		for _, rule := range list {
			r.lines = append(r.lines, fmt.Sprintf("rule family %d %s", family, fact(rule, "Family")))
		}
	}
	return nil
}

// control reads traffic control (tc(8)): qdiscs, and of those that somebody
// has set, which have a handle, the classes and filters.
func (r *netReader) control() error {
	qdiscs, err := r.handle.QdiscList(nil)
	if err != nil {
		return fmt.Errorf("list qdiscs: %w", err)
	}
	parents := map[int][]uint32{} // where filters may hang, by link
	for _, q := range qdiscs {
		a := q.Attrs()
		if _, known := r.names[a.LinkIndex]; !known {
			continue
		}
		r.lines = append(r.lines, fmt.Sprintf("qdisc %s on %s handle %s parent %s %s", q.Type(), r.name(a.LinkIndex),
			netlink.HandleStr(a.Handle), netlink.HandleStr(a.Parent), fact(q, "QdiscAttrs", "QdiscType", "DirectPkts")))
		switch {
		case q.Type() == "clsact":
			parents[a.LinkIndex] = append(parents[a.LinkIndex], netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS)
		case a.Handle != 0:
			parents[a.LinkIndex] = append(parents[a.LinkIndex], a.Handle)
		}
	}
	for index, list := range parents {
		link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
		classes, err := r.classes(link)
		if err != nil {
			return err
		}
		if err := r.filters(link, append(list, classes...)); err != nil {
			return err
		}
	}
	return nil
}

func (r *netReader) classes(link netlink.Link) (handles []uint32, err error) {
	list, err := r.handle.ClassList(link, 0)
	if err != nil {
		return nil, fmt.Errorf("list classes on %s: %w", r.name(link.Attrs().Index), err)
	}
	for _, c := range list {
		a := c.Attrs()
		handles = append(handles, a.Handle)
		r.lines = append(r.lines, fmt.Sprintf("class %s on %s handle %s parent %s leaf %s %s", c.Type(), r.name(a.LinkIndex),
			netlink.HandleStr(a.Handle), netlink.HandleStr(a.Parent), netlink.HandleStr(a.Leaf), fact(c, "ClassAttrs", "ClassType")))
	}
	return handles, nil
}

func (r *netReader) filters(link netlink.Link, parents []uint32) error {
	for _, parent := range parents {
		list, err := r.handle.FilterList(link, parent)
		if err != nil {
			return fmt.Errorf("list filters on %s: %w", r.name(link.Attrs().Index), err)
		}
		for _, filter := range list {
			a := filter.Attrs()
			r.lines = append(r.lines, fmt.Sprintf("filter %s on %s parent %s priority %d protocol %#x handle %#x %s", filter.Type(),
				r.name(a.LinkIndex), netlink.HandleStr(parent), a.Priority, a.Protocol, a.Handle,
				fact(filter, "FilterAttrs", "FilterType", "Statistics", "Timestamp", "Index", "Refcnt", "Bindcnt", "Fd")))
		}
	}
	return nil
}
