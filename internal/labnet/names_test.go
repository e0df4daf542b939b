package labnet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// town is a directory of some containers, without a network.
func town(t *testing.T) (*directory, map[string]*member) {
	t.Helper()
	networks, err := plan([]Network{{Name: "front"}, {Name: "Back"}})
	must(t, err)
	d := newDirectory(networks, []string{"later"})
	members := map[string]*member{}
	for _, e := range []struct {
		Endpoint
		addresses []string
	}{
		{Endpoint{Name: "web-1", Service: "web", On: []Attachment{{Network: "front", Aliases: []string{"WWW.example.com."}}}}, []string{"10.64.0.2"}},
		{Endpoint{Name: "web-2", Service: "web", On: []Attachment{{Network: "front", Aliases: []string{"www.example.com"}}}}, []string{"10.64.0.3"}},
		{Endpoint{Name: "web-3", Service: "web", On: []Attachment{{Network: "front"}, {Network: "Back"}}}, []string{"10.64.0.4", "10.65.0.4"}},
		{Endpoint{Name: "db-1", Service: "db", ExtraNames: []string{"shop-db"}, On: []Attachment{{Network: "Back"}}}, []string{"10.65.0.5"}},
		{Endpoint{Name: "idle-1", Service: "idle", On: []Attachment{{Network: "Back"}}}, []string{"10.65.0.6"}},
	} {
		addresses := map[string]netip.Addr{}
		for i, on := range e.On {
			addresses[on.Network] = netip.MustParseAddr(e.addresses[i])
		}
		m, err := d.add(e.Endpoint, addresses)
		must(t, err)
		d.setRunning(m, e.Name != "idle-1")
		members[e.Name] = m
	}
	return d, members
}

const (
	theLab = "10.64.0.1"
	web1   = "10.64.0.2"
	web3   = "10.64.0.4"
	db1    = "10.65.0.5"
)

func TestFind(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		asker, name string
		want        []string
		ours        bool
	}{
		"service":                     {web1, "web", []string{"10.64.0.2", "10.64.0.3", "10.64.0.4"}, true},
		"container":                   {web1, "web-2", []string{"10.64.0.3"}, true},
		"case and dot":                {web1, "WEB-2.", []string{"10.64.0.3"}, true},
		"alias":                       {web1, "www.example.com", []string{"10.64.0.2", "10.64.0.3"}, true},
		"extra name":                  {web3, "shop-db", []string{"10.65.0.5"}, true},
		"name.network":                {web3, "web.back", []string{"10.65.0.4"}, true},
		"service.network":             {web1, "web.front", []string{"10.64.0.2", "10.64.0.3", "10.64.0.4"}, true},
		"first of the asker's":        {web3, "web-3", []string{"10.64.0.4"}, true},
		"from the other network":      {db1, "web", []string{"10.65.0.4"}, true},
		"itself":                      {db1, "db", []string{"10.65.0.5"}, true},
		"on a network not its own":    {web1, "db", nil, true},
		"its network not the asker's": {web1, "db.back", nil, true},
		"alias elsewhere":             {db1, "www.example.com", nil, true},
		"not running":                 {db1, "idle", nil, true},
		"not joined":                  {db1, "later", nil, true},
		"not joined, network":         {db1, "later.front", nil, true},
		"of others":                   {db1, "example.com", nil, false},
		"below a name":                {db1, "x.web", nil, false},
		"root":                        {db1, ".", nil, false},
		"the lab sees all":            {theLab, "db", []string{"10.65.0.5"}, true},
		"the lab, first network":      {theLab, "web-3", []string{"10.64.0.4"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := town(t)
			list, ours := d.find(netip.MustParseAddr(tt.asker), tt.name)
			var got []string
			for _, a := range list {
				got = append(got, a.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || ours != tt.ours {
				t.Errorf("ours %v, %s", ours, diff)
			}
		})
	}
}

func TestFindTakesTurns(t *testing.T) {
	t.Parallel()
	d, members := town(t)
	first := map[string]int{}
	for range 30 {
		list, _ := d.find(netip.MustParseAddr(db1), "shop-db") // of another name: takes no turn
		if len(list) != 1 {
			t.Fatal(list)
		}
		list, _ = d.find(netip.MustParseAddr(web1), "web")
		first[list[0].String()]++
	}
	if diff := cmp.Diff(map[string]int{"10.64.0.2": 10, "10.64.0.3": 10, "10.64.0.4": 10}, first); diff != "" {
		t.Error(diff)
	}
	d.setRunning(members["web-2"], false)
	for range 4 {
		if list, _ := d.find(netip.MustParseAddr(web1), "web"); len(list) != 2 {
			t.Error(list)
		}
	}
	for _, m := range members {
		d.remove(m)
	}
	if list, ours := d.find(netip.MustParseAddr(theLab), "web"); list != nil || !ours {
		t.Errorf("%v, ours %v", list, ours)
	}
	if len(d.at)+len(d.members) > 0 {
		t.Error("something of those removed is left")
	}
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	d, _ := town(t)
	for name, tt := range map[string]struct {
		asker, address, want string
		ours                 bool
	}{
		"neighbour":        {web1, "10.64.0.3", "web-2.front", true},
		"other network":    {web1, db1, "", true},
		"not running":      {db1, "10.65.0.6", "", true},
		"nobody's":         {web1, "10.64.9.9", "", true},
		"gateway":          {web1, "10.64.0.1", "", true},
		"of others":        {web1, "192.0.2.1", "", false},
		"asked by the lab": {theLab, db1, "db-1.Back", true},
	} {
		got, ours := d.nameOf(netip.MustParseAddr(tt.asker), netip.MustParseAddr(tt.address))
		if got != tt.want || ours != tt.ours {
			t.Errorf("%s: %q, ours %v", name, got, ours)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	got, err := plan([]Network{
		{Name: "a"},
		{Name: "b", Subnet: prefix("10.65.128.9/24")},
		{Name: "c"},
		{Name: "d", Subnet: prefix("192.168.1.0/24"), Gateway: addr("192.168.1.254")},
	})
	must(t, err)
	want := []string{"a 10.64.0.0/16 10.64.0.1", "b 10.65.128.0/24 10.65.128.1", "c 10.66.0.0/16 10.66.0.1", "d 192.168.1.0/24 192.168.1.254"}
	var list []string
	for _, n := range got {
		list = append(list, n.Name+" "+n.Subnet.String()+" "+n.Gateway.String())
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	for name, tt := range map[string]struct {
		networks []Network
		want     string
	}{
		"no name":          {[]Network{{}}, `network "": a name that no other has is needed`},
		"name twice":       {[]Network{{Name: "a"}, {Name: "a"}}, `network "a": a name that no other has is needed`},
		"subnet taken":     {[]Network{{Name: "a", Subnet: prefix("10.0.0.0/8")}, {Name: "b", Subnet: prefix("10.1.0.0/16")}}, "network b: subnet 10.1.0.0/16 is taken: network a has 10.0.0.0/8"},
		"IPv6":             {[]Network{{Name: "a", Subnet: prefix("fd00::/64")}}, "network a: subnet fd00::/64: a lab's networks have IPv4 only"},
		"too small":        {[]Network{{Name: "a", Subnet: prefix("10.0.0.0/31")}}, "network a: subnet 10.0.0.0/31: /8 to /30 are possible"},
		"loopback":         {[]Network{{Name: "a", Subnet: prefix("127.1.0.0/16")}}, "network a: subnet 127.1.0.0/16: these addresses are not for hosts"},
		"multicast":        {[]Network{{Name: "a", Subnet: prefix("224.0.0.0/24")}}, "network a: subnet 224.0.0.0/24: these addresses are not for hosts"},
		"gateway outside":  {[]Network{{Name: "a", Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.1.1")}}, "network a: gateway 10.0.1.1 is not an address of a host in 10.0.0.0/24"},
		"gateway the last": {[]Network{{Name: "a", Subnet: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.255")}}, "network a: gateway 10.0.0.255 is not an address of a host in 10.0.0.0/24"},
		"none left":        {append([]Network{{Name: "a", Subnet: prefix("10.0.0.0/8")}}, Network{Name: "b"}), "network b: no subnet is left"},
	} {
		if _, err := plan(tt.networks); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An address that came back is the last to be given again.
func TestPoolGoesRound(t *testing.T) {
	t.Parallel()
	networks, err := plan([]Network{{Name: "a", Subnet: netip.MustParsePrefix("10.0.0.0/29"), Gateway: netip.MustParseAddr("10.0.0.3")}})
	must(t, err)
	p := newPool(networks[0])
	var got []string
	for range 12 {
		a, err := p.take(netip.Addr{}, "x")
		must(t, err)
		got = append(got, a.String()[len("10.0.0."):])
		p.release(a)
	}
	if diff := cmp.Diff([]string{"4", "5", "6", "1", "2", "4", "5", "6", "1", "2", "4", "5"}, got); diff != "" {
		t.Error(diff)
	}
}
