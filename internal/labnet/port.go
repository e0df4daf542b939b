package labnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/vishvananda/netlink"
)

// Endpoint is a container as its networks see it.
type Endpoint struct {
	Name       string // unique in the lab, such as web-1
	Service    string // shared by replicas, such as web; "" is none
	On         []Attachment
	ExtraNames []string // answered on each of its networks
	// DNS are the resolvers, at port 53, that are asked for names that are not
	// the lab's when this container wants them; nil is those of the lab. They
	// may be containers.
	DNS []netip.Addr
}

// Attachment is a container on a network.
type Attachment struct {
	Network string
	Aliases []string   // answered on this network
	Address netip.Addr // zero is chosen
}

// Port is a container's place on the lab's network. It outlives restarts of
// the container.
type Port struct {
	net    *Net
	ns     *os.File
	veths  []veth
	member *member // of the directory
	close  sync.Once
}

// Join makes the network namespace of a container: with lo, and for each of
// its networks, in order, a link eth0, eth1 … that is up and has an address.
// The default route leads by the gateway of the first. It takes some 2 ms;
// several may join at once. On an error nothing is left.
func (n *Net) Join(ctx context.Context, e Endpoint) (*Port, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &Port{net: n}
	if err := n.join(p, e); err != nil {
		p.Close()
		return nil, fmt.Errorf("join %s to the network of lab %s: %w", e.Name, n.run, err)
	}
	return p, nil
}

func (n *Net) join(p *Port, e Endpoint) (err error) {
	if err := p.plan(e); err != nil {
		return err
	}
	if p.member, err = n.names.add(e, p.Addresses()); err != nil {
		return err
	}
	p.ns, err = inNewNamespace(p.wire)
	return err
}

// plan names the links and takes the addresses.
func (p *Port) plan(e Endpoint) error {
	if e.Name == "" {
		return errors.New("a name is missing")
	}
	for i, on := range e.On {
		s, err := p.net.segment(on.Network)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(p.veths, func(v veth) bool { return v.segment == s }) {
			return fmt.Errorf("network %s is named twice", s.Name)
		}
		a, err := s.pool.take(on.Address, e.Name)
		if err != nil {
			return fmt.Errorf("network %s: %w", s.Name, err)
		}
		p.veths = append(p.veths, veth{peer: "eth" + strconv.Itoa(i), segment: s, address: a})
	}
	return nil
}

// wire readies the namespace of this thread, which is the container's, ns.
func (p *Port) wire(ns *os.File) error {
	if err := set(containerSettings); err != nil {
		return err
	}
	h, err := newHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	if err := loopbackUp(h); err != nil {
		return err
	}
	for i := range p.veths {
		if err := p.wireOne(h, &p.veths[i], ns); err != nil {
			return err
		}
	}
	if len(p.veths) == 0 {
		return nil
	}
	return addDefaultRoute(h, p.veths[0].segment.Gateway)
}

// wireOne makes a pair of links; h is of the container's namespace.
func (p *Port) wireOne(h *netlink.Handle, v *veth, ns *os.File) error {
	lab, end := p.net, 0
	err := lab.use(func() (err error) {
		v.name = "v" + strconv.FormatInt(lab.veths.Add(1), 10)
		end, err = addVeth(lab.links, *v, ns)
		return err
	})
	if err != nil {
		return err
	}
	if err := v.setUp(h); err != nil {
		return err
	}
	return lab.use(func() error {
		if err := addNeighbour(lab.links, v.segment.bridge, v.address); err != nil {
			return err
		}
		if err := awaitUp(lab.links, end); err != nil {
			return err
		}
		return v.segment.awaitUp(lab.links)
	})
}

// NetNS returns the container's namespace. It is closed by Close.
func (p *Port) NetNS() *os.File { return p.ns }

// Addresses returns the container's addresses by network.
func (p *Port) Addresses() map[string]netip.Addr {
	list := make(map[string]netip.Addr, len(p.veths))
	for _, v := range p.veths {
		list[v.segment.Name] = v.address
	}
	return list
}

// Address returns the container's address on its first network; it is zero
// where there is none.
func (p *Port) Address() netip.Addr {
	if len(p.veths) == 0 {
		return netip.Addr{}
	}
	return p.veths[0].address
}

// Resolver returns the address that the container asks for names, at port 53;
// it is zero where the container is on no network.
func (p *Port) Resolver() netip.Addr {
	if len(p.veths) == 0 {
		return netip.Addr{}
	}
	return p.veths[0].segment.Gateway
}

// SetRunning says whether the container runs. While it does not, as at first,
// its names lead nowhere.
func (p *Port) SetRunning(yes bool) { p.net.names.setRunning(p.member, yes) }

// Close gives the container's names and addresses back, and what this process
// holds of its namespace. That goes, with its links, when no process is left
// in it: close the port after those have ended.
func (p *Port) Close() {
	p.close.Do(func() {
		if p.member != nil {
			p.net.names.remove(p.member)
		}
		if p.ns != nil {
			_ = p.ns.Close() // nothing was written
		}
		for _, v := range p.veths {
			_ = p.net.use(func() error { // not there: it had not come so far
				return p.net.links.NeighDel(neighbour(v.segment.bridge, v.address))
			})
			v.segment.pool.release(v.address)
		}
	})
}
