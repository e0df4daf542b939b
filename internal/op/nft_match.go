package op

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// everything tells whether no packet is left alone. Names that resolve to
// nothing yet are a filter, too.
func (t *Table) everything() bool {
	return t.Match.Everything() && !t.farWanted() && !t.farExcepted()
}

func (t *Table) farWanted() bool {
	return len(t.Match.Far) > 0 || t.Match.Names != nil && len(t.Match.Names.Hosts) > 0
}

func (t *Table) farExcepted() bool {
	return len(t.Match.Except.Far) > 0 || t.Match.Names != nil && len(t.Match.Names.ExceptHosts) > 0
}

// judge adds the chains that tell whether a packet matches: they return where
// it does, and accept it where it does not.
func (c *nftCompiler) judge(w nftWay) {
	chain := w.name + "_match"
	c.chain(w, chain)
	v4, v6 := nftView{w, false, w.name + "_ipv4"}, nftView{w, true, w.name + "_ipv6"}
	key, word := uint32(unix.NFT_META_NFPROTO), "meta nfproto "
	is4, is6 := []byte{unix.NFPROTO_IPV4}, []byte{unix.NFPROTO_IPV6}
	if w.family == unix.NFPROTO_NETDEV {
		key, word = unix.NFT_META_PROTOCOL, "meta protocol "
		is4 = binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP)
		is6 = binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)
		c.tagged(w, chain)
	}
	c.rule(w, chain, metaIs(key, word+"ipv4", is4...), goTo(v4.chain))
	c.rule(w, chain, metaIs(key, word+"ipv6", is6...), goTo(v6.chain))
	c.rule(w, chain, c.count(w, "other"), accept())
	c.family(v4)
	c.family(v6)
}

// tagged leaves frames of a VLAN alone: they belong to a link of their own
// above this one. The kernel hides the tag in front of IP, and shows it again
// to who asks for the frame's own type. A link without such frames has none.
func (c *nftCompiler) tagged(w nftWay, chain string) {
	c.set(w, "vlans", func() nftSet {
		return nftSet{kind: kindFrame(), spans: singles(
			binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021Q), binary.BigEndian.AppendUint16(nil, unix.ETH_P_8021AD))}
	})
	load := loadBytes(unix.NFT_PAYLOAD_LL_HEADER, 12, 2, reg)
	c.rule(w, chain, phrase{"ether type @vlans", []nftExpr{load, inSet("vlans", false)}}, c.count(w, "vlan"), accept())
}

// family adds the chain for one family of addresses.
func (c *nftCompiler) family(v nftView) {
	c.chain(v.nftWay, v.chain)
	if v.v6 {
		c.neighbours(v.nftWay, v.chain)
	}
	c.excepted(v)
	wanted, ports := c.wanted(v)
	if c.needsPorts() {
		c.fragments(v)
	}
	c.matching(v, wanted, ports)
	c.nearMisses(v)
	c.rule(v.nftWay, v.chain, accept())
}

// neighbours leaves alone what is to IPv6 what ARP is to IPv4: neighbour
// discovery (RFC 4861, types 133 to 137 of ICMPv6) and multicast listeners
// (RFC 2710 and 3810, 130 to 132 and 143). It is of none of the flows that a
// filter names, but all of them need it.
func (c *nftCompiler) neighbours(w nftWay, chain string) {
	kind := loadBytes(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, reg)
	for _, types := range []phrase{
		{"icmpv6 type 130-137", []nftExpr{kind, compare(unix.NFT_CMP_GTE, 130), compare(unix.NFT_CMP_LTE, 137)}},
		{"icmpv6 type 143", []nftExpr{kind, compare(unix.NFT_CMP_EQ, 143)}},
	} {
		c.rule(w, chain, protocolIs(unix.IPPROTO_ICMPV6), types, c.count(w, "other"), accept())
	}
}

// needsPorts tells whether a packet is judged by ports.
func (c *nftCompiler) needsPorts() bool {
	m := &c.t.Match
	return len(m.Ports)+len(m.SourcePorts)+len(m.Except.Ports)+len(m.Except.SourcePorts) > 0 || c.sharesFlows()
}

func (c *nftCompiler) sharesFlows() bool { return c.t.Match.Percent > 0 && c.t.Match.Percent < 100 }

// excepted adds the rules for what is left alone.
func (c *nftCompiler) excepted(v nftView) {
	x := c.t.Match.Except
	leave := func(p ...phrase) {
		c.rule(v.nftWay, v.chain, append(p, c.count(v.nftWay, "excepted"), accept())...)
	}
	if len(x.Protocols) > 0 {
		leave(c.protocols(v, "except_protocols", x.Protocols))
	}
	if c.t.farExcepted() {
		leave(c.far(v, "except_far", x))
	}
	if len(x.Ports) > 0 {
		leave(c.ported(v), c.ports(v, "except_ports", x.Ports, true))
	}
	if len(x.SourcePorts) > 0 {
		leave(c.ported(v), c.ports(v, "except_source_ports", x.SourcePorts, false))
	}
}

// wanted returns what a packet must have, what is quick to tell first, and
// whether ports are among it.
func (c *nftCompiler) wanted(v nftView) (all []phrase, ports bool) {
	m := &c.t.Match
	if len(m.Protocols) > 0 {
		all = append(all, c.protocols(v, "protocols", m.Protocols))
	}
	if ports = len(m.Ports)+len(m.SourcePorts) > 0; ports {
		all = append(all, c.ported(v))
	}
	if len(m.Ports) > 0 {
		all = append(all, c.ports(v, "ports", m.Ports, true))
	}
	if len(m.SourcePorts) > 0 {
		all = append(all, c.ports(v, "source_ports", m.SourcePorts, false))
	}
	if c.t.farWanted() {
		all = append(all, c.far(v, "far", m.Criteria))
	}
	return all, ports
}

// fragments leaves alone what has no ports since it is a later part of a
// packet (RFC 791, RFC 8200): its first part, which has them, decides. A packet
// without its first part is lost as a whole.
func (c *nftCompiler) fragments(v nftView) {
	later := phrase{"ip frag-off & 0x1fff != 0", []nftExpr{
		loadBytes(unix.NFT_PAYLOAD_NETWORK_HEADER, 6, 2, reg), mask16(0x1fff), compare(unix.NFT_CMP_NEQ, 0, 0),
	}}
	if v.v6 {
		header := newExpr("exthdr", func(a *attrs) {
			a.u32(unix.NFTA_EXTHDR_DREG, reg)
			a.put(unix.NFTA_EXTHDR_TYPE, unix.IPPROTO_FRAGMENT)
			a.u32(unix.NFTA_EXTHDR_OFFSET, 2)
			a.u32(unix.NFTA_EXTHDR_LEN, 2)
		})
		later = phrase{"frag frag-off & 0xfff8 != 0", []nftExpr{header, mask16(0xfff8), compare(unix.NFT_CMP_NEQ, 0, 0)}}
	}
	c.rule(v.nftWay, v.chain, c.ported(v), later, c.count(v.nftWay, "fragments"), accept())
}

// matching adds the rules that return for a packet that matches: all flows, or
// a share of them.
func (c *nftCompiler) matching(v nftView, wanted []phrase, ports bool) {
	add := func(p ...phrase) { c.rule(v.nftWay, v.chain, p...) }
	if !c.sharesFlows() {
		add(append(wanted, back())...)
		return
	}
	if ports {
		add(append(wanted, c.flows(v, true), back())...)
	} else {
		add(append(append([]phrase{c.ported(v)}, wanted...), c.flows(v, true), back())...)
		add(append(append([]phrase{c.unported(v)}, wanted...), c.flows(v, false), back())...)
	}
	add(append(wanted, c.count(v.nftWay, "unchosen"), accept())...)
}

// nearMisses counts what a packet that does not match had of it, where it
// could have some of it; and whether the ports were meant the other way round.
func (c *nftCompiler) nearMisses(v nftView) {
	m := &c.t.Match
	several := 0
	for _, asked := range []bool{len(m.Protocols) > 0, c.t.farWanted(), len(m.Ports) > 0, len(m.SourcePorts) > 0} {
		if asked {
			several++
		}
	}
	tally := func(name string, p ...phrase) {
		c.rule(v.nftWay, v.chain, append(p, c.count(v.nftWay, name))...)
	}
	if len(m.Protocols) > 0 && several > 1 {
		tally("protocol", c.protocols(v, "protocols", m.Protocols))
	}
	if c.t.farWanted() && several > 1 {
		tally("far", c.far(v, "far", m.Criteria))
	}
	if len(m.Ports) > 0 {
		if several > 1 {
			tally("ports", c.ported(v), c.ports(v, "ports", m.Ports, true))
		}
		tally("ports_swapped", c.ported(v), c.ports(v, "ports", m.Ports, false))
	}
	if len(m.SourcePorts) > 0 {
		if several > 1 {
			tally("source_ports", c.ported(v), c.ports(v, "source_ports", m.SourcePorts, false))
		}
		tally("source_ports_swapped", c.ported(v), c.ports(v, "source_ports", m.SourcePorts, true))
	}
}
