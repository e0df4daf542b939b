package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// join joins the ends of a wire.
func (w *wire) join() error {
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: wireLink},
		PeerName:  wireLink, PeerNamespace: netlink.NsPid(w.far.cmd.Process.Pid),
	}
	for _, e := range w.ends() {
		if err := e.in(func() error { return w.plain6() }); err != nil {
			return err
		}
	}
	if err := w.near.in(func() error { return netlink.LinkAdd(veth) }); err != nil {
		return err
	}
	return errors.Join(
		w.near.in(func() error { return w.raise(nearIP+"/24", nearIP6+"/64") }),
		w.far.in(func() error { return w.raise(farIP+"/24", farIP6+"/64") }),
	)
}

// plain6 has IPv6 of this thread's network namespace do nothing by itself, or
// nothing at all.
func (w *wire) plain6() error {
	for file, value := range map[string]string{"accept_ra": "0", "accept_dad": "0", "disable_ipv6": "1"} {
		if w.v6 && file == "disable_ipv6" {
			continue
		}
		for _, of := range []string{"all", "default"} {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+of+"/"+file, []byte(value), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
				return err
			}
		}
	}
	return nil
}

// raise sets lo and the wire's link up, with its addresses.
func (w *wire) raise(address, address6 string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(wireLink)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(link), addAddress(link, address)); err != nil || !w.v6 {
		return err
	}
	return addAddress(link, address6)
}

func addAddress(link netlink.Link, text string) error {
	a, err := netlink.ParseAddr(text)
	if err != nil {
		return err
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(link, a)
}

// furnish puts things into this thread's network namespace that Simian must
// leave as they are, such as others have.
func furnish(rng *rand.Rand, e *netEnd, note func(string, ...any)) error {
	link, err := netlink.LinkByName(wireLink)
	if err != nil {
		return err
	}
	pieces := []struct {
		name string
		put  func(netlink.Link) error
	}{
		{"a table of rules", addRules},
		{"clsact and a filter", addClsact},
		{"htb at the root", addHtb},
		{"tbf at the root", addTbf},
		{"a route and an address", addRoute},
		{"another link", addLink},
		{"a shorter queue", func(l netlink.Link) error { return netlink.LinkSetTxQLen(l, 321) }},
	}
	for i, p := range pieces {
		if rng.IntN(7) > 0 || e.rooted && (i == 2 || i == 3) {
			continue
		}
		note("%s has %s", e.name, p.name)
		if err := p.put(link); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		e.rooted = e.rooted || i == 2 || i == 3
	}
	return nil
}

// furniture is the name of the nft table that is put there.
const furniture = "furniture"

// addRules adds an nft table that counts what comes in.
func addRules(netlink.Link) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: furniture, Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{
		Name: "incoming", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}})
	return c.Flush()
}

// flushRules is "nft flush ruleset" in this thread's network namespace.
func flushRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.FlushRuleset()
	return c.Flush()
}

func addClsact(l netlink.Link) error {
	at := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
	if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: at}); err != nil {
		return err
	}
	return netlink.FilterAdd(filterAt(l, netlink.HANDLE_MIN_EGRESS, netlink.MakeHandle(1, 1)))
}

// filterAt is a filter for packets that there are none of.
func filterAt(l netlink.Link, parent, class uint32) *netlink.U32 {
	return &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: parent, Priority: 10, Protocol: unix.ETH_P_IP},
		Sel: &netlink.TcU32Sel{
			Flags: netlink.TC_U32_TERMINAL, Nkeys: 1, // of the address to
			Keys: []netlink.TcU32Key{{Mask: 0xffffffff, Val: 0x0a630101, Off: 16}},
		},
		ClassId: class,
	}
}

// addHtb puts a tree at the link's root that is faster than the traffic.
func addHtb(l netlink.Link) error {
	at := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0x10, 0), Parent: netlink.HANDLE_ROOT}
	q := netlink.NewHtb(at)
	q.Defcls = 1
	if err := netlink.QdiscAdd(q); err != nil {
		return err
	}
	for minor, rate := range []uint64{1: 500e6, 2: 10e6} {
		if minor == 0 {
			continue
		}
		class := netlink.NewHtbClass(netlink.ClassAttrs{
			LinkIndex: l.Attrs().Index, Parent: at.Handle, Handle: netlink.MakeHandle(0x10, uint16(minor)),
		}, netlink.HtbClassAttrs{Rate: rate, Ceil: rate})
		if err := netlink.ClassAdd(class); err != nil {
			return err
		}
	}
	return netlink.FilterAdd(filterAt(l, at.Handle, netlink.MakeHandle(0x10, 2)))
}

func addTbf(l netlink.Link) error { return netlink.QdiscAdd(tbfAt(l, 0x11)) }

// tbfAt is a root that is faster than the traffic.
func tbfAt(l netlink.Link, major uint16) *netlink.Tbf {
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(major, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       100e6 / 8, Limit: 1 << 20, Buffer: 1 << 16,
	}
}

func addRoute(l netlink.Link) error {
	_, there, err := net.ParseCIDR("10.99.1.0/24")
	if err != nil {
		return err
	}
	return errors.Join(addAddress(l, "10.99.0.1/32"),
		netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: there, Scope: netlink.SCOPE_LINK}))
}

// addLink adds a pair of links, both up: those that are struck where no
// interface is named.
func addLink(netlink.Link) error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "aux0"}, PeerName: "aux1"}); err != nil {
		return err
	}
	for _, name := range []string{"aux0", "aux1"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	return nil
}

// deleteLink is "ip link del" of the wire's link.
func deleteLink() error {
	link, err := netlink.LinkByName(wireLink)
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// foreign is the major number of the qdisc that somebody else puts there.
const foreign = 0x5aaa

// replaceRoot is "tc qdisc replace … root" on the wire's link.
func replaceRoot() error {
	link, err := netlink.LinkByName(wireLink)
	if err != nil {
		return err
	}
	return netlink.QdiscReplace(tbfAt(link, foreign))
}
