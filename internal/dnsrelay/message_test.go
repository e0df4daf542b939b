package dnsrelay

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"db", []string{"db"}, []string{"", "dbx", "db.example.org", "xdb"}},
		{"*.example.org", []string{"a.example.org", "a.b.example.org", ".example.org"}, []string{"example.org", "xexample.org", "a.example.org.uk"}},
		{"*", []string{"", "db", "a.b"}, nil},
		{"api-*.example.org", []string{"api-1.example.org", "api-.example.org"}, []string{"api.example.org", "api-1.example.com"}},
		{"*a*a", []string{"aa", "bab.ba", "aaa"}, []string{"a", "ba", "aab"}},
		{"a*ab*b", []string{"aabb", "axabab"}, []string{"ab", "aab", "abab"}},
		{"**", []string{"", "x"}, nil},
	} {
		for _, name := range c.yes {
			if !Matches(c.pattern, name) {
				t.Errorf("%s does not match %q", c.pattern, name)
			}
		}
		for _, name := range c.no {
			if Matches(c.pattern, name) {
				t.Errorf("%s matches %q", c.pattern, name)
			}
		}
	}
}

// ask makes a lookup as others do.
func ask(name string, kind uint16, change ...func(*dns.Msg)) []byte {
	m := new(dns.Msg).SetQuestion(name, kind)
	for _, c := range change {
		c(m)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func edns(m *dns.Msg) { m.SetEdns0(4096, true) }

// TestAnswers reads each answer as others do.
func TestAnswers(t *testing.T) {
	t.Parallel()
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::bad")
	for name, c := range map[string]struct {
		rule   Rule
		kind   uint16
		change func(*dns.Msg)
		code   int
		want   string
	}{
		"refuse":          {Rule{How: Refuse}, dns.TypeA, nil, dns.RcodeRefused, ""},
		"nxdomain":        {Rule{How: NXDomain}, dns.TypeMX, nil, dns.RcodeNameError, ""},
		"servfail":        {Rule{How: ServFail}, dns.TypeA, edns, dns.RcodeServerFailure, ""},
		"A":               {Rule{How: Address, Four: four, Six: six}, dns.TypeA, edns, 0, "192.0.2.1"},
		"AAAA":            {Rule{How: Address, Four: four, Six: six}, dns.TypeAAAA, nil, 0, "2001:db8::bad"},
		"any":             {Rule{How: Address, Four: four, Six: six}, dns.TypeANY, nil, 0, "192.0.2.1 2001:db8::bad"},
		"no AAAA":         {Rule{How: Address, Four: four}, dns.TypeAAAA, nil, 0, ""},
		"no hints either": {Rule{How: Address, Four: four}, dns.TypeHTTPS, nil, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.change == nil {
				c.change = func(*dns.Msg) {}
			}
			lookup := ask("Db.Example.org.", c.kind, c.change)
			q, ok := parse(lookup)
			if !ok || q.name != "db.example.org" || !c.rule.matches(q) {
				t.Fatalf("%+v, %t", q, ok)
			}
			b, err := c.rule.answer(q)
			if err != nil || !settles(lookup, b) {
				t.Fatal(err)
			}
			holdAnswer(t, lookup, b, c.code, c.want)
		})
	}
}

func holdAnswer(t *testing.T, lookup, answer []byte, code int, want string) {
	t.Helper()
	var asked, got dns.Msg
	if err := asked.Unpack(lookup); err != nil {
		t.Fatal(err)
	}
	if err := got.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, rr := range got.Answer {
		list = append(list, dns.Field(rr, 1))
		if rr.Header().Ttl != ttl || rr.Header().Name != asked.Question[0].Name {
			t.Errorf("%s", rr)
		}
	}
	opt := got.IsEdns0()
	switch {
	case got.Rcode != code || strings.Join(list, " ") != want:
		t.Errorf("%s %q, want %s %q", dns.RcodeToString[got.Rcode], list, dns.RcodeToString[code], want)
	case !got.Response || got.Id != asked.Id || got.Question[0] != asked.Question[0] || !got.RecursionDesired || !got.RecursionAvailable || got.Truncated:
		t.Errorf("%s", &got)
	case (opt == nil) != (asked.IsEdns0() == nil) || opt != nil && !opt.Do():
		t.Errorf("EDNS: %s", &got)
	}
}

// TestUnread is what no lookup is, or none that the relay knows.
func TestUnread(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"nothing":       nil,
		"a cut header":  ask("db.", dns.TypeA)[:11],
		"a cut name":    ask("db.", dns.TypeA)[:14],
		"an answer":     ask("db.", dns.TypeA, func(m *dns.Msg) { m.Response = true }),
		"two questions": ask("db.", dns.TypeA, func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"no question":   ask("db.", dns.TypeA, func(m *dns.Msg) { m.Question = nil }),
		"an update":     ask("db.", dns.TypeSOA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }),
		"chaos":         ask("version.bind.", dns.TypeTXT, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
	} {
		if q, ok := parse(b); ok {
			t.Errorf("%s is read: %+v", name, q)
		}
	}
}

func TestTypesAndExclude(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule Rule
		name string
		kind uint16
		want bool
	}{
		{Rule{How: NXDomain, Types: []uint16{28}}, "db.", dns.TypeA, false},
		{Rule{How: NXDomain, Types: []uint16{28}}, "db.", dns.TypeAAAA, true},
		{Rule{How: Address}, "db.", dns.TypeMX, false},
		{Rule{How: Drop, Exclude: []string{"*.internal"}}, "a.internal.", dns.TypeA, false},
		{Rule{How: Drop, Exclude: []string{"*.internal"}}, "a.example.", dns.TypeA, true},
		{Rule{How: Drop}, ".", dns.TypeNS, true},
	} {
		q, ok := parse(ask(c.name, c.kind))
		if !ok || c.rule.matches(q) != c.want {
			t.Errorf("%+v: %s %d: %t, want %t", c.rule, c.name, c.kind, !c.want, c.want)
		}
	}
}

// FuzzParse wants what is read to be what others read, and each answer to be
// one.
func FuzzParse(f *testing.F) {
	f.Add(ask("db.example.org.", dns.TypeA))
	f.Add(ask("DB.", dns.TypeAAAA, edns))
	f.Add(ask(".", dns.TypeNS)[:16])
	if own, err := lookupOf("db", dnsmessage.TypeA); err == nil {
		f.Add(own)
	}
	rules := []Rule{{How: NXDomain}, {How: Address, Four: netip.MustParseAddr("192.0.2.1"), Six: netip.MustParseAddr("2001:db8::1")}}
	f.Fuzz(func(t *testing.T, packet []byte) {
		q, ok := parse(packet)
		if !ok {
			return
		}
		var theirs dns.Msg
		if err := theirs.Unpack(packet); err == nil && (len(theirs.Question) != 1 || theirs.Question[0].Qtype != uint16(q.kind)) {
			t.Errorf("%+v, and others read %s", q, &theirs)
		}
		for _, r := range rules {
			if !r.matches(q) {
				continue
			}
			b, err := r.answer(q)
			if err != nil || !settles(packet, b) {
				t.Fatalf("%+v: %x, %v", q, b, err)
			}
			if _, err := readAnswer(b); err != nil {
				t.Errorf("%x: %v", b, err)
			}
		}
	})
}

func FuzzEntry(f *testing.F) {
	t := Tuple{17, netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:53")}
	f.Add(attribute(attribute(nil, tupleOrig|nested, t.encode()), tupleReply|nested, t.encode()))
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = parseEntry(body) })
}
