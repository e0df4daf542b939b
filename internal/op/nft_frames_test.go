package op

import (
	"encoding/binary"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/filter"
)

// echoRequest sends one ICMP echo request from the target.
func (l *nftLab) echoRequest(network, to string) {
	l.t.Helper()
	var kind icmp.Type = ipv4.ICMPTypeEcho
	if network == "ip6:ipv6-icmp" {
		kind = ipv6.ICMPTypeEchoRequest
	}
	data, err := (&icmp.Message{Type: kind, Body: &icmp.Echo{ID: 7, Seq: 1, Data: []byte("hello")}}).Marshal(nil)
	must(l.t, err)
	l.inTarget(func() error {
		c, err := net.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.WriteTo(data, &net.IPAddr{IP: net.ParseIP(to)})
		return err
	})
}

// TestNftICMP holds that icmp is both families', without what IPv6 needs to
// find its neighbours, and that its flows are of addresses alone.
func TestNftICMP(t *testing.T) {
	t.Parallel()
	l := newNftLab6(t)
	m := filter.Match{Egress: true, Percent: 99.9999, Criteria: filter.Criteria{Protocols: []uint8{1, 58}}}
	table := l.apply(l.table(m, TableAct{Kind: ActDrop}))
	for range 3 {
		l.echoRequest("ip4:icmp", peerIP4)
		l.echoRequest("ip6:ipv6-icmp", peerIP6)
	}
	if n := l.seen(table, "egress_matched"); n != 6 {
		t.Errorf("%d echo requests matched, 6 were sent", n)
	}
	from, to := l.udp(l.target, targetIP4+":0"), l.udp(l.peer, peerIP4+":7000")
	if l.strikes(table, from, to) {
		t.Error("UDP matches, too")
	}
}

// TestNftFragments holds that the first fragment decides: those without ports
// are left alone, counted, and can't be put together without it.
func TestNftFragments(t *testing.T) {
	t.Parallel()
	l := newNftLab6(t)
	m := filter.Match{Ingress: true, Criteria: filter.Criteria{Ports: []filter.PortRange{ports(5000, 5000)}}}
	table := l.apply(l.table(m, TableAct{Kind: ActDrop}))
	for _, ends := range [][2]string{{targetIP4, peerIP4}, {targetIP6, peerIP6}} {
		to := l.udp(l.target, net.JoinHostPort(ends[0], "4000"))
		struck := l.udp(l.peer, net.JoinHostPort(ends[1], "5000"))
		spared := l.udp(l.peer, net.JoinHostPort(ends[1], "5001"))
		matched, fragments := l.seen(table, "ingress_matched"), l.seen(table, "ingress_fragments")
		big := make([]byte, 4000) // three fragments
		for _, s := range []*net.UDPConn{struck, spared} {
			_, err := s.WriteTo(big, to.LocalAddr())
			must(t, err)
		}
		await(t, "the spared datagram", func() bool { return received(to) == 1 })
		if a, b := l.seen(table, "ingress_matched")-matched, l.seen(table, "ingress_fragments")-fragments; a != 1 || b != 4 {
			t.Errorf("%s: %d matched, %d later fragments, want 1 and 4", ends[0], a, b)
		}
	}
}

// frame is an Ethernet frame with a datagram of IPv4 in it, or what a VLAN
// makes of it.
func frame(l *nftLab, vlan bool) []byte {
	var dst net.HardwareAddr
	l.inTarget(func() error {
		i, err := net.InterfaceByName("eth0")
		dst = i.HardwareAddr
		return err
	})
	f := append(append([]byte{}, dst...), 2, 0, 0, 0, 0, 9)
	if vlan {
		f = binary.BigEndian.AppendUint16(f, unix.ETH_P_8021Q)
		f = binary.BigEndian.AppendUint16(f, 10)
	}
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	ip := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	ip = append(ip, net.ParseIP(peerIP4).To4()...)
	ip = append(ip, net.ParseIP(targetIP4).To4()...)
	sum := uint32(0)
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return append(append(f, ip...), 0x13, 0x88, 0x0f, 0xa0, 0, 8, 0, 0)
}

// fromPeer sends frames from the peer's link.
func (l *nftLab) fromPeer(frames ...[]byte) {
	l.t.Helper()
	l.inPeer(func() error {
		i, err := net.InterfaceByName("peer0")
		if err != nil {
			return err
		}
		fd, err := syscall.Socket(unix.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		for _, f := range frames {
			if err := syscall.Sendto(fd, f, 0, &syscall.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestNftOtherFrames holds that a filter is of IP on the link itself: frames
// of a VLAN and ARP match only where all does.
func TestNftOtherFrames(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	arp := frame(l, false)
	binary.BigEndian.PutUint16(arp[12:], unix.ETH_P_ARP)
	m := filter.Match{Ingress: true, Criteria: filter.Criteria{Protocols: []uint8{unix.IPPROTO_UDP}}}
	table := l.apply(l.table(m, TableAct{Kind: ActDrop}))
	l.fromPeer(frame(l, false), frame(l, true), frame(l, true), arp)
	await(t, "the frames", func() bool { return l.seen(table, "ingress_vlan") >= 2 && l.seen(table, "ingress_other") >= 1 })
	if n := l.seen(table, "ingress_matched"); n != 1 {
		t.Errorf("%d matched, want the one without a tag", n)
	}
	e, err := table.Verify(t.Context())
	if err != nil || !strings.Contains(e.What, "1 of ") {
		t.Errorf("Verify gives %+v, %v", e, err)
	}
	must(t, table.Gone().Apply(t.Context()))
	all := l.apply(l.table(filter.Match{Ingress: true}, TableAct{Kind: ActDrop}))
	l.fromPeer(frame(l, true), arp)
	await(t, "all frames", func() bool { return l.seen(all, "ingress_matched") >= 2 })
}

// TestNftPriority holds that packets that match have the class, and others not.
func TestNftPriority(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	m := filter.Match{Egress: true, Criteria: filter.Criteria{Ports: []filter.PortRange{ports(5000, 5000)}}}
	const class = 0x5a010002
	table := l.apply(l.table(m, TableAct{Kind: ActPrio, Class: class}))
	after := &Table{Name: "after", Match: filter.Match{Links: []filter.Link{l.link}, Egress: true}}
	w := nftWay{"egress", true, unix.NFPROTO_INET, unix.NF_INET_POST_ROUTING, 301, ""}
	c := &nftCompiler{t: after, known: map[string]bool{}}
	c.table(w)
	c.baseChain(w, "egress", "")
	c.rule(w, "egress", metaIs(unix.NFT_META_PRIORITY, "", binary.NativeEndian.AppendUint32(nil, class)...), c.count(w, "classed"))
	l.inTarget(func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = syscall.Close(fd) })
		return sendNft(fd, nftBatch(append(append(append(c.tables, c.counters...), c.chains...), c.rules...)))
	})
	from := l.udp(l.target, targetIP4+":0")
	for _, port := range []string{"5000", "5001", "5000"} {
		to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(peerIP4, port))
		must(t, err)
		_, err = from.WriteTo([]byte("x"), to)
		must(t, err)
	}
	after.Act.Kind = ActPrio // of the same family
	if a, b := l.seen(table, "egress_matched"), l.seen(after, "egress_classed"); a != 2 || b != 2 {
		t.Errorf("%d matched and %d have the class, want 2", a, b)
	}
}

// TestNftForward holds that packets go to another link, and that those with
// the mark are accepted first.
func TestNftForward(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	m := filter.Match{Egress: true, Ingress: true, Criteria: filter.Criteria{Protocols: []uint8{unix.IPPROTO_UDP}}}
	to := Forward{Link: l.link.Index, Egress: filter.Link{Name: "lo"}, Ingress: filter.Link{Name: "lo"}}
	table := l.apply(l.table(m, TableAct{Kind: ActFwd, Mark: 0x51, Forwards: []Forward{to}}))
	from, sink := l.udp(l.target, targetIP4+":0"), l.udp(l.peer, peerIP4+":7000")
	if !l.strikes(table, from, sink) {
		t.Error("a packet was not forwarded")
	}
	raw, err := from.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, 0x51) }))
	must(t, err)
	if l.strikes(table, from, sink) {
		t.Error("a packet with the mark was forwarded")
	}
}
