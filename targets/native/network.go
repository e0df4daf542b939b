package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"

	"github.com/simianhq/simian/internal/labnet"
)

// published is a port of a service on the host.
type published struct {
	service *Service
	port    Port
	bound   netip.AddrPort
	closer  io.Closer
}

func (p published) String() string {
	return fmt.Sprintf("%s->%d/%s", p.bound, p.port.ContainerPort, p.port.Protocol)
}

// makeNetwork is the op that makes the lab's network.
func (l *Lab) makeNetwork() *MakeNetwork {
	o := &MakeNetwork{Networks: []string{}, lab: l}
	for _, n := range l.project.Networks {
		o.Networks = append(o.Networks, n.Name)
	}
	for i := range l.project.Services {
		for _, p := range l.project.Services[i].Ports {
			o.Ports = append(o.Ports, p.String())
		}
	}
	return o
}

// String is the port as Compose writes it.
func (p Port) String() string {
	return fmt.Sprintf("%s:%d->%d/%s", p.HostIP, p.HostPort, p.ContainerPort, p.Protocol)
}

// connect makes the network, and publishes the ports.
func (l *Lab) connect(ctx context.Context) error {
	config := labnet.Config{Run: string(l.run)}
	for i := range l.project.Services {
		config.Names = append(config.Names, l.project.Services[i].Name)
	}
	for _, n := range l.project.Networks {
		config.Networks = append(config.Networks, labnet.Network{Name: n.Name, Subnet: n.Subnet, Gateway: n.Gateway})
	}
	var err error
	if l.net, err = labnet.New(ctx, config); err != nil {
		return err
	}
	l.netns, l.resolver = int(l.net.NetNS().Fd()), l.net.Resolver()
	for i := range l.project.Services {
		for _, p := range l.project.Services[i].Ports {
			if err := l.publishPort(&l.project.Services[i], p); err != nil {
				return l.project.errorAt(&l.project.Services[i], "ports", err)
			}
		}
	}
	l.work.Go(l.keepState)
	return l.openOrders()
}

func (l *Lab) publishPort(s *Service, p Port) error {
	var turn atomic.Uint64
	relay, err := l.net.Publish(labnet.Publish{
		HostIP: p.HostIP, HostPort: p.HostPort, Protocol: p.Protocol,
		To: func() (netip.AddrPort, bool) { return l.backend(s, p, int(turn.Add(1))) },
	})
	if err != nil {
		return err
	}
	l.ports = append(l.ports, published{s, p, relay.Address(), relay})
	return nil
}

// backend returns the address of a running replica, each in its turn.
func (l *Lab) backend(s *Service, p Port, turn int) (netip.AddrPort, bool) {
	cells := l.cells[s.Name]
	for n := range cells {
		c := cells[(turn+n)%len(cells)]
		c.mu.Lock()
		port, runs := c.port, c.process != nil
		c.mu.Unlock()
		if !runs {
			continue
		}
		for _, a := range s.Networks {
			return netip.AddrPortFrom(port.Addresses()[a.Network], p.ContainerPort), true
		}
	}
	return netip.AddrPort{}, false
}

func (l *Lab) portsOf(s *Service) []string {
	var ports []string
	for _, p := range l.ports {
		if p.service == s {
			ports = append(ports, p.String())
		}
	}
	return ports
}

// disconnect closes the ports, and lets go of the network.
func (l *Lab) disconnect() error {
	var errs []error
	for _, p := range l.ports {
		errs = append(errs, p.closer.Close())
	}
	if l.net != nil {
		errs = append(errs, l.net.Close())
	}
	return errors.Join(errs...)
}
