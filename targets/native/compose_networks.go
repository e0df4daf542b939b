package native

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// defaultNetwork is what services are on that name no network.
const defaultNetwork = "default"

func (s *service) networks() error {
	names := sortedKeys(s.in.Networks)
	if len(names) == 0 {
		names = []string{defaultNetwork}
	}
	for _, name := range names {
		a := Attachment{Network: name}
		config, known := s.compose.project.Networks[name]
		if !known && name != defaultNetwork {
			return at("networks", name).errorf("there is no network %s below networks%s", shown(name), didYouMean(name, sortedKeys(s.compose.project.Networks)))
		}
		if in := s.in.Networks[name]; in != nil {
			a.Aliases = slices.Clone(in.Aliases)
			if err := s.address(&a, in.Ipv4Address, config); err != nil {
				return err
			}
		}
		if s.in.ContainerName != "" {
			a.Aliases = append(a.Aliases, s.in.ContainerName)
		}
		for _, alias := range a.Aliases {
			if !hostName.MatchString(alias) {
				return at("networks", name, "aliases").errorf("%s is no name of a host", shown(alias))
			}
		}
		s.out.Networks = append(s.out.Networks, a)
	}
	return nil
}

// address takes the address that a service asks for.
func (s *service) address(a *Attachment, text string, config types.NetworkConfig) error {
	if text == "" {
		return nil
	}
	here := at("networks", a.Network, "ipv4_address")
	var err error
	if a.Address, err = netip.ParseAddr(text); err != nil || !a.Address.Is4() {
		return here.errorf("want an IPv4 address, not %s", shown(text))
	}
	if s.out.Replicas > 1 {
		return here.errorf("%d replicas cannot have one address", s.out.Replicas)
	}
	n, err := s.compose.network(a.Network, config)
	switch {
	case err != nil:
		return nil // is said of the network itself
	case !n.Subnet.IsValid():
		return here.errorf("needs a subnet: give networks.%s ipam: {config: [{subnet: …}]}", a.Network)
	case !hasHost(n.Subnet, a.Address):
		return here.errorf("%s is no address for a container in %s", a.Address, n.Subnet)
	case a.Address == n.gateway():
		return here.errorf("%s is the gateway of %s", a.Address, n.Subnet)
	}
	return nil
}

func (n Network) gateway() netip.Addr {
	if n.Gateway.IsValid() {
		return n.Gateway
	}
	return n.Subnet.Masked().Addr().Next()
}

// hasHost tells whether a is an address of p that a machine can have.
func hasHost(p netip.Prefix, a netip.Addr) bool {
	return p.Contains(a) && a != p.Masked().Addr() && p.Contains(a.Next())
}

// fewestBits is of the smallest subnet, a /29: five containers and the gateway.
const mostBits = 29

// network reads one of the project's networks.
func (c *compose) network(name string, in types.NetworkConfig) (Network, error) {
	n := Network{Name: name}
	here := at("networks", name)
	switch {
	case in.Driver != "" && in.Driver != "bridge":
		return n, at("networks", name, "driver").errorf("not supported: driver %s: only bridge is (docs/compose.md)", shown(in.Driver))
	case in.Ipam.Driver != "" && in.Ipam.Driver != "default":
		return n, at("networks", name, "ipam", "driver").errorf("not supported: driver %s: only default is (docs/compose.md)", shown(in.Ipam.Driver))
	case len(in.Ipam.Config) > 1:
		return n, at("networks", name, "ipam", "config").errorf("not supported: more than one pool (docs/compose.md)")
	case !serviceName.MatchString(name):
		return n, here.errorf("a network's name has at most 63 letters, digits, dots, dashes and underscores")
	}
	for _, pool := range in.Ipam.Config {
		if pool == nil {
			continue
		}
		if err := n.pool(*pool); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (n *Network) pool(in types.IPAMPool) error {
	here := func(key string) place { return at("networks", n.Name, "ipam", "config", 0, key) }
	var err error
	if in.Subnet == "" {
		return here("subnet").errorf("is missing")
	}
	n.Subnet, err = netip.ParsePrefix(in.Subnet)
	switch {
	case err != nil || !n.Subnet.Addr().Is4():
		return here("subnet").errorf("want an IPv4 subnet such as 10.77.0.0/24, not %s", shown(in.Subnet))
	case n.Subnet != n.Subnet.Masked():
		return here("subnet").errorf("%s is an address in %s: say the subnet", in.Subnet, n.Subnet.Masked())
	case n.Subnet.Bits() > mostBits || n.Subnet.Bits() < 8:
		return here("subnet").errorf("want a subnet of /8 to /%d, not %s", mostBits, n.Subnet)
	case n.Subnet.Addr().IsLoopback() || n.Subnet.Addr().IsMulticast() || !n.Subnet.Addr().IsGlobalUnicast():
		return here("subnet").errorf("%s is not for machines", n.Subnet)
	}
	if in.Gateway == "" {
		return nil
	}
	if n.Gateway, err = netip.ParseAddr(in.Gateway); err != nil || !hasHost(n.Subnet, n.Gateway) {
		return here("gateway").errorf("want an address in %s, not %s", n.Subnet, shown(in.Gateway))
	}
	return nil
}

// hosts reads what the container is told of names.
func (s *service) hosts() error {
	for _, name := range sortedKeys(s.in.ExtraHosts) {
		if !hostName.MatchString(name) {
			return at("extra_hosts", name).errorf("%s is no name of a host", shown(name))
		}
		for _, text := range s.in.ExtraHosts[name] {
			if text == "host-gateway" {
				return at("extra_hosts", name).errorf("not supported: host-gateway: a lab's network does not lead to the host (docs/compose.md)")
			}
			a, err := netip.ParseAddr(text)
			if err != nil {
				return at("extra_hosts", name).errorf("%s is no address", shown(text))
			}
			s.out.ExtraHosts = append(s.out.ExtraHosts, name+" "+a.String())
		}
	}
	slices.Sort(s.out.ExtraHosts)
	for i, text := range s.in.DNS {
		a, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil {
			return at("dns", i).near(text).errorf("%s is no address", shown(text))
		}
		s.out.DNS = append(s.out.DNS, a)
	}
	return nil
}
