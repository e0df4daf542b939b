package dnsrelay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// relayed is a relay before a resolver that knows every name.
type relayed struct {
	*Relay
	t        testing.TB
	udp, tcp string // where it listens
}

func newRelayed(t testing.TB, rule Rule) *relayed {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	server, err := net.Listen("tcp", pc.LocalAddr().String())
	must(t, err)
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		reply := new(dns.Msg).SetReply(m)
		if len(m.Question) > 0 {
			rr, err := dns.NewRR(m.Question[0].Name + " 60 IN A 203.0.113.7")
			if err == nil {
				reply.Answer = append(reply.Answer, rr)
			}
			if strings.HasPrefix(m.Question[0].Name, "late.") {
				time.Sleep(80 * time.Millisecond)
			}
		}
		_ = w.WriteMsg(reply)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: answer}, {Listener: server, Handler: answer}} {
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return relayedTo(t, rule, pc.LocalAddr().String())
}

func relayedTo(t testing.TB, rule Rule, server string) *relayed {
	t.Helper()
	r := New(rule, 0, func(string, netip.AddrPort, netip.AddrPort) (netip.AddrPort, error) {
		return netip.MustParseAddrPort(server), nil
	})
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	ended := make(chan error, 2)
	go func() { ended <- r.ServeUDP(udp) }()
	go func() { ended <- r.ServeTCP(tcp) }()
	t.Cleanup(func() {
		_, _ = udp.Close(), tcp.Close()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return &relayed{r, t, udp.LocalAddr().String(), tcp.Addr().String()}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *relayed) dial(network string) net.Conn {
	r.t.Helper()
	at := r.udp
	if network == "tcp" {
		at = r.tcp
	}
	conn, err := net.Dial(network, at)
	must(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestPipelined sends all lookups of a connection at once: each is answered,
// false answers before late ones.
func TestPipelined(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, Rule{How: NXDomain, Names: []string{"bad"}})
	conn := &dns.Conn{Conn: r.dial("tcp")}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	for _, name := range []string{"late.example.", "bad.", "good.", "bad.", "good."} {
		must(t, conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)))
	}
	got := map[string]int{}
	for i := range 5 {
		m, err := conn.ReadMsg()
		must(t, err)
		got[m.Question[0].Name+" "+dns.RcodeToString[m.Rcode]]++
		if i == 0 && m.Question[0].Name != "bad." {
			t.Errorf("%s is first", m.Question[0].Name)
		}
	}
	if got["bad. NXDOMAIN"] != 2 || got["good. NOERROR"] != 2 || got["late.example. NOERROR"] != 1 {
		t.Errorf("%v", got)
	}
	if s := r.Stats(); s.Seen != 5 || s.TCP != 5 || s.Struck != 2 || s.Passed != 3 || s.Answered != 3 {
		t.Errorf("%+v", s)
	}
}

// TestHalfClosed says all it has to say, and hears all that is answered.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, Rule{How: Slow, Delay: 30 * time.Millisecond})
	raw := r.dial("tcp").(*net.TCPConn)
	conn := &dns.Conn{Conn: raw}
	must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("db.", dns.TypeA)))
	must(t, raw.CloseWrite())
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := conn.ReadMsg(); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection does not end: %v", err)
	}
}

// TestUnreadPasses wants what is no lookup to come back as the server says it.
func TestUnreadPasses(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, Rule{How: Drop})
	conn := r.dial("udp")
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	two := ask("db.", dns.TypeA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
	_, err := conn.Write(two)
	must(t, err)
	b := make([]byte, 512)
	if _, err = conn.Read(b); err != nil || r.Stats().Unreadable != 1 {
		t.Errorf("%v, %+v", err, r.Stats())
	}
}

// TestNobodyThere learns at once that no server is there.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	_ = gone.Close()
	r := relayedTo(t, Rule{How: Drop, Names: []string{"bad"}}, gone.LocalAddr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if a, err := Ask(ctx, r.dial("udp"), "good", dns.TypeA); err != nil || a.Code != "SERVFAIL" {
		t.Errorf("UDP: %v, %v", a, err)
	}
	conn := &dns.Conn{Conn: r.dial("tcp")}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("good.", dns.TypeA)))
	if _, err := conn.ReadMsg(); err == nil || os.IsTimeout(err) {
		t.Errorf("TCP: %v", err)
	}
}

// TestOwn asks as Measure does, which does not count.
func TestOwn(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, Rule{How: Address, Four: netip.MustParseAddr("192.0.2.1"), Names: []string{"db"}})
	for name, want := range map[string]string{"db": "NOERROR 192.0.2.1", "cache": "NOERROR 203.0.113.7"} {
		if a, err := Ask(t.Context(), r.dial("udp"), name, dns.TypeA); err != nil || a.String() != want {
			t.Errorf("%s: %s, %v", name, a, err)
		}
	}
	if s := r.Stats(); s.Seen != 0 || s.Struck != 0 {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Ask(ctx, relayedTo(t, Rule{How: Drop}, r.udp).dial("udp"), "db", dns.TypeA); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dropped: %v", err)
	}
}

// TestPercent draws for each lookup.
func TestPercent(t *testing.T) {
	t.Parallel()
	r := New(Rule{How: NXDomain, Percent: 30}, 0, nil)
	for range 4000 {
		r.judge(ask("db.", dns.TypeA), false)
	}
	if s := r.Stats(); s.Matched != 4000 || s.Struck < 1050 || s.Struck > 1350 {
		t.Errorf("%+v", s)
	}
}

// TestDrain lets go what is held, and spares what comes.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRelayed(t, Rule{How: Slow, Delay: time.Minute})
	answered := make(chan error, 2)
	for _, network := range []string{"udp", "tcp"} {
		conn := &dns.Conn{Conn: r.dial(network)}
		must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("db.", dns.TypeA)))
		go func() {
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, err := conn.ReadMsg()
			answered <- err
		}()
	}
	for r.Stats().Struck < 2 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	r.Drain(2 * time.Second)
	t.Logf("drained in %s", time.Since(began))
	if time.Since(began) > time.Second {
		t.Error("it waits for what is over")
	}
	for range 2 {
		must(t, <-answered)
	}
	if f, _ := r.judge(ask("db.", dns.TypeA), false); f != pass {
		t.Error("a lookup that comes later is held")
	}
}

// TestNames bounds what a target can make it remember.
func TestNames(t *testing.T) {
	t.Parallel()
	r := New(Rule{How: Drop, Names: []string{"none"}}, 0, nil)
	for i := range 3 * maxNames {
		r.judge(ask("db.", dns.TypeA), false)
		r.judge(ask(strings.Repeat("x", 1+i%60)+"."+strings.Repeat("y", 1+i/60)+".", dns.TypeA), false)
	}
	s := r.Stats()
	if len(r.names) > maxNames || len(s.Others) != showNames || s.Others[0] != (Count{"db", 3 * maxNames}) {
		t.Errorf("%d names, %+v", len(r.names), s.Others)
	}
}
