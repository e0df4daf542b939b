package filter

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(list ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range list {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

var byValue = cmp.Options{
	cmp.AllowUnexported(resolvConf{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestParseResolvConf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want resolvConf
	}{
		"empty": {"", resolvConf{addrs("127.0.0.1"), nil, 1}},
		"kubernetes": {
			"search a.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
			resolvConf{addrs("10.96.0.10"), []string{"a.svc.cluster.local", "svc.cluster.local", "cluster.local"}, 5},
		},
		"docker":                  {"# made\nnameserver 127.0.0.11\noptions edns0 trust-ad ndots:0", resolvConf{addrs("127.0.0.11"), nil, 0}},
		"three servers count":     {strings.Repeat("nameserver 10.0.0.1\n", 5), resolvConf{addrs("10.0.0.1", "10.0.0.1", "10.0.0.1"), nil, 1}},
		"both families":           {"nameserver ::1\nnameserver fe80::1%eth0\nnameserver ::ffff:10.0.0.1", resolvConf{addrs("::1", "fe80::1%eth0", "10.0.0.1"), nil, 1}},
		"the last search counts":  {"domain a.example\nsearch b.example. c.example\nnameserver x", resolvConf{addrs("127.0.0.1"), []string{"b.example", "c.example"}, 1}},
		"the last domain counts":  {"search b.example c.example\ndomain a.example", resolvConf{addrs("127.0.0.1"), []string{"a.example"}, 1}},
		"nonsense":                {"nameserver\nsearch\noptions ndots:x ndots:-1\n;nameserver 10.0.0.1\n\x00\xff b\n", resolvConf{addrs("127.0.0.1"), nil, 1}},
		"more dots than there be": {"options ndots:99", resolvConf{addrs("127.0.0.1"), nil, 15}},
	} {
		if diff := cmp.Diff(c.want, parseResolvConf(c.text), byValue); diff != "" {
			t.Errorf("%s (- wanted):\n%s", name, diff)
		}
	}
}

func TestCandidates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ndots int
		host  string
		want  string
	}{
		{1, "db", "db.a.example. db.example. db."},
		{1, "db.other", "db.other. db.other.a.example. db.other.example."},
		{5, "db.other", "db.other.a.example. db.other.example. db.other."},
		{0, "db", "db. db.a.example. db.example."},
		{5, "db.", "db."},
	} {
		conf := resolvConf{search: []string{"a.example", "example"}, ndots: c.ndots}
		if got := strings.Join(conf.candidates(c.host), " "); got != c.want {
			t.Errorf("%s with ndots:%d: %s, want %s", c.host, c.ndots, got, c.want)
		}
	}
	long := resolvConf{search: []string{strings.Repeat("a.", 120) + "b"}, ndots: 1}
	if got := long.candidates(strings.Repeat("c", 60)); len(got) != 1 {
		t.Errorf("a name that is too long is asked for: %q", got)
	}
}

func TestParseHosts(t *testing.T) {
	t.Parallel()
	got := parseHosts("127.0.0.1 localhost # here\n10.0.0.1\tDB db.example\n\n#10.0.0.9 db\n10.0.0.2 db\nfe80::1%eth0 near\n::ffff:10.0.0.3 old\nx y\n10.0.0.4")
	want := map[string][]netip.Addr{
		"localhost": addrs("127.0.0.1"), "db": addrs("10.0.0.1", "10.0.0.2"), "db.example": addrs("10.0.0.1"),
		"near": addrs("fe80::1"), "old": addrs("10.0.0.3"),
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Error(diff)
	}
}

func FuzzResolvConf(f *testing.F) {
	for _, seed := range []string{"", "nameserver 10.0.0.1\nsearch a b\noptions ndots:5", "search .", "domain ..\x00", "nameserver ::%"} {
		f.Add(seed, "db")
	}
	f.Fuzz(func(t *testing.T, text, host string) {
		c := parseResolvConf(text)
		if len(c.servers) == 0 || len(c.servers) > maxServers || len(c.search) > maxSearch || c.ndots < 0 || c.ndots > maxNDots {
			t.Errorf("%q: %+v", text, c)
		}
		if checkHost(host) != nil {
			return
		}
		for _, name := range c.candidates(host) {
			if !strings.HasSuffix(name, ".") || checkHost(name) != nil {
				t.Errorf("%q: asks for %q", text, name)
			}
		}
	})
}

func FuzzHosts(f *testing.F) {
	for _, seed := range []string{"", "127.0.0.1 localhost", "::1 a b # c", "10.0.0.1", "x y\n\x00 1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, list := range parseHosts(text) {
			if name != plainName(name) && !strings.HasSuffix(name, ".") || len(list) == 0 || slices.ContainsFunc(list, func(a netip.Addr) bool { return !a.IsValid() || a.Zone() != "" }) {
				t.Errorf("%q: %q is %v", text, name, list)
			}
		}
	})
}
