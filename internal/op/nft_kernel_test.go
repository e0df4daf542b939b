package op

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// What comes of an exchange.
const (
	well = "well"
	lost = "lost"
)

// tcp connects and has one line echoed. An answer is waited for, since a first
// SYN may be sent again before its sender heeds an ICMPv6 error; where none is
// to come, less long.
func (l *nftLab) tcp(from *exec.Cmd, to, want string) string {
	l.t.Helper()
	patience := 10 * time.Second
	if want == lost {
		patience = 500 * time.Millisecond
	}
	at := l.peer
	if from == l.peer {
		at = l.target
	}
	inNet(l.t, at, func() error {
		listener, err := net.Listen("tcp", to)
		if err == nil {
			l.t.Cleanup(func() { _ = listener.Close() })
			go echo(listener)
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return nil // of an exchange before
		}
		return err
	})
	var c net.Conn
	var err error
	inNet(l.t, from, func() error {
		c, err = net.DialTimeout("tcp", to, patience)
		return nil
	})
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err = io.WriteString(c, "hello"); err == nil {
			_, err = io.ReadFull(c, make([]byte, 5))
		}
	}
	return outcome(err)
}

func echo(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
	}
}

// outcome is well, lost, or what the system told.
func outcome(err error) string {
	var timeout net.Error
	switch errno := syscall.Errno(0); {
	case err == nil:
		return well
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.As(err, &timeout) && timeout.Timeout():
		return lost
	}
	return err.Error()
}

func TestNftActs(t *testing.T) {
	t.Parallel()
	db := filter.Match{Egress: true, Criteria: filter.Criteria{Ports: []filter.PortRange{ports(5432, 5432)}}}
	replies := db
	replies.Egress, replies.Ingress = false, true
	both := db
	both.Ingress = true
	served := filter.Match{Ingress: true, Criteria: filter.Criteria{SourcePorts: []filter.PortRange{ports(8080, 8090)}}}
	servedBoth := served
	servedBoth.Egress = true
	everything := filter.Match{Egress: true, Ingress: true}
	cases := []struct {
		name    string
		match   filter.Match
		kind    string
		inbound bool // the peer connects to the target
		v4, v6  string
	}{
		{"drop egress", db, ActDrop, false, lost, lost},
		{"drop replies", replies, ActDrop, false, lost, lost},
		{"drop ingress", served, ActDrop, true, lost, lost},
		{"drop all", everything, ActDrop, true, lost, lost},
		{"reject egress", db, ActReject, false, "EHOSTUNREACH", "EACCES"},
		{"reject ingress", served, ActReject, true, "EHOSTUNREACH", "EACCES"},
		{"reject both, in", servedBoth, ActReject, true, "EHOSTUNREACH", "EACCES"},
		{"reject all", everything, ActReject, true, "EHOSTUNREACH", "EACCES"},
		{"reset egress", db, ActReset, false, "ECONNREFUSED", "ECONNREFUSED"},
		{"reset ingress", served, ActReset, true, "ECONNREFUSED", "ECONNREFUSED"},
		{"reset both, in", servedBoth, ActReset, true, "ECONNREFUSED", "ECONNREFUSED"},
		{"reset both, out", both, ActReset, false, "ECONNREFUSED", "ECONNREFUSED"},
		{"reset all", everything, ActReset, false, "ECONNREFUSED", "ECONNREFUSED"},
	}
	l := newNftLab6(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			from, ip4, ip6, port, other := l.target, peerIP4, peerIP6, "5432", "5433"
			if c.inbound {
				from, ip4, ip6, port, other = l.peer, targetIP4, targetIP6, "8085", "8091"
			}
			table := l.table(c.match, TableAct{Kind: c.kind})
			is := func(ip, port, want string) {
				t.Helper()
				if got := l.tcp(from, net.JoinHostPort(ip, port), want); got != want {
					t.Errorf("TCP with %s port %s: %s, want %s", ip, port, got, want)
				}
			}
			is(ip4, port, well)
			is(ip6, port, well)
			l.apply(table)
			is(ip4, port, c.v4)
			is(ip6, port, c.v6)
			if !c.match.Everything() {
				is(ip4, other, well)
				is(ip6, other, well)
			}
			e, err := table.Verify(t.Context())
			if err != nil || !e.InForce || e.Felt != experiment.FeltYes {
				t.Errorf("Verify gives %+v, %v", e, err)
			}
			must(t, table.Gone().Apply(t.Context()))
			is(ip4, port, well)
			is(ip6, port, well)
		})
	}
}

// TestNftSilentLoss holds that a local sender is not told of what is lost: UDP
// gets no error, TCP sends again by its timers, as with a real loss.
func TestNftSilentLoss(t *testing.T) {
	t.Parallel()
	l := newNftLab(t)
	table := l.table(filter.Match{Egress: true}, TableAct{Kind: ActDrop})
	if table.NoEgress {
		t.Skip("this kernel has no egress hook")
	}
	to := net.JoinHostPort(peerIP4, "7000")
	listener, client := l.connected(to)
	server, err := listener.Accept()
	must(t, err)
	defer server.Close()
	udp, sink := l.udp(l.target, targetIP4+":0"), l.udp(l.peer, peerIP4+":7001")
	must(t, table.Apply(t.Context()))
	for range 20 {
		_, err := udp.WriteTo([]byte("lost"), sink.LocalAddr())
		must(t, err)
	}
	_, err = io.WriteString(client, "hello")
	must(t, err)
	raw, err := client.(*net.TCPConn).SyscallConn()
	must(t, err)
	await(t, "a retransmission", func() bool {
		var info *unix.TCPInfo
		must(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) }))
		must(t, err)
		return info.Total_retrans > 0
	})
	must(t, table.Gone().Apply(t.Context()))
	_ = server.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = io.ReadFull(server, make([]byte, 5))
	must(t, err)
	if n := received(sink); n != 0 {
		t.Errorf("%d datagrams came", n)
	}
}

// connected returns a listener at the peer, and a connection of the target's.
func (l *nftLab) connected(to string) (net.Listener, net.Conn) {
	l.t.Helper()
	var listener net.Listener
	var c net.Conn
	l.inPeer(func() (err error) { listener, err = net.Listen("tcp", to); return err })
	l.inTarget(func() (err error) { c, err = net.Dial("tcp", to); return err })
	l.t.Cleanup(func() { _, _ = listener.Close(), c.Close() })
	return listener, c
}

// received counts the datagrams that lie in a socket.
func received(c *net.UDPConn) int {
	buf := make([]byte, 1<<16)
	for n := 0; ; n++ {
		_ = c.SetReadDeadline(time.Now().Add(4 * time.Millisecond))
		if _, _, err := c.ReadFrom(buf); err != nil {
			return n
		}
	}
}

// seen returns a counter of the table's.
func (l *nftLab) seen(table *Table, counter string) (n uint64) {
	l.t.Helper()
	l.inTarget(func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		all, err := table.tally(fd)
		n = all[counter]
		return err
	})
	return n
}

// TestNftMatch sends one datagram of each kind from the target, and asks which
// of them matched.
func TestNftMatch(t *testing.T) {
	t.Parallel()
	tcpOnly := filter.Criteria{Protocols: []uint8{unix.IPPROTO_TCP}}
	udpOnly := filter.Criteria{Protocols: []uint8{unix.IPPROTO_UDP}}
	ranges := filter.Criteria{Ports: []filter.PortRange{ports(0, 99), ports(5000, 5009), ports(5010, 5010), ports(65535, 65535)}}
	cases := map[string]struct {
		match filter.Match
		want  string
	}{
		"everything":      {filter.Match{}, "4:5000 4:5010 4:5011 4:65535 6:5000 6:5010 6:5011 6:65535"},
		"protocol":        {filter.Match{Criteria: udpOnly}, "4:5000 4:5010 4:5011 4:65535 6:5000 6:5010 6:5011 6:65535"},
		"other protocol":  {filter.Match{Criteria: tcpOnly}, ""},
		"port ranges":     {filter.Match{Criteria: ranges}, "4:5000 4:5010 4:65535 6:5000 6:5010 6:65535"},
		"IPv4 far":        {filter.Match{Criteria: filter.Criteria{Far: prefixes("10.77.0.0/31")}}, "4:5000 4:5010 4:5011 4:65535"},
		"IPv6 far":        {filter.Match{Criteria: filter.Criteria{Far: prefixes("fd77::1/128")}}, "6:5000 6:5010 6:5011 6:65535"},
		"own address far": {filter.Match{Criteria: filter.Criteria{Far: prefixes("10.77.0.2/32", "fd77::2/128")}}, ""},
		"all that is far": {filter.Match{Criteria: filter.Criteria{Far: prefixes("0.0.0.0/0", "::/0")}}, "4:5000 4:5010 4:5011 4:65535 6:5000 6:5010 6:5011 6:65535"},
		"source port":     {filter.Match{Criteria: filter.Criteria{SourcePorts: []filter.PortRange{ports(4000, 4000)}}}, "4:5000 4:5010 4:5011 4:65535 6:5000 6:5010 6:5011 6:65535"},
		"other source":    {filter.Match{Criteria: filter.Criteria{SourcePorts: []filter.PortRange{ports(4001, 4999)}}}, ""},
		"except port":     {filter.Match{Except: ranges}, "4:5011 6:5011"},
		"except source":   {filter.Match{Except: filter.Criteria{SourcePorts: []filter.PortRange{ports(4000, 4000)}}}, ""},
		"except protocol": {filter.Match{Criteria: ranges, Except: udpOnly}, ""},
		"except far":      {filter.Match{Criteria: ranges, Except: filter.Criteria{Far: prefixes("10.0.0.0/8")}}, "6:5000 6:5010 6:65535"},
		"all of these":    {filter.Match{Criteria: filter.Criteria{Protocols: []uint8{6, 17}, Ports: ranges.Ports, SourcePorts: []filter.PortRange{ports(1, 65535)}, Far: prefixes("10.0.0.0/8")}, Except: filter.Criteria{Ports: []filter.PortRange{ports(5010, 5010)}}}, "4:5000 4:65535"},
		"no name yet":     {filter.Match{Names: &filter.Names{Hosts: []string{"db"}}}, ""},
	}
	l := newNftLab6(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.match.Egress = true
			table := l.table(c.match, TableAct{Kind: ActDrop})
			must(t, table.Apply(t.Context()))
			defer func() { must(t, table.Gone().Apply(t.Context())) }()
			var matched []string
			for _, end := range [][2]string{{"4", peerIP4}, {"6", peerIP6}} {
				from := l.udp(l.target, net.JoinHostPort(map[string]string{"4": targetIP4, "6": targetIP6}[end[0]], "4000"))
				for _, port := range []string{"5000", "5010", "5011", "65535"} {
					to := l.udp(l.peer, net.JoinHostPort(end[1], port))
					if l.strikes(table, from, to) {
						matched = append(matched, end[0]+":"+port)
					}
					_ = to.Close()
				}
				_ = from.Close()
			}
			if got := strings.Join(matched, " "); got != c.want {
				t.Errorf("matched %q, want %q", got, c.want)
			}
		})
	}
}

// strikes tells whether a datagram was lost to the table: it either comes, or
// is counted.
func (l *nftLab) strikes(table *Table, from, to *net.UDPConn) bool {
	l.t.Helper()
	before := l.seen(table, "egress_matched")
	_, err := from.WriteTo([]byte("probe"), to.LocalAddr())
	if err != nil && !table.NoEgress {
		l.t.Fatal(err)
	}
	counted := false
	await(l.t, "a datagram, or its loss", func() bool {
		counted = l.seen(table, "egress_matched") > before
		return counted || received(to) > 0
	})
	return counted && received(to) == 0 // what is counted may be of others
}

// TestNftFlows sends hundreds of flows and holds that each is in or out as a
// whole, its packets of both directions alike.
func TestNftFlows(t *testing.T) {
	t.Parallel()
	const flows, percent = 400, 30
	for _, family := range [][2]string{{targetIP4, peerIP4}, {targetIP6, peerIP6}} {
		l := newNftLab6(t)
		match := filter.Match{Percent: percent, Seed: 7, Criteria: filter.Criteria{Protocols: []uint8{unix.IPPROTO_UDP}}}
		out, in := match, match
		out.Egress, in.Ingress = true, true
		sockets := make([]*net.UDPConn, flows)
		for i := range sockets {
			sockets[i] = l.udp(l.target, net.JoinHostPort(family[0], fmt.Sprint(20000+i)))
		}
		server := l.udp(l.peer, net.JoinHostPort(family[1], "7000"))
		roomy(t, server)
		go func() {
			buf := make([]byte, 16)
			for {
				n, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = server.WriteTo(buf[:n], from)
			}
		}()
		answered := func(m filter.Match) string {
			table := l.table(m, TableAct{Kind: ActDrop})
			must(t, table.Apply(t.Context()))
			defer func() { must(t, table.Gone().Apply(t.Context())) }()
			way := map[bool]string{true: "egress", false: "ingress"}[m.Egress]
			for _, s := range sockets {
				_, err := s.WriteTo([]byte("x"), server.LocalAddr())
				if err != nil && !table.NoEgress {
					t.Fatal(err)
				}
			}
			await(t, "all flows", func() bool {
				return l.seen(table, way+"_matched")+l.seen(table, way+"_unchosen") >= flows
			})
			return answers(t, sockets, func() int { return flows - int(l.seen(table, way+"_matched")) })
		}
		first, again, back := answered(out), answered(out), answered(in)
		if first != again {
			t.Errorf("other flows the second time:\n%s\n%s", first, again)
		}
		if first != back {
			t.Errorf("the directions do not agree:\n%s\n%s", first, back)
		}
		if n := strings.Count(first, "0"); n < 70 || n > 170 { // five standard deviations
			t.Errorf("%d of %d flows were chosen, %d %% were asked for", n, flows, percent)
		}
	}
}

// answers writes 1 for each socket that has an answer, once as many have as
// should.
func answers(t *testing.T, sockets []*net.UDPConn, want func() int) string {
	t.Helper()
	got := []byte(strings.Repeat("0", len(sockets)))
	await(t, "all answers", func() bool {
		for i, s := range sockets {
			if pending(t, s) > 0 {
				got[i] = '1'
			}
		}
		return strings.Count(string(got), "1") >= want()
	})
	return string(got)
}

// pending takes the datagrams that lie in a socket, without waiting.
func pending(t *testing.T, c *net.UDPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		for buf := make([]byte, 16); ; n++ {
			if _, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT); err != nil {
				return
			}
		}
	}))
	return n
}

// roomy lets a socket hold all datagrams of a test.
func roomy(t *testing.T, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<23)
	}))
	must(t, err)
}
