package native

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
)

// loopback is where ports are published that name no address.
func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func (s *service) ports() error {
	for i, in := range s.in.Ports {
		here := at("ports", i).near(in.Published)
		p, err := readPort(in, here)
		if err != nil {
			return err
		}
		if p.HostPort != 0 && s.out.Replicas > 1 {
			return here.errorf("%d replicas cannot be published on one port, %d: leave out the port on the host", s.out.Replicas, p.HostPort)
		}
		s.out.Ports = append(s.out.Ports, p)
	}
	return nil
}

func readPort(in types.ServicePortConfig, here place) (Port, error) {
	p := Port{HostIP: loopback(), Protocol: in.Protocol, ContainerPort: uint16(in.Target)}
	if in.Target == 0 || in.Target > 65535 {
		return p, here.errorf("want a port of the container, 1 to 65535, not %d", in.Target)
	}
	switch p.Protocol {
	case "":
		p.Protocol = "tcp"
	case "tcp", "udp":
	default:
		return p, here.errorf("not supported: protocol %s: only tcp and udp are (docs/compose.md)", shown(p.Protocol))
	}
	if in.Mode != "" && in.Mode != "ingress" {
		return p, here.errorf("not supported: mode %s: only ingress is (docs/compose.md)", shown(in.Mode))
	}
	var err error
	if in.HostIP != "" {
		if p.HostIP, err = netip.ParseAddr(in.HostIP); err != nil {
			return p, here.errorf("%s is no address", shown(in.HostIP))
		}
	}
	if in.Published == "" {
		return p, nil
	}
	if strings.Contains(in.Published, "-") {
		return p, here.errorf("want one port for one port: %s is a range", in.Published)
	}
	n, err := strconv.ParseUint(in.Published, 10, 16)
	if err != nil {
		return p, here.errorf("want a port of the host, 0 to 65535, not %s", shown(in.Published))
	}
	p.HostPort = uint16(n)
	return p, nil
}

// clash refuses ports of the host that are published twice.
func clash(services []Service) error {
	type owner struct {
		port    Port
		service string
	}
	var owners []owner
	for _, s := range services {
		for i, p := range s.Ports {
			for _, o := range owners {
				if p.meets(o.port) {
					who := "the service " + o.service + " has"
					if o.service == s.Name {
						who = "it has"
					}
					return at("services", s.Name, "ports", i).near(fmt.Sprint(p.HostPort)).
						errorf("%s port %d of the host already (%s)", who, p.HostPort, p.Protocol)
				}
			}
			if p.HostPort != 0 && s.Replicas > 0 {
				owners = append(owners, owner{p, s.Name})
			}
		}
	}
	return nil
}

// meets tells whether two ports cannot both be bound on the host.
func (p Port) meets(o Port) bool {
	return p.HostPort == o.HostPort && p.Protocol == o.Protocol &&
		(p.HostIP == o.HostIP || p.HostIP.IsUnspecified() || o.HostIP.IsUnspecified())
}
