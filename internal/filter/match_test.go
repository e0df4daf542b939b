package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"go4.org/netipx"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// to selects these spaces.
func to(spaces ...*space) *experiment.TargetSpec {
	p := &picked{}
	for _, s := range spaces {
		p.found = append(p.found, s.Target)
	}
	return &experiment.TargetSpec{Selector: p, Type: "picked"}
}

// told is a match in words, with its notes, or the error.
func told(m Match, err error) string {
	if err != nil {
		return "! " + err.Error()
	}
	return strings.Join(append([]string{m.String()}, m.Notes...), "\n")
}

func TestMatch(t *testing.T) {
	t.Parallel()
	web, db, bare, beside := newSpace(t, "web"), newSpace(t, "db"), newSpace(t, "bare"), newSpace(t, "beside")
	join(web, db, "eth0")
	join(web, bare, "eth1")
	web.address("eth0", "10.1.0.1/24")
	web.address("eth1", "10.2.0.1/24")
	db.address("eth0", "10.1.0.7/24", "10.1.0.8/24")
	beside.Target = web.Target
	beside.Name = "beside"
	half, all := experiment.Percent(50), experiment.Percent(100)
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"everything":                    {Filter{}, "all packets that leave eth0,eth1"},
		"one link":                      {Filter{Interfaces: []string{"eth1", "eth1"}, Direction: Both}, "all packets of eth1"},
		"lo, named":                     {Filter{Interfaces: []string{"lo"}, Direction: Ingress}, "all packets that come in by lo"},
		"no such link":                  {Filter{Interfaces: []string{"eth0", "eth9"}}, `! interfaces/1: no interface "eth9"; there are lo, eth0, eth1`},
		"port":                          {Filter{Ports: Ports{{80, 80}}}, "eth0,eth1 egress to port 80"},
		"all of it":                     {Filter{Percent: &all}, "all packets that leave eth0,eth1"},
		"half of it":                    {Filter{Percent: &half, Protocol: Protocols{"udp"}}, "eth0,eth1 egress udp, 50% of flows"},
		"own ports":                     {Filter{SourcePorts: Ports{{80, 80}, {81, 90}}, Direction: Ingress, Protocol: Protocols{"tcp"}}, "eth0,eth1 ingress tcp at its own ports 80-90"},
		"cidrs":                         {Filter{CIDRs: []string{"10.2.0.0/16", "10.1.0.7", "10.1.0.0/25"}}, "eth0,eth1 egress to 10.1.0.0/25, 10.2.0.0/16"},
		"address and port":              {Filter{Hosts: []string{"10.1.0.7"}, Ports: Ports{{5432, 5432}}, Protocol: Protocols{"tcp"}}, "eth0,eth1 egress tcp to 10.1.0.7:5432"},
		"to":                            {Filter{To: to(db)}, "eth0,eth1 egress to 10.1.0.7, 10.1.0.8"},
		"to some, twice":                {Filter{To: to(db, web, bare, db)}, "eth0,eth1 egress to 10.1.0.7, 10.1.0.8"},
		"to itself":                     {Filter{To: to(web, beside)}, "! to: all 2 that it selects share the network of web: what goes between them goes over lo"},
		"to one that has no address":    {Filter{To: to(bare)}, "! to: none of the 1 that it selects has an address: no target matches"},
		"to nobody":                     {Filter{To: to()}, "! to: no target matches"},
		"all but":                       {Filter{Exclude: &Exclude{To: to(db), Ports: Ports{{22, 22}}, Protocol: Protocols{"icmp"}}}, "eth0,eth1 egress, except icmp, port 22, 10.1.0.7, 10.1.0.8"},
		"both excluded and meant":       {Filter{To: to(db), Exclude: &Exclude{CIDRs: []string{"10.1.0.0/16"}}}, "! the filter could match nothing: all of 10.1.0.7, 10.1.0.8 is excluded (10.1.0.0/16)"},
		"one left":                      {Filter{To: to(db), Exclude: &Exclude{CIDRs: []string{"10.1.0.8"}}}, "eth0,eth1 egress to 10.1.0.7, 10.1.0.8, except 10.1.0.8"},
		"all excluded":                  {Filter{Exclude: &Exclude{CIDRs: []string{"0.0.0.0/0"}}}, ""},
		"all ports excluded":            {Filter{Ports: Ports{{80, 90}}, Exclude: &Exclude{Ports: Ports{{1, 85}, {86, 100}}}}, "! exclude/ports: the filter could match nothing: all of its ports are excluded"},
		"all own ports excluded":        {Filter{SourcePorts: Ports{{80, 80}}, Exclude: &Exclude{SourcePorts: Ports{{80, 80}}}}, "! exclude/sourcePorts: the filter could match nothing: all of its sourcePorts are excluded"},
		"all protocols excluded":        {Filter{Protocol: Protocols{"icmp", "tcp"}, Exclude: &Exclude{Protocol: Protocols{"tcp", "icmp", "udp"}}}, "! exclude/protocol: the filter could match nothing: all of its protocol are excluded"},
		"no IPv6":                       {Filter{CIDRs: []string{"2001:db8::/32", "2001:db9::/32"}}, "! the filter could match nothing: 2001:db8::/31: the target has no IPv6 address"},
		"no IPv6, but IPv4":             {Filter{CIDRs: []string{"2001:db8::/32", "10.0.0.0/8"}}, "eth0,eth1 egress to 10.0.0.0/8, 2001:db8::/32\n2001:db8::/32 can match nothing: the target has no IPv6 address"},
		"itself":                        {Filter{CIDRs: []string{"10.1.0.1"}}, "! the filter could match nothing: 10.1.0.1: packets to it go over lo (interfaces: [lo])"},
		"loopback":                      {Filter{CIDRs: []string{"127.0.0.0/8"}}, "! the filter could match nothing: 127.0.0.0/8: packets to it go over lo (interfaces: [lo])"},
		"loopback, over lo":             {Filter{CIDRs: []string{"127.0.0.0/8"}, Interfaces: []string{"lo"}}, "lo egress to 127.0.0.0/8"},
		"others, over lo":               {Filter{To: to(db), Interfaces: []string{"lo"}}, "! the filter could match nothing: 10.1.0.7, 10.1.0.8: packets to it do not go over lo, the only link meant"},
		"a name in its hosts file":      {Filter{Hosts: []string{"pinned"}}, "eth0,eth1 egress to 10.1.0.7"},
		"a name that leads to itself":   {Filter{Hosts: []string{"me"}}, "! the filter could match nothing: 127.0.1.1: packets to it go over lo (interfaces: [lo])"},
		"names that nobody knows":       {Filter{Hosts: []string{"nobody", "pinned", "none"}}, "! hosts: \"nobody\" does not resolve: no answer from 127.0.0.1: "},
		"an excluded name nobody knows": {Filter{Exclude: &Exclude{Hosts: []string{"nobody"}}}, "! exclude/hosts: \"nobody\" does not resolve: no answer from 127.0.0.1: "},
	} {
		write(t, web.Root, "etc/hosts", "10.1.0.7 pinned\n127.0.1.1 me\n")
		m, err := c.f.Match(t.Context(), proc.Host(), web.Target)
		got := told(m, err)
		if name == "all excluded" { // it has no IPv6 address either
			c.want = "! the filter could match nothing: all of "
		}
		if got != c.want && !(strings.HasPrefix(c.want, "! ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
}

// TestMatchData looks at what the rules are made from.
func TestMatchData(t *testing.T) {
	t.Parallel()
	web, db := newSpace(t, "web"), newSpace(t, "db")
	join(web, db, "eth0")
	web.address("eth0", "10.1.0.1/24")
	db.address("eth0", "10.1.0.7/24")
	write(t, web.Root, "etc/hosts", "10.1.0.9 cache spared\n")
	quarter := experiment.Percent(25)
	f := &Filter{
		Direction: Both, Ports: Ports{{80, 80}, {81, 81}}, Hosts: []string{"cache"}, To: to(db), Percent: &quarter,
		Exclude: &Exclude{Protocol: Protocols{"icmp"}, Ports: Ports{{81, 81}}, Hosts: []string{"10.1.0.4"}},
	}
	m, err := f.Match(t.Context(), proc.Host(), web.Target)
	must(t, err)
	ns, err := proc.Host().NetworkOf(web.Target)
	must(t, err)
	want := Match{
		Links: m.Links, Egress: true, Ingress: true,
		Criteria: Criteria{
			Protocols: []uint8{6, 17, 132}, Ports: []PortRange{{80, 81}},
			Far: []netip.Prefix{netip.MustParsePrefix("10.1.0.7/32"), netip.MustParsePrefix("10.1.0.9/32")},
		},
		Except: Criteria{
			Protocols: []uint8{1, 58}, Ports: []PortRange{{81, 81}}, Far: []netip.Prefix{netip.MustParsePrefix("10.1.0.4/32")},
		},
		Percent: 25, Seed: m.Seed,
		Names: &Names{Hosts: []string{"cache"}, Root: web.Root, Process: web.PIDs[0], Net: ns},
	}
	if diff := cmp.Diff(want, m, byValue, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if len(m.Links) != 1 || m.Links[0].Name != "eth0" || m.Links[0].Index < 2 || ns.Cookie == 0 {
		t.Errorf("%+v in %+v", m.Links, ns)
	}
	again, err := f.Match(t.Context(), proc.Host(), web.Target)
	must(t, err)
	other := web.Target
	other.ID += "0"
	another, err := f.Match(t.Context(), proc.Host(), other)
	must(t, err)
	if m.Seed == 0 || m.Seed != again.Seed || m.Seed == another.Seed {
		t.Errorf("seeds %d, %d, of another %d", m.Seed, again.Seed, another.Seed)
	}
}

func TestMatchIPv6(t *testing.T) {
	t.Parallel()
	web, db := newSpace(t, "web"), newSpace(t, "db")
	join(web, db, "eth0")
	web.allowIPv6("eth0")
	db.allowIPv6("eth0")
	near := told((&Filter{CIDRs: []string{"2001:db8::/32"}}).Match(t.Context(), proc.Host(), web.Target))
	if near != "! the filter could match nothing: 2001:db8::/32: the target has link-local IPv6 addresses only" {
		t.Error(near)
	}
	for cidr, want := range map[string]string{
		"fe80::/64":  "eth0 egress to fe80::/64",
		"ff02::1":    "eth0 egress to ff02::1",
		"10.0.0.0/8": "! the filter could match nothing: 10.0.0.0/8: the target has no IPv4 address",
	} {
		if got := told((&Filter{CIDRs: []string{cidr}}).Match(t.Context(), proc.Host(), web.Target)); got != want {
			t.Errorf("%s: %s", cidr, got)
		}
	}
	near = told((&Filter{To: to(db)}).Match(t.Context(), proc.Host(), web.Target))
	if !strings.HasPrefix(near, "eth0 egress to fe80::") {
		t.Errorf("to one that has link-local addresses only: %s", near)
	}
	web.address("eth0", "2001:db8::1/64")
	db.address("eth0", "2001:db8::7/64")
	got := told((&Filter{To: to(db), Ports: Ports{{80, 80}}}).Match(t.Context(), proc.Host(), web.Target))
	if got != "eth0 egress to [2001:db8::7]:80" {
		t.Error(got)
	}
}

// TestChoose has links of all kinds that a default must get right.
func TestChoose(t *testing.T) {
	t.Parallel()
	s, o := newSpace(t, "web"), newSpace(t, "other")
	none := told((&Filter{}).Match(t.Context(), proc.Host(), s.Target))
	if !strings.HasPrefix(none, "! no link but lo is up there (there are lo") {
		t.Error(none)
	}
	join(s, o, "eth0")
	join(s, o, "port0")
	join(s, o, "down0")
	s.add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	s.add(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "smabc23x0"}})
	s.add(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "small"}})
	s.do(func() error {
		port, err := netlink.LinkByName("port0")
		must(t, err)
		bridge, err := netlink.LinkByName("br0")
		must(t, err)
		must(t, netlink.LinkSetMaster(port, bridge))
		down, err := netlink.LinkByName("down0")
		must(t, err)
		return netlink.LinkSetDown(down)
	})
	got := told((&Filter{}).Match(t.Context(), proc.Host(), s.Target))
	if got != "all packets that leave eth0,br0,small" {
		t.Error(got)
	}
	got = told((&Filter{Interfaces: []string{"port0"}}).Match(t.Context(), proc.Host(), s.Target))
	if got != "all packets that leave port0" {
		t.Error(got)
	}
	got = told((&Filter{Interfaces: []string{"down0"}}).Match(t.Context(), proc.Host(), s.Target))
	if got != "! interfaces/0: down0 is down: no packet passes it" {
		t.Error(got)
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, kind string
		want       bool
	}{
		{"smabc23x0", "ifb", true},
		{"smabc23xq12-3", "tuntap", true},
		{"smabc23x0", "veth", false},
		{"smabc23x", "ifb", false},
		{"smallvpn", "tuntap", false},
		{"smart-tap0", "tuntap", false},
		{"tap0", "tuntap", false},
		{"sm", "ifb", false},
	} {
		if got := own(proc.Link{Name: c.name, Kind: c.kind}); got != c.want {
			t.Errorf("%s, a %s: %v", c.name, c.kind, got)
		}
	}
}

// TestStacked has a link that stands on another.
func TestStacked(t *testing.T) {
	t.Parallel()
	f := &Filter{}
	links, notes, err := f.choose([]proc.Link{
		{Name: "lo", Index: 1, Up: true, Loopback: true},
		{Name: "eth0", Index: 2, Up: true, Kind: "veth"},
		{Name: "eth0.10", Index: 3, Up: true, Kind: "vlan", Lower: 2},
	})
	must(t, err)
	want := []string{"eth0.10 stands on eth0: its packets pass both (interfaces: says which one is meant)"}
	if diff := cmp.Diff(want, notes); diff != "" || len(links) != 2 {
		t.Error(links, diff)
	}
}

// hostTarget is this process, whose network is the host's own as far as it can
// tell. Nothing there is changed.
func hostTarget(t *testing.T) experiment.Target {
	t.Helper()
	target, err := proc.Host().Target(os.Getpid())
	must(t, err)
	target.Name, target.ID = "host", "process:1"
	return target
}

func TestHostNetwork(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace is entered by root only")
	}
	target := hostTarget(t)
	_, err := (&Filter{}).Match(t.Context(), proc.Host(), target)
	if !errors.Is(err, experiment.ErrProtected) || !strings.Contains(fmt.Sprint(err), "allowHost: true allows it") {
		t.Errorf("the host's own network: %v", err)
	}
	env := map[string][]string{
		"SSH_CONNECTION":          {"192.0.2.1 50000 192.0.2.2 22", "UNKNOWN 65535 UNKNOWN 65535", "2001:db8::5%eth0 1 2001:db8::6 22"},
		"KUBERNETES_SERVICE_HOST": {"192.0.2.9"},
	}
	root := folder(t)
	write(t, root, "etc/resolv.conf", "nameserver 127.0.0.53\n")
	write(t, root, "run/systemd/resolve/resolv.conf", "nameserver 192.0.2.53\nnameserver 192.0.2.54\n")
	s := surroundings{fs: proc.Host(), env: func(name string) []string { return env[name] }, root: root}
	m, err := (&Filter{Interfaces: []string{"lo"}, AllowHost: true}).match(t.Context(), s, target)
	must(t, err)
	if got := strings.Join(places(m.Except.Far), " "); got != "192.0.2.1 192.0.2.9 192.0.2.53 192.0.2.54 2001:db8::5" {
		t.Error(got)
	}
	if got := strings.Join(m.Notes, "\n"); got != "left alone: 192.0.2.1 (this session), 2001:db8::5 (this session), 192.0.2.53 (the resolver), 192.0.2.54 (the resolver) and 1 more; allowSelf: true does not spare them" {
		t.Error(got)
	}
	m, err = (&Filter{Interfaces: []string{"lo"}, AllowHost: true, AllowSelf: true}).match(t.Context(), s, target)
	must(t, err)
	if !m.Everything() || len(m.Notes) > 0 {
		t.Errorf("with allowSelf: %+v", m)
	}
}

// TestSelfByName has an API server that goes by a name, which the host
// resolves, and one that it can't resolve.
func TestSelfByName(t *testing.T) {
	t.Parallel()
	s := newSpace(t, "host")
	r := &matcher{surroundings: surroundings{fs: proc.Host(), root: s.Root, env: func(name string) []string {
		return map[string][]string{"KUBERNETES_SERVICE_HOST": {"kube"}}[name]
	}}, net: s.Net}
	var m Match
	_, err := r.spareSelf(t.Context(), &m, &netipx.IPSet{})
	if err == nil || !strings.HasPrefix(err.Error(), `find what this process itself needs (allowSelf: true goes without): "kube" does not resolve: no answer from 127.0.0.1: `) {
		t.Error(err)
	}
	write(t, s.Root, "etc/hosts", "192.0.2.9 kube\n")
	_, err = r.spareSelf(t.Context(), &m, &netipx.IPSet{})
	must(t, err)
	if got := strings.Join(m.Notes, ""); got != "left alone: 192.0.2.9 (the API server); allowSelf: true does not spare them" {
		t.Error(got)
	}
	r.env = func(string) []string { return nil }
	if all, err := r.spareSelf(t.Context(), &m, &netipx.IPSet{}); err != nil || len(all.Prefixes()) > 0 {
		t.Error(all, err)
	}
}

// TestAncestry finds a variable that only the environment of a process above
// this one has: sudo leaves it out.
func TestAncestry(t *testing.T) {
	t.Parallel()
	if got := ancestry(proc.Host())("PATH"); len(got) == 0 {
		t.Error("PATH is in no environment")
	}
	if got := ancestry(proc.Host())("SIMIAN_NOBODY_SETS_THIS"); len(got) != 0 {
		t.Error(got)
	}
}

func TestTargetWithoutNetwork(t *testing.T) {
	t.Parallel()
	_, err := (&Filter{}).Match(t.Context(), proc.Host(), experiment.Target{Name: "far away"})
	if !errors.Is(err, experiment.ErrUnsupported) {
		t.Error(err)
	}
	s := newSpace(t, "web")
	s.add(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
	s.Root = ""
	_, err = (&Filter{Hosts: []string{"db"}}).Match(t.Context(), proc.Host(), s.Target)
	if !errors.Is(err, experiment.ErrUnsupported) {
		t.Error(err)
	}
}

// TestTenThousand resolves a filter with that many ranges.
func TestTenThousand(t *testing.T) {
	t.Parallel()
	web, db := newSpace(t, "web"), newSpace(t, "db")
	join(web, db, "eth0")
	web.address("eth0", "10.1.0.1/24")
	f := &Filter{}
	for i := range 10_000 {
		f.CIDRs = append(f.CIDRs, fmt.Sprintf("172.%d.%d.0/28", i/250, i%250))
	}
	must(t, f.Validate())
	m, err := f.Match(t.Context(), proc.Host(), web.Target)
	must(t, err)
	if len(m.Far) != 10_000 {
		t.Errorf("%d ranges", len(m.Far))
	}
}

func BenchmarkMatch(b *testing.B) {
	web, db := newSpace(b, "web"), newSpace(b, "db")
	join(web, db, "eth0")
	web.address("eth0", "10.1.0.1/24")
	many := Filter{}
	for i := range 10_000 {
		many.CIDRs = append(many.CIDRs, fmt.Sprintf("172.%d.%d.0/28", i/250, i%250))
	}
	for name, f := range map[string]*Filter{"everything": {}, "10000-cidrs": &many} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := f.Match(b.Context(), proc.Host(), web.Target); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
