package op

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

func prefixes(texts ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, t := range texts {
		p = append(p, netip.MustParsePrefix(t))
	}
	return p
}

// many returns n ranges of 16 addresses each, none of which touch.
func many(n int) []netip.Prefix {
	var p []netip.Prefix
	for i := range n {
		p = append(p, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 11), byte(i >> 3), byte(i << 5)}), 28))
	}
	return p
}

func TestSpans(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		spans []span
		kind  nftKind
		want  string
	}{
		"one":               {addressSpans(prefixes("10.0.0.7/32"), false), kindIPv4(), "10.0.0.7"},
		"touching":          {addressSpans(prefixes("10.0.0.0/8", "11.0.0.0/8", "13.0.0.0/8"), false), kindIPv4(), "10.0.0.0-11.255.255.255, 13.0.0.0-13.255.255.255"},
		"all":               {addressSpans(prefixes("0.0.0.0/0"), false), kindIPv4(), "0.0.0.0-255.255.255.255"},
		"all and one of it": {addressSpans(prefixes("0.0.0.0/0", "10.0.0.0/8"), false), kindIPv4(), "0.0.0.0-255.255.255.255"},
		"other family":      {addressSpans(prefixes("10.0.0.0/8", "fd00::/127"), true), kindIPv6(), "fd00::-fd00::1"},
		"end of addresses":  {addressSpans(prefixes("ffff:ffff:ffff:ffff:ffff:ffff:ffff:0/112"), true), kindIPv6(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		"ports":             {portSpans([]filter.PortRange{ports(0, 0), ports(80, 90), ports(91, 91), ports(65535, 65535)}), kindPort(), "0, 80-91, 65535"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, nftSet{kind: c.kind}.listed(c.spans)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for percent, want := range map[float64]uint32{0: 0, 1e-9: 1, 0.1: 10_000, 1: 100_000, 33.3: 3_330_000, 100: ofHundred} {
		if got := parts(percent); got != want {
			t.Errorf("%v %% is %d parts, want %d", percent, got, want)
		}
	}
}

// TestNftSizes holds that no attribute overflows its length, whatever is in a
// set.
func TestNftSizes(t *testing.T) {
	t.Parallel()
	var v6 []netip.Prefix
	for i := range 3000 {
		v6 = append(v6, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 1: byte(i >> 7), 2: byte(i << 1)}), 24))
	}
	for _, m := range farSet(v6, true).elements("t", unix.NFPROTO_INET) {
		if len(m.body) > 1<<16-1 {
			t.Errorf("a message of %d bytes", len(m.body))
		}
	}
	if n := len(farSet(many(10_000), false).spans); n != 10_000 {
		t.Errorf("10,000 ranges became %d", n)
	}
}

func TestNftHint(t *testing.T) {
	t.Parallel()
	table := Table{Act: TableAct{Kind: ActDrop}, Match: filter.Match{Links: []filter.Link{{Name: "eth0", Index: 2}}, Egress: true}, host: NewHost(host)}
	table.Match.Protocols, table.Match.Ports = []uint8{6}, []filter.PortRange{ports(5433, 5433)}
	table.Match.Far = prefixes("10.1.0.7/32")
	ingress := table
	ingress.Match.Egress, ingress.Match.Ingress, ingress.Match.Percent = false, true, 5
	loss := table
	loss.Act.Percent = 1
	cases := map[string]struct {
		table Table
		seen  map[string]uint64
		want  experiment.Evidence
	}{
		"silence": {table, nil, experiment.Evidence{
			Felt: experiment.FeltNothing, What: "0 of 0 packets that left eth0 matched",
			Hint: "nothing matched: no packet left eth0",
		}},
		"swapped": {table, map[string]uint64{"egress_seen": 1204, "egress_protocol": 1204, "egress_ports_swapped": 20, "egress_far": 800}, experiment.Evidence{
			Felt: experiment.FeltNothing, What: "0 of 1,204 packets that left eth0 matched",
			Hint: "nothing matched: of 1,204 packets that left eth0 1,204 were tcp, 0 went to port 5433 (20 came from it: say sourcePorts?), 800 went to 10.1.0.7",
		}},
		"ingress": {ingress, map[string]uint64{"ingress_seen": 9, "ingress_ports_swapped": 2, "ingress_unchosen": 3, "ingress_other": 1}, experiment.Evidence{
			Felt: experiment.FeltNothing, What: "0 of 9 packets that came in at eth0 matched",
			Hint: "nothing matched: of 9 packets that came in at eth0 3 were tcp, 3 came from port 5433 (2 went to it: say sourcePorts?), 3 came from 10.1.0.7, " +
				"3 of flows outside of percent 5, 1 ARP, neighbour discovery or no IP",
		}},
		"felt":     {table, map[string]uint64{"egress_seen": 12, "egress_matched": 10}, experiment.Evidence{Felt: experiment.FeltYes, What: "10 of 12 packets that left eth0 matched"}},
		"not lost": {loss, map[string]uint64{"egress_seen": 12, "egress_matched": 10}, experiment.Evidence{Felt: experiment.FeltNo, What: "10 of 12 packets that left eth0 matched, 0 lost", Hint: "too few packets matched for one of them to be lost"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.want.InForce = true
			if diff := cmp.Diff(c.want, c.table.evidence(c.seen)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzNftAttributes(f *testing.F) {
	var a attrs
	a.nest(1, func(a *attrs) { a.u32(2, 3); a.text(3, "eth0") })
	f.Add([]byte(a))
	f.Add(append(bytes.Clone(a), 4, 0))
	f.Fuzz(func(_ *testing.T, data []byte) {
		for _, v := range parseAttrs(data) {
			parseAttrs(v)
		}
		_ = nftAnswer(data)
	})
}

func FuzzSpans(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		var set []filter.PortRange
		for at := 0; at < 1<<16; {
			last := min(at+r.IntN(9000), 1<<16-1)
			set = append(set, ports(uint16(at), uint16(last)))
			at = last + 1 + r.IntN(3)
		}
		in := func(spans []span, key []byte) bool {
			for _, s := range spans {
				if bytes.Compare(s.first, key) <= 0 && bytes.Compare(key, s.last) <= 0 {
					return true
				}
			}
			return false
		}
		spans := portSpans(set)
		for range 200 {
			p := uint16(r.UintN(1 << 16))
			want := false
			for _, s := range set {
				want = want || s.First <= p && p <= s.Last
			}
			if got := in(spans, []byte{byte(p >> 8), byte(p)}); got != want {
				t.Fatalf("port %d is in %v: %v, want %v", p, spans, got, want)
			}
		}
	})
}
