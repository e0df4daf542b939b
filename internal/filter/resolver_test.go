package filter

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// zone is a DNS server that knows what a test says, and keeps who asked.
type zone struct {
	mu    sync.Mutex
	names map[string][]string // records by name, without the name
	codes map[string]int      // what else it answers
	mute  bool                // it answers nothing
	small bool                // what it says by UDP does not fit
	asked []string            // "udp db.example. A"
}

func (z *zone) set(change func(*zone)) {
	z.mu.Lock()
	defer z.mu.Unlock()
	change(z)
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	question, network := q.Question[0], w.RemoteAddr().Network()
	z.asked = append(z.asked, network+" "+question.Name+" "+dns.TypeToString[question.Qtype])
	if z.mute {
		return
	}
	reply := new(dns.Msg).SetRcode(q, z.codes[question.Name])
	z.answer(reply, question)
	if z.small && network == "udp" {
		reply.Truncated, reply.Answer = true, nil
	}
	_ = w.WriteMsg(reply)
}

// answer adds the records of a name, and of what it is an alias of.
func (z *zone) answer(reply *dns.Msg, q dns.Question) {
	name := strings.ToLower(q.Name)
	if z.names[name] == nil && reply.Rcode == dns.RcodeSuccess {
		reply.Rcode = dns.RcodeNameError
	}
	for range 3 {
		next := ""
		for _, record := range z.names[name] {
			rr, err := dns.NewRR(name + " 1 IN " + record)
			if err != nil {
				panic(err)
			}
			if c, ok := rr.(*dns.CNAME); ok {
				next = c.Target
			} else if rr.Header().Rrtype != q.Qtype {
				continue
			}
			reply.Answer = append(reply.Answer, rr)
		}
		name = next
	}
}

// serve answers at an address of s, on port 53.
func (z *zone) serve(s *space, at string) {
	udp, tcp := s.listen(netip.AddrPortFrom(netip.MustParseAddr(at), portDNS))
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: z}, {Listener: tcp, Handler: z}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		s.t.Cleanup(func() { _ = server.Shutdown() })
	}
}

// resolve looks a name up as s does.
func (s *space) resolve(host string) ([]netip.Addr, error) {
	s.t.Helper()
	names := Names{Root: s.Root, Process: s.PIDs[0], Net: s.Net}
	r, err := names.resolver(proc.Host())
	must(s.t, err)
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	return r.lookup(ctx, host)
}

func (s *space) conf(text string) { s.t.Helper(); write(s.t, s.Root, "etc/resolv.conf", text) }

func TestResolve(t *testing.T) {
	t.Parallel()
	s := newSpace(t, "web")
	z := &zone{names: map[string][]string{
		"db.a.example.": {"A 10.0.0.1"}, "db.example.": {"A 10.0.0.2"}, "db.": {"A 10.0.0.3"},
		"many.example.": {"A 10.1.0.1", "A 10.1.0.2", "AAAA 2001:db8::1", "AAAA ::ffff:10.1.0.3"},
		"six.example.":  {"AAAA 2001:db8::6"},
		"www.example.":  {"CNAME web.example."}, "web.example.": {"CNAME w1.example."}, "w1.example.": {"A 10.2.0.1", "AAAA 2001:db8::2"},
		"loop.example.": {"CNAME loop.example."}, "lost.example.": {"CNAME gone.example."},
		"text.example.":   {`TXT "hello"`},
		"a_b.example.":    {"A 10.3.0.1"},
		"failed.example.": {"A 10.4.0.1"},
	}, codes: map[string]int{"failed.a.example.": dns.RcodeServerFailure, "broken.": dns.RcodeServerFailure, "shut.": dns.RcodeRefused}}
	z.serve(s, "127.0.0.1")
	write(t, s.Root, "etc/hosts", "127.0.0.1 localhost\n10.9.0.1 Pinned\n10.9.0.2 pinned db.local\n")
	s.conf("nameserver 127.0.0.1\nsearch a.example example\n")
	for host, want := range map[string]string{
		"db":           "10.0.0.1",
		"db.":          "10.0.0.3",
		"db.example":   "10.0.0.2",
		"DB.Example":   "10.0.0.2",
		"many":         "10.1.0.1 10.1.0.2 2001:db8::1 10.1.0.3",
		"six":          "2001:db8::6",
		"www":          "10.2.0.1 2001:db8::2",
		"a_b.example":  "10.3.0.1",
		"failed":       "10.4.0.1",
		"pinned":       "10.9.0.1 10.9.0.2",
		"db.local.":    "10.9.0.2",
		"localhost":    "127.0.0.1",
		"none":         `"none" does not resolve: no such name (asked 127.0.0.1 for none.a.example. none.example. none.)`,
		"loop":         `"loop" does not resolve: no such name (asked 127.0.0.1 for loop.a.example. loop.example. loop.)`,
		"lost":         `"lost" does not resolve: no such name (asked 127.0.0.1 for lost.a.example. lost.example. lost.)`,
		"text.example": `"text.example" does not resolve: no such name (asked 127.0.0.1 for text.example. text.example.a.example. text.example.example.)`,
		"broken":       `"broken" does not resolve: SERVFAIL from 127.0.0.1: the server refuses or fails (asked 127.0.0.1 for broken.a.example. broken.example. broken.)`,
		"shut.":        `"shut." does not resolve: REFUSED from 127.0.0.1: the server refuses or fails (asked 127.0.0.1 for shut.)`,
	} {
		list, err := s.resolve(host)
		got := strings.Trim(fmt.Sprint(list), "[]")
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
}

// TestResolveTruncated has an answer that fits into no UDP packet.
func TestResolveTruncated(t *testing.T) {
	t.Parallel()
	s := newSpace(t, "web")
	z := &zone{names: map[string][]string{}, small: true}
	for i := range 250 {
		z.names["many."] = append(z.names["many."], fmt.Sprintf("A 10.0.1.%d", i))
	}
	z.serve(s, "127.0.0.1") // as the C library does where there is no file
	list, err := s.resolve("many")
	must(t, err)
	if len(list) != 250 {
		t.Errorf("%d addresses of 250", len(list))
	}
	if got := strings.Join(z.asked, " "); strings.Count(got, "tcp") != 2 {
		t.Error(got)
	}
}

// TestResolveServers has servers that answer nothing, do not listen, can't be
// reached or fail before the one that knows.
func TestResolveServers(t *testing.T) {
	t.Parallel()
	s := newSpace(t, "web")
	silent := &zone{mute: true}
	silent.serve(s, "127.0.0.2")
	failing := &zone{codes: map[string]int{"db.": dns.RcodeServerFailure}}
	failing.serve(s, "127.0.0.3")
	knowing := &zone{names: map[string][]string{"db.": {"A 10.0.0.1"}}}
	knowing.serve(s, "127.0.0.4")
	s.allowIPv6("lo")
	knowing.serve(s, "::1")
	for servers, want := range map[string]string{
		"127.0.0.2 127.0.0.4":           "[10.0.0.1]",
		"127.0.0.9 127.0.0.4":           "[10.0.0.1]", // nobody listens
		"10.255.0.1 127.0.0.4":          "[10.0.0.1]", // no route
		"127.0.0.3 127.0.0.4":           "[10.0.0.1]",
		"::1":                           "[10.0.0.1]",
		"127.0.0.2":                     "no answer from 127.0.0.2: ",
		"127.0.0.2 127.0.0.3":           "SERVFAIL from 127.0.0.3: the server refuses or fails (asked 127.0.0.2, 127.0.0.3 for db.)",
		"10.255.0.1":                    "network is unreachable (asked 10.255.0.1 for db.)",
		"127.0.0.1 127.0.0.9":           "connection refused (asked 127.0.0.1, 127.0.0.9 for db.)",
		"127.0.0.9 127.0.0.2 127.0.0.4": "[10.0.0.1]",
	} {
		s.conf("nameserver " + strings.ReplaceAll(servers, " ", "\nnameserver ") + "\n")
		list, err := s.resolve("db")
		got := fmt.Sprint(list)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", servers, got, want)
		}
	}
}

// TestResolveSilence asks for no second name where nobody answers, and ends
// with its context.
func TestResolveSilence(t *testing.T) {
	t.Parallel()
	s := newSpace(t, "web")
	z := &zone{mute: true}
	z.serve(s, "127.0.0.1")
	s.conf("search a.example b.example c.example\noptions ndots:5\n")
	_, err := s.resolve("db")
	if err == nil || !strings.Contains(err.Error(), "(asked 127.0.0.1 for db.a.example.)") {
		t.Error(err)
	}
	z.set(func(z *zone) {
		if len(z.asked) != 4 { // each family twice
			t.Error(z.asked)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := (&Names{Root: s.Root, Net: s.Net}).resolver(proc.Host())
	must(t, err)
	if _, err := r.lookup(ctx, "db"); err == nil {
		t.Error("it resolved without a server")
	}
}

// TestResolveNearServer asks a server by its link-local address, whose zone
// is a name of the target's.
func TestResolveNearServer(t *testing.T) {
	t.Parallel()
	s, o := newSpace(t, "web"), newSpace(t, "dns")
	join(s, o, "eth0")
	for _, end := range []*space{s, o} {
		end.allowIPv6("eth0")
	}
	o.address("eth0", "fe80::53/64")
	s.address("eth0", "fe80::2/64")
	z := &zone{names: map[string][]string{"db.": {"A 10.0.0.1"}}}
	z.serve(o, "::")
	s.conf("nameserver fe80::53%eth0\n")
	list, err := s.resolve("db")
	must(t, err)
	if fmt.Sprint(list) != "[10.0.0.1]" {
		t.Error(list)
	}
}

// TestAnotherAnswer has servers that answer what nobody asked.
func TestAnotherAnswer(t *testing.T) {
	t.Parallel()
	query := new(dns.Msg).SetQuestion("db.", dns.TypeA)
	reply := new(dns.Msg).SetReply(query)
	for _, record := range []string{"other. 1 IN A 10.0.0.1", "db. 1 IN AAAA 2001:db8::1", "db. 1 IN CNAME a.", "b. 1 IN A 10.0.0.2", "a. 1 IN A 10.0.0.3"} {
		rr, err := dns.NewRR(record)
		must(t, err)
		reply.Answer = append(reply.Answer, rr)
	}
	list, err := addresses(reply, "DB.")
	must(t, err)
	if diff := cmp.Diff(addrs("2001:db8::1", "10.0.0.3"), list, byValue); diff != "" {
		t.Error(diff)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	s, o := newSpace(t, "web"), newSpace(t, "db")
	join(s, o, "eth0")
	s.address("eth0", "10.1.0.1/24")
	z := &zone{names: map[string][]string{"db.": {"A 10.1.0.7"}, "cache.": {"A 10.1.0.9"}, "spared.": {"A 10.1.0.20"}}}
	z.serve(s, "127.0.0.1")
	f := &Filter{Hosts: []string{"db", "cache", "db", "10.1.0.50"}, Exclude: &Exclude{Hosts: []string{"spared"}}}
	m, err := f.Match(t.Context(), proc.Host(), s.Target)
	must(t, err)
	check := func(far, except string, wantChanged bool, wantErr string) {
		t.Helper()
		changed, err := m.Refresh(t.Context(), proc.Host())
		if changed != wantChanged || (err != nil) != (wantErr != "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("changed %v, %v", changed, err)
		}
		if got := strings.Join(places(m.Far), " "); got != far {
			t.Errorf("far %s, want %s", got, far)
		}
		if got := strings.Join(places(m.Except.Far), " "); got != except {
			t.Errorf("except %s, want %s", got, except)
		}
	}
	check("10.1.0.7 10.1.0.9 10.1.0.50", "10.1.0.20", false, "")
	z.set(func(z *zone) { z.names["db."] = []string{"A 10.1.0.8", "AAAA 2001:db8::8"} })
	check("10.1.0.7 10.1.0.8/31 10.1.0.50 2001:db8::8", "10.1.0.20", true, "")
	check("10.1.0.7 10.1.0.8/31 10.1.0.50 2001:db8::8", "10.1.0.20", false, "")
	z.set(func(z *zone) { z.names["db."], z.names["cache."] = nil, []string{"A 10.1.0.12"} })
	check("10.1.0.7 10.1.0.8/31 10.1.0.12 10.1.0.50 2001:db8::8", "10.1.0.20", true, `"db" does not resolve: no such name`)
	z.set(func(z *zone) { z.names["spared."] = []string{"A 10.1.0.22"} })
	check("10.1.0.7 10.1.0.8/31 10.1.0.12 10.1.0.50 2001:db8::8", "10.1.0.20 10.1.0.22", true, `"db" does not resolve: no such name`)
	z.set(func(z *zone) { z.mute = true })
	check("10.1.0.7 10.1.0.8/31 10.1.0.12 10.1.0.50 2001:db8::8", "10.1.0.20 10.1.0.22", false, "no answer from 127.0.0.1")
	m.Names.Process.Start++
	if _, err := m.Refresh(t.Context(), proc.Host()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("after the target's end: %v", err)
	}
}
