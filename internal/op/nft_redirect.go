package op

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// redirect is an nft table that gives what the processes of a network
// namespace send to a port elsewhere to sockets on loopback instead
// (redirect of nft(8), in the hook output). It belongs to the netlink socket
// that it is made through, and goes with it.
type redirect struct {
	table string
	mark  uint32 // what bears it is left alone: the packets of who serves those sockets
	port  uint16 // where packets were to go
	to    []redirectTo
}

// redirectTo is a socket: on 127.0.0.1 or on ::1.
type redirectTo struct {
	six      bool
	protocol uint8 // IPPROTO_UDP or IPPROTO_TCP
	port     uint16
}

// redirectPriority comes right before dstnat, -100: of all that would send a
// packet elsewhere, the first one does.
const redirectPriority = -101

// compile returns the transaction that makes the table. The kernel asks the
// rules for the first packet of a flow only, and does the same with the rest.
func (r redirect) compile() []nftMessage {
	c := &nftCompiler{t: &Table{Name: r.table}, known: map[string]bool{}}
	w := nftWay{name: "output", family: unix.NFPROTO_INET, hook: unix.NF_INET_LOCAL_OUT, prio: redirectPriority, kind: "nat"}
	c.table(w)
	c.baseChain(w, w.name, "")
	mark := binary.NativeEndian.AppendUint32(nil, r.mark)
	c.rule(w, w.name, metaIs(unix.NFT_META_MARK, fmt.Sprintf("meta mark %#x", r.mark), mark...), accept())
	c.rule(w, w.name, metaIs(unix.NFT_META_NFPROTO, "meta nfproto ipv6", unix.NFPROTO_IPV6), linkLocal(), accept())
	for _, to := range r.to {
		c.rule(w, w.name, r.phrases(to)...)
	}
	return append(append(c.tables, c.chains...), c.rules...)
}

// phrases redirect what goes to the port, and of TCP what begins a connection:
// one that stands already would be reset.
func (r redirect) phrases(to redirectTo) []phrase {
	family, name := uint8(unix.NFPROTO_IPV4), "ipv4"
	if to.six {
		family, name = unix.NFPROTO_IPV6, "ipv6"
	}
	list := []phrase{metaIs(unix.NFT_META_NFPROTO, "meta nfproto "+name, family), protocolIs(to.protocol)}
	th := uint32(unix.NFT_PAYLOAD_TRANSPORT_HEADER)
	list = append(list, bytesAre(fmt.Sprintf("th dport %d", r.port), th, 2, binary.BigEndian.AppendUint16(nil, r.port)...))
	if to.protocol == unix.IPPROTO_TCP {
		list = append(list, tcpSyn())
	}
	return append(list, redirectInto(to.port))
}

// tcpSyn is of packets that begin a connection.
func tcpSyn() phrase {
	const syn = 0x2
	load := loadBytes(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 12, 2, reg)
	return phrase{"tcp flags syn", []nftExpr{load, mask16(syn), compare(unix.NFT_CMP_NEQ, 0, 0)}}
}

// linkLocal is of packets to fe80::/10: without its link, nobody could pass
// them on.
func linkLocal() phrase {
	load := loadBytes(unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 2, reg)
	return phrase{"ip6 daddr fe80::/10", []nftExpr{load, mask16(0xffc0), compare(unix.NFT_CMP_EQ, 0xfe, 0x80)}}
}

// redirectInto gives a packet to a port of loopback.
func redirectInto(port uint16) phrase {
	return phrase{fmt.Sprintf("redirect to :%d", port), []nftExpr{
		loadValue(binary.BigEndian.AppendUint16(nil, port)...),
		newExpr("redir", func(a *attrs) { a.u32(unix.NFTA_REDIR_REG_PROTO_MIN, reg) }),
	}}
}

// lift puts a rule before all others: what begins from then on goes its own
// way, and what was redirected is redirected still. Were the others removed,
// nothing would be translated any more: it is they for whose sake the kernel
// follows connections (nft_redir_init of net/netfilter/nft_redir.c).
func (r redirect) lift() []nftMessage {
	c := &nftCompiler{t: &Table{Name: r.table}}
	c.rule(nftWay{family: unix.NFPROTO_INET}, "output", accept())
	c.rules[0].flags &^= unix.NLM_F_APPEND
	return c.rules
}

// missing says what of the table is not there, "" where all is.
func (r redirect) missing(fd int) (string, error) {
	return missingRules(fd, r.table, len(r.compile())-2) // the table and its chain
}

func missingRules(fd int, table string, want int) (string, error) {
	rules, err := (&Table{Name: table}).list(fd, unix.NFT_MSG_NEWRULE, unix.NFPROTO_INET)
	if err != nil {
		return "", err
	}
	if len(rules) != want {
		return fmt.Sprintf("nft table inet %s has %d of its %d rules", table, len(rules), want), nil
	}
	return "", nil
}
