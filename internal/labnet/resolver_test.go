package labnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// query asks a container's resolver from inside it.
func query(t testing.TB, p *Port, network, name string, kind uint16) *dns.Msg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	reply, err := askBy(ctx, from(p).connect, network, netip.AddrPortFrom(p.Resolver(), 53).String(), q)
	must(t, err)
	return reply
}

// told is a reply in words: "NOERROR 10.64.0.2".
func told(reply *dns.Msg) string {
	words := []string{dns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		fields := strings.Fields(rr.String())
		words = append(words, fields[len(fields)-1])
	}
	return strings.Join(words, " ")
}

// upstream is a DNS server on loopback.
func upstream(t testing.TB, handle dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	conn, err := net.ListenPacket("udp", at.String())
	must(t, err)
	for _, s := range []*dns.Server{{PacketConn: conn, Handler: handle}, {Listener: l, Handler: handle}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return at
}

// answering replies with so many A records.
func answering(count int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		for i := range count {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 IN A 192.0.2.%d", q.Question[0].Name, i+1))
			reply.Answer = append(reply.Answer, rr)
		}
		if w.RemoteAddr().Network() == "udp" {
			reply.Truncate(room(q))
		}
		_ = w.WriteMsg(reply)
	}
}

func TestResolver(t *testing.T) {
	t.Parallel()
	c := twoNetworks()
	c.Upstream = []netip.AddrPort{upstream(t, answering(1))}
	n := newNet(t, c)
	web := joinOn(t, n, "web-1", "web", "front")
	both := joinAs(t, n, Endpoint{Name: "api-1", Service: "api", On: []Attachment{{Network: "back"}, {Network: "front", Aliases: []string{"gate"}}}})
	idle := joinOn(t, n, "idle-1", "idle", "front", "back")
	idle.SetRunning(false)
	for name, tt := range map[string]struct {
		asker *Port
		name  string
		kind  uint16
		want  string
	}{
		"service":           {both, "web", dns.TypeA, "NOERROR " + web.Address().String()},
		"alias":             {web, "gate", dns.TypeA, "NOERROR " + both.Addresses()["front"].String()},
		"capitals":          {web, "GaTe.Front", dns.TypeA, "NOERROR " + both.Addresses()["front"].String()},
		"no IPv6":           {both, "web", dns.TypeAAAA, "NOERROR"},
		"no mail":           {both, "web", dns.TypeMX, "NOERROR"},
		"any":               {both, "web", dns.TypeANY, "NOERROR " + web.Address().String()},
		"network not its":   {web, "api.back", dns.TypeA, "NXDOMAIN"},
		"not running":       {web, "idle", dns.TypeA, "NXDOMAIN"},
		"not running, IPv6": {web, "idle", dns.TypeAAAA, "NXDOMAIN"},
		"address":           {both, "2.0.64.10.in-addr.arpa", dns.TypePTR, "NOERROR web-1.front."},
		"nobody's address":  {both, "9.9.64.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		"of others":         {web, "example.com", dns.TypeA, "NOERROR 192.0.2.1"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply := query(t, tt.asker, network, tt.name, tt.kind)
			if got := told(reply); got != tt.want || !reply.RecursionAvailable && name != "of others" {
				t.Errorf("%s, %s: %s, want %s", name, network, got, tt.want)
			}
		}
	}
	idle.SetRunning(true)
	if got := told(query(t, web, "udp", "idle", dns.TypeA)); got != "NOERROR "+idle.Address().String() {
		t.Error(got)
	}
}

func TestResolverRotates(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}})
	for i := range 3 {
		joinOn(t, n, fmt.Sprintf("web-%d", i+1), "web", "front")
	}
	asker := joinOn(t, n, "asker", "", "front")
	var got []string
	for range 4 {
		got = append(got, told(query(t, asker, "udp", "web", dns.TypeA)))
	}
	want := []string{
		"NOERROR 10.64.0.2 10.64.0.3 10.64.0.4", "NOERROR 10.64.0.3 10.64.0.4 10.64.0.2",
		"NOERROR 10.64.0.4 10.64.0.2 10.64.0.3", "NOERROR 10.64.0.2 10.64.0.3 10.64.0.4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A reply of the lab's own, or of others, that does not fit is cut, and told
// in full by TCP.
func TestBigAnswers(t *testing.T) {
	t.Parallel()
	const many = 60
	c := Config{Networks: []Network{{Name: "front"}}, Upstream: []netip.AddrPort{upstream(t, answering(many))}}
	n := newNet(t, c)
	for i := range many {
		e := Endpoint{Name: fmt.Sprintf("web-%d", i), Service: "web", On: []Attachment{{Network: "front"}}}
		m, err := n.names.add(e, map[string]netip.Addr{"front": netip.AddrFrom4([4]byte{10, 64, 9, byte(i)})})
		must(t, err)
		n.names.setRunning(m, true)
	}
	asker := joinOn(t, n, "asker", "", "front")
	for _, name := range []string{"web", "example.com"} {
		short, whole := query(t, asker, "udp", name, dns.TypeA), query(t, asker, "tcp", name, dns.TypeA)
		short.Compress = true // as it came
		if !short.Truncated || short.Len() > 512 || len(short.Answer) == 0 {
			t.Errorf("%s: %d bytes, truncated %v", name, short.Len(), short.Truncated)
		}
		if whole.Truncated || len(whole.Answer) != many {
			t.Errorf("%s by TCP: %d answers", name, len(whole.Answer))
		}
		if list, err := n.lookup(t.Context(), name); err != nil || len(list) != many {
			t.Errorf("%s in the lab: %d, %v", name, len(list), err)
		}
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	needRoot(t)
	refusing := func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeRefused)) }
	unknowing := func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError)) }
	lying := func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		reply.Question[0].Name = "other.example."
		_ = w.WriteMsg(reply)
	}
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	good := upstream(t, answering(1))
	for name, tt := range map[string]struct {
		servers []netip.AddrPort
		want    string
	}{
		"one":                {[]netip.AddrPort{good}, "NOERROR 192.0.2.1"},
		"second":             {[]netip.AddrPort{closed, good}, "NOERROR 192.0.2.1"},
		"after a refusal":    {[]netip.AddrPort{upstream(t, refusing), good}, "NOERROR 192.0.2.1"},
		"after a lie":        {[]netip.AddrPort{upstream(t, lying), good}, "NOERROR 192.0.2.1"},
		"no such name":       {[]netip.AddrPort{upstream(t, unknowing), good}, "NXDOMAIN"},
		"nobody listens":     {[]netip.AddrPort{closed}, "SERVFAIL"},
		"nobody is asked":    {[]netip.AddrPort{}, "SERVFAIL"},
		"all have no answer": {[]netip.AddrPort{upstream(t, refusing)}, "SERVFAIL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNet(t, Config{Networks: []Network{{Name: "front"}}, Upstream: tt.servers})
			asker := joinOn(t, n, "asker", "", "front")
			if got := told(query(t, asker, "udp", "example.com", dns.TypeA)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// While an upstream resolver is silent, other questions are answered; then the
// asker hears that there is no answer before it gives up itself, after 5 s.
func TestSilentUpstream(t *testing.T) {
	t.Parallel()
	var asked sync.WaitGroup
	asked.Add(maxOfOne)
	silent := upstream(t, func(dns.ResponseWriter, *dns.Msg) { asked.Done() })
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}, Upstream: []netip.AddrPort{silent}})
	flood, other := joinOn(t, n, "flood", "", "front"), joinOn(t, n, "other", "", "front")
	began := time.Now()
	var all sync.WaitGroup
	for range maxOfOne {
		all.Go(func() {
			if got := told(query(t, flood, "udp", "example.com", dns.TypeA)); got != "SERVFAIL" {
				t.Error(got)
			}
		})
	}
	asked.Wait()
	if got := told(query(t, flood, "udp", "one.more", dns.TypeA)); got != "SERVFAIL" {
		t.Error(got)
	}
	if got := told(query(t, other, "udp", "flood", dns.TypeA)); !strings.HasPrefix(got, "NOERROR") {
		t.Error(got)
	}
	if !n.resolver.upstream.enter(other.Address()) {
		t.Error("one asker has used up what all have")
	}
	n.resolver.upstream.leave(other.Address())
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("others waited for %v", took)
	}
	all.Wait()
	if took := time.Since(began); took < 3*time.Second || took > 5*time.Second {
		t.Errorf("no answer after %v", took)
	}
}

// A container may name resolvers of its own; one of them may be a container.
func TestResolverOfOnesOwn(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}, Upstream: []netip.AddrPort{upstream(t, answering(1))}})
	server, plain := joinOn(t, n, "dns", "", "front"), joinOn(t, n, "plain", "", "front")
	var conn net.PacketConn
	must(t, inNamespace(server.NetNS(), func() (err error) {
		conn, err = net.ListenPacket("udp4", ":53")
		return err
	}))
	s := &dns.Server{PacketConn: conn, Handler: answering(2)}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() { _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	asker := joinAs(t, n, Endpoint{Name: "asker", On: []Attachment{{Network: "front"}}, DNS: []netip.Addr{server.Address()}})
	for want, p := range map[string]*Port{"NOERROR 192.0.2.1": plain, "NOERROR 192.0.2.1 192.0.2.2": asker} {
		if got := told(query(t, p, "udp", "example.com", dns.TypeA)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A lab that ends does not wait for upstream resolvers.
func TestCloseWhileForwarding(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	silent := upstream(t, func(dns.ResponseWriter, *dns.Msg) { close(asked) })
	n := newNet(t, Config{Networks: []Network{{Name: "front"}}, Upstream: []netip.AddrPort{silent}})
	p := joinOn(t, n, "asker", "", "front")
	conn, err := from(p).connect(t.Context(), "udp", p.Resolver().String()+":53")
	must(t, err)
	defer conn.Close()
	must(t, (&dns.Conn{Conn: conn}).WriteMsg(new(dns.Msg).SetQuestion("example.com.", dns.TypeA)))
	<-asked
	began := time.Now()
	must(t, n.Close())
	if took := time.Since(began); took > time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestUpstreamOfHost(t *testing.T) {
	t.Parallel()
	f := newForwarder(nil, newDirectory(nil, nil), nil)
	f.conf = filepath.Join(t.TempDir(), "resolv.conf")
	if got := f.upstream(netip.Addr{}); got != nil {
		t.Error(got)
	}
	must(t, os.WriteFile(f.conf, []byte("search example.com\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\noptions edns0\n"), 0o600))
	if diff := cmp.Diff([]string{"127.0.0.53:53", "[fe80::1%eth0]:53"}, f.upstream(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestAddressOfPTR(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"2.0.64.10.in-addr.arpa.":   "10.64.0.2",
		"2.0.64.10.IN-ADDR.ARPA":    "10.64.0.2",
		"0.64.10.in-addr.arpa.":     "",
		"1.2.0.64.10.in-addr.arpa.": "",
		"x.0.64.10.in-addr.arpa.":   "",
		"256.0.64.10.in-addr.arpa.": "",
		"in-addr.arpa.":             "",
		"web.":                      "",
	} {
		a, ok := addressOfPTR(name)
		if ok != (want != "") || ok && a.String() != want {
			t.Errorf("%s: %s, %v", name, a, ok)
		}
	}
}
