package op

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/filter"
)

// nftView is packets of one direction and one family of addresses: where in
// them the target and the far end stand.
type nftView struct {
	nftWay
	v6    bool
	chain string
}

func (c *nftCompiler) protocols(v nftView, set string, numbers []uint8) phrase {
	var keys [][]byte
	for _, n := range numbers {
		keys = append(keys, []byte{n})
	}
	c.set(v.nftWay, set, func() nftSet { return nftSet{kind: kindProtocol(), spans: singles(keys...)} })
	return metaIn(unix.NFT_META_L4PROTO, "meta l4proto", set, false)
}

// ported is of protocols whose header begins with two ports: others have
// something else there.
func (c *nftCompiler) ported(v nftView) phrase {
	return metaIn(unix.NFT_META_L4PROTO, "meta l4proto", c.portedSet(v), false)
}

func (c *nftCompiler) unported(v nftView) phrase {
	return metaIn(unix.NFT_META_L4PROTO, "meta l4proto", c.portedSet(v), true)
}

func (c *nftCompiler) portedSet(v nftView) string {
	spans := singles([]byte{unix.IPPROTO_TCP}, []byte{unix.IPPROTO_UDP}, []byte{unix.IPPROTO_DCCP},
		[]byte{unix.IPPROTO_SCTP}, []byte{unix.IPPROTO_UDPLITE})
	return c.set(v.nftWay, "ported", func() nftSet { return nftSet{kind: kindProtocol(), spans: spans} })
}

// ports are those of the far end, or of the target.
func (c *nftCompiler) ports(v nftView, set string, ranges []filter.PortRange, far bool) phrase {
	c.set(v.nftWay, set, func() nftSet { return nftSet{kind: kindPort(), interval: true, spans: portSpans(ranges)} })
	load, word := v.loadPort(far, reg)
	return phrase{word + " @" + set, []nftExpr{load, inSet(set, false)}}
}

// loadPort loads the port of the far end or of the target.
func (v nftView) loadPort(far bool, dreg uint32) (nftExpr, string) {
	th := uint32(unix.NFT_PAYLOAD_TRANSPORT_HEADER)
	if far == v.egress {
		return loadBytes(th, 2, 2, dreg), "th dport"
	}
	return loadBytes(th, 0, 2, dreg), "th sport"
}

// far is of addresses of the far end. There is a set for each family, even an
// empty one: a name may get an address later.
func (c *nftCompiler) far(v nftView, set string, x filter.Criteria) phrase {
	set += v.digit()
	c.set(v.nftWay, set, func() nftSet { return farSet(x.Far, v.v6) })
	load, word, _ := v.loadAddress(true, reg)
	return phrase{word + " @" + set, []nftExpr{load, inSet(set, false)}}
}

// digit ends the names of sets of one family's addresses.
func (v nftView) digit() string {
	if v.v6 {
		return "6"
	}
	return "4"
}

// farSet is the set of one family's addresses.
func farSet(prefixes []netip.Prefix, v6 bool) nftSet {
	kind := kindIPv4()
	if v6 {
		kind = kindIPv6()
	}
	return nftSet{kind: kind, interval: true, spans: addressSpans(prefixes, v6)}
}

// loadAddress loads the address of the far end or of the target; registers is
// how many it takes.
func (v nftView) loadAddress(far bool, dreg uint32) (load nftExpr, word string, registers uint32) {
	nh := uint32(unix.NFT_PAYLOAD_NETWORK_HEADER)
	destination := far == v.egress
	switch {
	case v.v6 && destination:
		return loadBytes(nh, 24, 16, dreg), "ip6 daddr", 4
	case v.v6:
		return loadBytes(nh, 8, 16, dreg), "ip6 saddr", 4
	case destination:
		return loadBytes(nh, 16, 4, dreg), "ip daddr", 1
	}
	return loadBytes(nh, 12, 4, dreg), "ip saddr", 1
}

// flows is a share of flows. The hash is of target, far end and their ports in
// this order, so that both directions of a flow have one, on every machine and
// in every run with the same seed.
func (c *nftCompiler) flows(v nftView, ports bool) phrase {
	p := phrase{}
	at := uint32(reg)
	add := func(load nftExpr, word string, registers uint32) {
		p.exprs = append(p.exprs, load)
		if p.text != "" {
			p.text += " . "
		}
		p.text += word
		at += registers
	}
	add(v.loadAddress(false, at))
	add(v.loadAddress(true, at))
	if ports {
		for _, far := range []bool{false, true} {
			load, word := v.loadPort(far, at)
			add(load, word, 1)
		}
	}
	m := &c.t.Match
	p.exprs = append(p.exprs, hashBelow(4*(at-reg), m.Seed, m.Percent)...)
	p.text = fmt.Sprintf("jhash %s mod %d seed %#x < %d", p.text, ofHundred, m.Seed, parts(m.Percent))
	return p
}
