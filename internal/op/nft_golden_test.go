package op

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/internal/filter"
)

var updateNft = flag.Bool("update-nft", false, "write testdata/nft-*.golden anew")

func ports(first, last uint16) filter.PortRange { return filter.PortRange{First: first, Last: last} }

// rich is a match that uses all there is.
func rich() filter.Match {
	m := filter.Match{Egress: true, Ingress: true, Percent: 12.5, Seed: 0xbeef}
	m.Protocols = []uint8{6, 17}
	m.Ports = []filter.PortRange{ports(80, 90), ports(91, 91), ports(5432, 5432)}
	m.SourcePorts = []filter.PortRange{ports(1024, 65535)}
	m.Far = prefixes("10.0.0.0/8", "11.0.0.0/8", "192.0.2.7/32", "fd00::/8")
	m.Except.Protocols = []uint8{132}
	m.Except.Ports = []filter.PortRange{ports(53, 53)}
	m.Except.SourcePorts = []filter.PortRange{ports(0, 0)}
	m.Except.Far = prefixes("10.1.0.0/16", "fd01::1/128")
	return m
}

func TestNftGolden(t *testing.T) {
	eth0, eth1 := filter.Link{Name: "eth0", Index: 2}, filter.Link{Name: "eth1", Index: 7}
	both := filter.Match{Egress: true, Ingress: true}
	egress, named := filter.Match{Egress: true}, filter.Match{Egress: true, Names: &filter.Names{Hosts: []string{"db"}}}
	egress.Far = prefixes("10.0.0.7/32")
	icmp := filter.Match{Egress: true, Percent: 50, Criteria: filter.Criteria{Protocols: []uint8{1, 58}}}
	icmp.Except.Far = prefixes("::/0")
	to := func(l filter.Link, out, in int) Forward {
		return Forward{l.Index, filter.Link{Name: fmt.Sprint("out", l.Index), Index: out}, filter.Link{Name: fmt.Sprint("in", l.Index), Index: in}}
	}
	cases := map[string]struct {
		match filter.Match
		act   TableAct
		table Table
	}{
		"drop-all":     {match: both, act: TableAct{Kind: ActDrop}},
		"drop-percent": {match: rich(), act: TableAct{Kind: ActDrop, Percent: 0.1}},
		"drop-late":    {match: both, act: TableAct{Kind: ActDrop}, table: Table{Plain: true, NoEgress: true}},
		"drop-names":   {match: named, act: TableAct{Kind: ActDrop}},
		"drop-icmp":    {match: icmp, act: TableAct{Kind: ActDrop}},
		"reject":       {match: both, act: TableAct{Kind: ActReject}},
		"reset":        {match: rich(), act: TableAct{Kind: ActReset}},
		"prio":         {match: egress, act: TableAct{Kind: ActPrio, Class: 0x5a010002}},
		"fwd":          {match: both, act: TableAct{Kind: ActFwd, Mark: 0x51, Forwards: []Forward{to(eth0, 11, 12), to(eth1, 13, 14)}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			table := c.table
			table.Name, table.Match, table.Act = "simian_abcd23_1", c.match, c.act
			table.Match.Links = []filter.Link{eth0, eth1}
			messages, err := table.compile()
			must(t, err)
			golden(t, "nft-"+name, fmt.Sprintf("# %s\n%s", &table, listing(messages)))
		})
	}
}

func listing(messages []nftMessage) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "%s %s\n", familyName(m.family), m.text)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *updateNft {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestNftRefused(t *testing.T) {
	t.Parallel()
	links := []filter.Link{{Name: "eth0", Index: 2}}
	ok := filter.Match{Links: links, Egress: true, Ingress: true}
	cases := map[string]struct {
		table Table
		want  string
	}{
		"no link":      {Table{Name: "n", Match: filter.Match{Egress: true}}, "compile nft table n: no link"},
		"no direction": {Table{Name: "n", Match: filter.Match{Links: links}}, "compile nft table n: no direction"},
		"no name":      {Table{Match: ok}, `compile nft table: "" is no name`},
		"too much":     {Table{Name: "n", Match: ok, Act: TableAct{Percent: 101}}, "compile nft table n: a percentage is not 0 to 100"},
		"class":        {Table{Name: "n", Match: ok, Act: TableAct{Kind: ActPrio}}, "compile nft table n: packets that come in have no class"},
		"no device":    {Table{Name: "n", Match: ok, Act: TableAct{Kind: ActFwd}}, "compile nft table n: no device for egress of eth0"},
		"no act":       {Table{Name: "n", Match: ok}, `compile nft table n: unknown act ""`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := c.table.compile(); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
