package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"

	_ "github.com/simianhq/simian/internal/stage" // the test binary is started again as a relay
)

// answers is a resolver that knows every name: what an answer has in it is who
// asked.
type answers struct {
	mu    sync.Mutex
	asked []string // "udp 10.83.0.2 db.example.org. A"
}

func (a *answers) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	q, from := query.Question[0], w.RemoteAddr()
	a.mu.Lock()
	host, _, _ := net.SplitHostPort(from.String())
	a.asked = append(a.asked, fmt.Sprint(from.Network(), " ", host, " ", q.Name, " ", dns.TypeToString[q.Qtype]))
	a.mu.Unlock()
	reply := new(dns.Msg).SetReply(query)
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: q.Qclass, Ttl: 60}
	switch {
	case strings.HasPrefix(q.Name, "none."):
		reply.Rcode = dns.RcodeNameError
	case q.Qtype == dns.TypeA:
		reply.Answer = append(reply.Answer, &dns.A{Hdr: h, A: net.ParseIP("203.0.113.7")})
	case q.Qtype == dns.TypeAAAA:
		reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: h, AAAA: net.ParseIP("2001:db8::7")})
	case q.Qtype == dns.TypeTXT:
		reply.Answer = append(reply.Answer, &dns.TXT{Hdr: h, Txt: []string{strings.Repeat("x", 250), strings.Repeat("y", 250), strings.Repeat("z", 250)}})
	}
	if from.Network() == "udp" {
		reply.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(reply)
}

// seen returns and forgets what was asked for.
func (a *answers) seen() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.asked
	a.asked = nil
	return list
}

// resolve serves DNS at an address of a node.
func (n *node) resolve(a *answers, address string) {
	n.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(address), 53).String()
	n.do(func() error {
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		tcp, err := net.Listen("tcp", at)
		for _, s := range []*dns.Server{{PacketConn: udp, Handler: a}, {Listener: tcp, Handler: a}} {
			started := make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			go func() { _ = s.ActivateAndServe() }()
			<-started
			n.t.Cleanup(func() { _ = s.Shutdown() })
		}
		return err
	})
}

// ask asks from the node, as any program does.
func (n *node) ask(network, server, name string, kind uint16, within time.Duration) (*dns.Msg, error) {
	return n.exchange(network, server, new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), within)
}

func (n *node) exchange(network, server string, query *dns.Msg, within time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var conn net.Conn
	err := proc.Do(fmt.Sprintf("/proc/%d/ns/net", n.cmd.Process.Pid), func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(netip.MustParseAddr(server), 53).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := dns.Client{Net: network, Timeout: within, UDPSize: 4096}
	reply, _, err := client.ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	return reply, err
}

// said is a reply in a few words: NXDOMAIN, NOERROR 203.0.113.7.
func said(reply *dns.Msg, err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded):
		return "nothing"
	case err != nil:
		return err.Error()
	}
	words := []string{dns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		words = append(words, dns.Field(rr, 1))
	}
	return strings.Join(words, " ")
}

// net3dns is a net3 with a resolver at db, and one on the target's loopback.
type net3dns struct {
	*net3
	far, near *answers
}

func newNet3DNS(t testing.TB, h *op.Host) *net3dns {
	t.Helper()
	l := &net3dns{newNet3For(t, h), &answers{}, &answers{}}
	for _, at := range []string{"10.83.0.1", "fd83::1"} {
		l.db.resolve(l.far, at)
	}
	for _, at := range []string{"127.0.0.11", "::1"} {
		l.web.resolve(l.near, at)
	}
	return l
}

// readDNS reads a fault's fields as a file has them.
func readDNS(h *op.Host, fields string) (*DNS, error) {
	l := experiment.Loader{
		Faults: experiment.Catalog[experiment.Fault]{"dns": dnsFaults(h)},
		Targets: experiment.Catalog[experiment.Selector]{
			"peer": func() experiment.Selector { return &neighbours{list: new([]experiment.Target)} },
		},
	}
	e, err := l.Load("test.yaml", fmt.Appendf(nil, `apiVersion: %s
kind: %s
metadata: {name: test}
spec:
  method:
    - {fault: {type: dns, %s}, target: {type: peer}, for: 10s}
`, experiment.APIVersion, experiment.Kind, fields), nil)
	if err != nil {
		return nil, err
	}
	return e.Spec.Method[0].Fault.(*DNS), nil
}

// fail plans and applies.
func (l *net3dns) fail(fields string) []experiment.Step {
	l.t.Helper()
	d, err := readDNS(l.host, fields)
	must(l.t, err)
	steps, err := d.Plan(l.t.Context(), "abcd23", l.web.Target)
	must(l.t, err)
	l.t.Cleanup(func() { takeBack(l.t, steps) })
	for _, s := range steps {
		must(l.t, s.Do.Apply(l.t.Context()))
	}
	return steps
}

func (n *node) lower(name string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
}
