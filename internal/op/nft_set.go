package op

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/filter"
)

// nftSet is a set of a table.
type nftSet struct {
	name     string
	kind     nftKind
	interval bool   // elements are ranges
	spans    []span // sorted, neither touching nor overlapping where they are ranges
}

// nftKind is the type of a set's keys, in nft(8)'s own numbering
// (include/datatype.h of nftables).
type nftKind struct {
	name   string
	number uint32
	size   uint32
}

// The kinds of keys.
func kindIPv4() nftKind     { return nftKind{"ipv4_addr", 7, 4} }
func kindIPv6() nftKind     { return nftKind{"ipv6_addr", 8, 16} }
func kindProtocol() nftKind { return nftKind{"inet_proto", 12, 1} }
func kindPort() nftKind     { return nftKind{"inet_service", 13, 2} }
func kindFrame() nftKind    { return nftKind{"ether_type", 10, 2} }
func kindLink() nftKind     { return nftKind{"iface_index", 20, 4} }

// span is keys from one to another, both included, and how they are shown.
type span struct{ first, last []byte }

// singles returns a span for each key.
func singles(keys ...[]byte) []span {
	var s []span
	for _, k := range keys {
		s = append(s, span{k, k})
	}
	return s
}

// portSpans returns ranges of ports, those that touch as one.
func portSpans(ports []filter.PortRange) []span {
	var s []span
	for _, p := range ports {
		s = append(s, span{binary.BigEndian.AppendUint16(nil, p.First), binary.BigEndian.AppendUint16(nil, p.Last)})
	}
	return joined(s)
}

// addressSpans returns the ranges of one family, those that touch as one.
func addressSpans(prefixes []netip.Prefix, v6 bool) []span {
	var s []span
	for _, p := range prefixes {
		if p.Addr().Is6() != v6 {
			continue
		}
		first := p.Masked().Addr().AsSlice()
		last := bytes.Clone(first)
		for i := p.Bits(); i < 8*len(last); i++ {
			last[i/8] |= 1 << (7 - i%8)
		}
		s = append(s, span{first, last})
	}
	return joined(s)
}

// joined makes one of spans that touch or overlap; they are sorted already.
// The kernel holds a range as its begin and the begin of what is not in it:
// where two of them met, that would be one key.
func joined(spans []span) []span {
	var out []span
	for _, s := range spans {
		if n := len(out) - 1; n >= 0 {
			next, ok := after(out[n].last)
			if !ok || bytes.Compare(s.first, next) <= 0 {
				if bytes.Compare(s.last, out[n].last) > 0 {
					out[n].last = s.last
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// after returns the next key; false where there is none.
func after(key []byte) ([]byte, bool) {
	next := bytes.Clone(key)
	for i := len(next) - 1; i >= 0; i-- {
		next[i]++
		if next[i] != 0 {
			return next, true
		}
	}
	return nil, false
}

// message makes the set, empty.
func (s nftSet) message(table string, family uint8, id uint32) nftMessage {
	m := nftMessage{kind: unix.NFT_MSG_NEWSET, flags: unix.NLM_F_CREATE, family: family}
	m.body.text(unix.NFTA_SET_TABLE, table)
	m.body.text(unix.NFTA_SET_NAME, s.name)
	flags := ""
	if s.interval {
		m.body.u32(unix.NFTA_SET_FLAGS, unix.NFT_SET_INTERVAL)
		flags = " flags interval;"
	}
	m.body.u32(unix.NFTA_SET_KEY_TYPE, s.kind.number)
	m.body.u32(unix.NFTA_SET_KEY_LEN, s.kind.size)
	m.body.u32(unix.NFTA_SET_ID, id)
	m.text = fmt.Sprintf("set %s { type %s;%s }", s.name, s.kind.name, flags)
	return m
}

// setPage is how many ranges go into one message: an attribute holds less than
// 64 KiB, and a range of IPv6 takes 72 bytes.
const setPage = 800

// elements fills the set.
func (s nftSet) elements(table string, family uint8) []nftMessage {
	var out []nftMessage
	for rest := s.spans; len(rest) > 0; {
		page := rest[:min(setPage, len(rest))]
		rest = rest[len(page):]
		m := s.elementMessage(unix.NFT_MSG_NEWSETELEM, table, family)
		m.flags = unix.NLM_F_CREATE
		m.text = fmt.Sprintf("add %s { %s }", s.name, s.listed(page))
		m.body.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(a *attrs) {
			for _, sp := range page {
				s.element(a, sp)
			}
		})
		out = append(out, m)
	}
	return out
}

// flush empties the set.
func (s nftSet) flush(table string, family uint8) nftMessage {
	m := s.elementMessage(unix.NFT_MSG_DELSETELEM, table, family)
	m.text = "flush " + s.name
	return m
}

func (s nftSet) elementMessage(kind uint16, table string, family uint8) nftMessage {
	m := nftMessage{kind: kind, family: family}
	m.body.text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	m.body.text(unix.NFTA_SET_ELEM_LIST_SET, s.name)
	return m
}

// element adds one key, or a range as where it begins and where it is over.
func (s nftSet) element(a *attrs, sp span) {
	a.nest(unix.NFTA_LIST_ELEM, func(a *attrs) { key(a, sp.first) })
	if next, ok := after(sp.last); ok && s.interval {
		a.nest(unix.NFTA_LIST_ELEM, func(a *attrs) {
			key(a, next)
			a.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		})
	}
}

func key(a *attrs, k []byte) {
	a.nest(unix.NFTA_SET_ELEM_KEY, func(a *attrs) { a.put(unix.NFTA_DATA_VALUE, k...) })
}

// listed shows spans, the first few of many.
func (s nftSet) listed(spans []span) string {
	const few = 4
	var words []string
	for i, sp := range spans {
		if i == few && len(spans) > few+1 {
			words = append(words, fmt.Sprintf("… %d more", len(spans)-few))
			break
		}
		word := s.kind.show(sp.first)
		if !bytes.Equal(sp.first, sp.last) {
			word += "-" + s.kind.show(sp.last)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// show writes a key for a reader.
func (k nftKind) show(key []byte) string {
	switch {
	case k == kindFrame():
		return fmt.Sprintf("%#x", key)
	case k.size == 1:
		return protocolName(key[0])
	case k.size == 2:
		return fmt.Sprint(binary.BigEndian.Uint16(key))
	case k == kindLink():
		return fmt.Sprint(binary.NativeEndian.Uint32(key))
	}
	a, _ := netip.AddrFromSlice(key)
	return a.String()
}

// protocolName names those IP protocols that a filter can name (IANA's
// protocol numbers).
func protocolName(n uint8) string {
	switch n {
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprint(n)
}
