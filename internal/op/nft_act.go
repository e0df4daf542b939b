package op

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/filter"
)

// answers lets out what tells the far end that its packet was rejected.
func (c *nftCompiler) answers(w nftWay, add func(...phrase)) {
	if !c.t.Act.tells() || !w.egress || !c.t.Match.Ingress {
		return
	}
	th := uint32(unix.NFT_PAYLOAD_TRANSPORT_HEADER)
	add(protocolIs(unix.IPPROTO_ICMP), bytesAre("icmp type destination-unreachable", th, 0, 3), accept())
	add(protocolIs(unix.IPPROTO_ICMPV6), bytesAre("icmpv6 type destination-unreachable", th, 0, 1), accept())
	if c.t.Act.Kind == ActReset {
		load := loadBytes(th, 12, 2, reg)
		add(protocolIs(unix.IPPROTO_TCP),
			phrase{"tcp flags rst", []nftExpr{load, mask16(0x4), compare(unix.NFT_CMP_NEQ, 0, 0)}}, accept())
	}
}

func protocolIs(n uint8) phrase {
	return metaIs(unix.NFT_META_L4PROTO, "meta l4proto "+protocolName(n), n)
}

// act returns the rules that act on a packet that matched.
func (c *nftCompiler) act(w nftWay, l filter.Link) [][]phrase {
	a := c.t.Act
	admin := reject(unix.NFT_REJECT_ICMPX_UNREACH, unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED, "icmpx admin-prohibited")
	switch a.Kind {
	case ActReject:
		return [][]phrase{{admin}}
	case ActReset:
		return [][]phrase{
			{protocolIs(unix.IPPROTO_TCP), reject(unix.NFT_REJECT_TCP_RST, 0, "tcp reset")},
			{admin},
		}
	case ActPrio:
		text := fmt.Sprintf("meta priority set %x:%x", a.Class>>16, a.Class&0xffff)
		return [][]phrase{{metaSet(unix.NFT_META_PRIORITY, text, a.Class)}}
	case ActFwd:
		d := a.device(l.Index, w.egress)
		return [][]phrase{{forward(d.Index, d.Name)}}
	}
	lose := drop()
	if w.egress && w.family == unix.NFPROTO_NETDEV {
		lose = forward(0, "")
	}
	if a.Percent == 0 || a.Percent == 100 {
		return [][]phrase{{lose}}
	}
	return [][]phrase{{chance(a.Percent), c.count(w, "lost"), lose}}
}
