package labnet

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func FuzzAddressOfPTR(f *testing.F) {
	f.Add("2.0.64.10.in-addr.arpa.")
	f.Add("::1.in-addr.arpa.")
	f.Fuzz(func(t *testing.T, name string) {
		a, ok := addressOfPTR(name)
		if !ok {
			return
		}
		back, err := dns.ReverseAddr(a.String())
		if err != nil || !strings.EqualFold(back, dns.Fqdn(name)) {
			t.Errorf("%q is read as %s, that is %q, %v", name, a, back, err)
		}
	})
}

// Whatever comes as a query, what is answered can be packed.
func FuzzAnswer(f *testing.F) {
	networks, err := plan([]Network{{Name: "front"}})
	must(f, err)
	d := newDirectory(networks, nil)
	m, err := d.add(Endpoint{Name: "web", On: []Attachment{{Network: "front"}}}, map[string]netip.Addr{"front": netip.MustParseAddr("10.64.0.2")})
	must(f, err)
	d.setRunning(m, true)
	r := &resolver{names: d, upstream: newForwarder([]netip.AddrPort{}, d, nil)}
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeANY} {
		for _, name := range []string{"web.", "2.0.64.10.in-addr.arpa.", "example.com."} {
			wire, err := new(dns.Msg).SetQuestion(name, kind).SetEdns0(4096, true).Pack()
			must(f, err)
			f.Add(wire)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var q dns.Msg
		if q.Unpack(wire) != nil {
			return
		}
		reply := r.answer(t.Context(), netip.Addr{}, &q, true)
		reply.Truncate(room(&q))
		if _, err := reply.Pack(); err != nil {
			t.Errorf("%v: %v", &q, err)
		}
	})
}
