package filter

import (
	"net/netip"
	"testing"

	"github.com/simianhq/simian/experiment"
)

func TestFilterString(t *testing.T) {
	t.Parallel()
	half := experiment.Percent(12.5)
	for want, f := range map[string]Filter{
		"all packets that leave all links but lo": {},
		"all packets of eth0":                     {Interfaces: []string{"eth0"}, Direction: Both},
		"egress tcp to db:5432":                   {Protocol: Protocols{"tcp"}, Hosts: []string{"db"}, Ports: Ports{{5432, 5432}}},
		"ingress from db, 10.0.0.0/8, targets of type picked, ports 80,90-99": {Direction: Ingress, Hosts: []string{"db"}, CIDRs: []string{"10.0.0.0/8"}, To: to(), Ports: Ports{{80, 80}, {90, 99}}},
		"both ways with [::1]:80, 12.5% of flows":                             {Direction: Both, Hosts: []string{"::1"}, Ports: Ports{{80, 80}}, Percent: &half},
		"eth0 egress to a, b, c, d and 2 more, except udp, port 22":           {Interfaces: []string{"eth0"}, Hosts: []string{"a", "b", "c", "d", "e", "f"}, Exclude: &Exclude{Protocol: Protocols{"udp"}, Ports: Ports{{22, 22}}}},
		"egress, except its own port 22, bastion":                             {Exclude: &Exclude{SourcePorts: Ports{{22, 22}}, Hosts: []string{"bastion"}}},
	} {
		if got := f.String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestMatchString(t *testing.T) {
	t.Parallel()
	eth0 := []Link{{"eth0", 2}}
	for want, m := range map[string]Match{
		"all packets that leave eth0":      {Links: eth0, Egress: true},
		"all packets that come in by eth0": {Links: eth0, Ingress: true},
		"eth0 egress tcp to 10.1.0.7:5432": {Links: eth0, Egress: true, Criteria: Criteria{
			Protocols: []uint8{6}, Far: []netip.Prefix{netip.MustParsePrefix("10.1.0.7/32")}, Ports: []PortRange{{5432, 5432}},
		}},
		"eth0 ingress icmp from 10.1.0.0/24": {Links: eth0, Ingress: true, Criteria: Criteria{
			Protocols: []uint8{1, 58}, Far: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")},
		}},
	} {
		if got := m.String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
