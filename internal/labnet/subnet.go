package labnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// plan fills in what networks leave open, and refuses what can't be.
func plan(networks []Network) ([]Network, error) {
	plans := make([]Network, len(networks))
	copy(plans, networks)
	names := map[string]bool{}
	for i := range plans {
		p := &plans[i]
		if p.Name == "" || names[p.Name] {
			return nil, fmt.Errorf("network %q: a name that no other has is needed", p.Name)
		}
		names[p.Name] = true
		if err := checkSubnet(p, plans[:i]); err != nil {
			return nil, fmt.Errorf("network %s: %w", p.Name, err)
		}
	}
	for i := range plans {
		p := &plans[i]
		if err := chooseSubnet(p, plans); err != nil {
			return nil, fmt.Errorf("network %s: %w", p.Name, err)
		}
		if err := chooseGateway(p); err != nil {
			return nil, fmt.Errorf("network %s: %w", p.Name, err)
		}
	}
	return plans, nil
}

// checkSubnet looks at a subnet that was asked for, beside those before it.
func checkSubnet(p *Network, others []Network) error {
	if p.Subnet == (netip.Prefix{}) {
		return nil
	}
	s := p.Subnet
	switch {
	case !s.IsValid():
		return errors.New("the subnet is not one")
	case !s.Addr().Is4():
		return fmt.Errorf("subnet %s: a lab's networks have IPv4 only", s)
	case s.Bits() > 30 || s.Bits() < 8:
		return fmt.Errorf("subnet %s: /8 to /30 are possible", s)
	case s.Addr().IsLoopback() || s.Addr().IsMulticast() || s.Addr().As4()[0] == 0 || s.Addr().As4()[0] >= 240:
		return fmt.Errorf("subnet %s: these addresses are not for hosts", s)
	}
	p.Subnet = s.Masked()
	for _, o := range others {
		if o.Subnet.IsValid() && o.Subnet.Overlaps(p.Subnet) {
			return fmt.Errorf("subnet %s is taken: network %s has %s", s, o.Name, o.Subnet)
		}
	}
	return nil
}

// chooseSubnet takes the first of 10.64.0.0/16, 10.65.0.0/16 … that no other
// has, where none was asked for. Networks of the host may have it too: the two
// never meet. So may those of other labs.
func chooseSubnet(p *Network, others []Network) error {
	for second := 64; p.Subnet == (netip.Prefix{}); second++ {
		if second > 255 {
			return errors.New("no subnet is left")
		}
		s := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), 0, 0}), 16)
		if !overlaps(s, others) {
			p.Subnet = s
		}
	}
	return nil
}

func overlaps(s netip.Prefix, others []Network) bool {
	for _, o := range others {
		if o.Subnet.IsValid() && o.Subnet.Overlaps(s) {
			return true
		}
	}
	return false
}

func chooseGateway(p *Network) error {
	if p.Gateway == (netip.Addr{}) {
		p.Gateway = p.Subnet.Addr().Next()
	}
	if !usable(p.Subnet, p.Gateway) {
		return fmt.Errorf("gateway %s is not an address of a host in %s", p.Gateway, p.Subnet)
	}
	return nil
}

// usable says whether a host may have the address: in subnet, but neither its
// first nor its last.
func usable(subnet netip.Prefix, a netip.Addr) bool {
	return subnet.Contains(a) && a != subnet.Addr() && a != last(subnet)
}

// last returns the broadcast address.
func last(subnet netip.Prefix) netip.Addr {
	bits := subnet.Addr().As4()
	n := binary.BigEndian.Uint32(bits[:]) | 1<<(32-subnet.Bits()) - 1
	binary.BigEndian.PutUint32(bits[:], n)
	return netip.AddrFrom4(bits)
}

// pool gives out the addresses of one network. It goes round: an address that
// came back is the last to be given again, as its former holder may still be
// taken apart by the kernel.
type pool struct {
	Network
	mu   sync.Mutex
	next netip.Addr
	used map[netip.Addr]string // and by whom
}

func newPool(n Network) *pool {
	return &pool{Network: n, next: n.Gateway.Next(), used: map[netip.Addr]string{n.Gateway: "the gateway"}}
}

// take gives an address to who: the one asked for, or the next that is free.
func (p *pool) take(asked netip.Addr, who string) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if asked == (netip.Addr{}) {
		return p.free(who)
	}
	if !usable(p.Subnet, asked) {
		return asked, fmt.Errorf("address %s is not one of a host in %s", asked, p.Subnet)
	}
	if holder, taken := p.used[asked]; taken {
		return asked, fmt.Errorf("address %s is taken: %s has it", asked, holder)
	}
	p.used[asked] = who
	return asked, nil
}

func (p *pool) free(who string) (netip.Addr, error) {
	hosts := 1<<(32-p.Subnet.Bits()) - 2
	if len(p.used) >= hosts {
		return netip.Addr{}, fmt.Errorf("no address is left in %s: all %d are taken", p.Subnet, hosts)
	}
	for {
		if !usable(p.Subnet, p.next) {
			p.next = p.Subnet.Addr().Next()
		}
		a := p.next
		p.next = a.Next()
		if _, taken := p.used[a]; !taken {
			p.used[a] = who
			return a, nil
		}
	}
}

func (p *pool) release(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, a)
}
