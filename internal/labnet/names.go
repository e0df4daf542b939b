package labnet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// directory knows who has which name and address. Names have no dot at their
// end and are in lower case.
type directory struct {
	mu       sync.Mutex
	networks []Network // in the order in which the lab itself looks names up
	members  map[string]*member
	at       map[netip.Addr]*member
	names    map[string]map[string]*holders // by network, then name
	known    map[string]bool                // what was ever a name of the lab
}

// member is a container that has joined.
type member struct {
	name     string
	networks []string // in order
	dns      []netip.Addr
	running  bool
}

// holders are those who have a name on a network, in the order of joining.
type holders struct {
	list []holder
	turn int // how many answers there have been
}

type holder struct {
	*member
	address netip.Addr
}

func newDirectory(networks []Network, names []string) *directory {
	d := &directory{
		networks: networks, members: map[string]*member{}, at: map[netip.Addr]*member{},
		names: map[string]map[string]*holders{}, known: map[string]bool{},
	}
	for _, n := range networks {
		d.names[n.Name] = map[string]*holders{}
	}
	for _, name := range names {
		d.learn(plainName(name))
	}
	return d
}

// plainName makes what people and DNS write the same.
func plainName(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// learn makes a name the lab's: alone and as NAME.NETWORK.
func (d *directory) learn(name string) {
	d.known[name] = true
	for _, n := range d.networks {
		d.known[name+"."+plainName(n.Name)] = true
	}
}

// add makes a container known, which does not run yet, with its address on
// each network.
func (d *directory) add(e Endpoint, addresses map[string]netip.Addr) (*member, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.members[e.Name] != nil {
		return nil, fmt.Errorf("a container of the name %s has joined already", e.Name)
	}
	m := &member{name: e.Name, dns: e.DNS}
	d.members[e.Name] = m
	for _, on := range e.On {
		a := addresses[on.Network]
		m.networks = append(m.networks, on.Network)
		d.at[a] = m
		names := append([]string{e.Name, e.Service}, on.Aliases...)
		d.addNames(on.Network, append(names, e.ExtraNames...), holder{m, a})
	}
	return m, nil
}

func (d *directory) addNames(network string, names []string, h holder) {
	for i := range names {
		names[i] = plainName(names[i])
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" {
			continue
		}
		d.learn(name)
		for _, full := range []string{name, name + "." + plainName(network)} {
			if d.names[network][full] == nil {
				d.names[network][full] = &holders{}
			}
			d.names[network][full].list = append(d.names[network][full].list, h)
		}
	}
}

// remove forgets who had the names. They stay the lab's, so that a question
// for one is never asked outside.
func (d *directory) remove(m *member) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.members, m.name)
	maps.DeleteFunc(d.at, func(_ netip.Addr, at *member) bool { return at == m })
	for _, names := range d.names {
		for _, h := range names {
			h.list = slices.DeleteFunc(h.list, func(h holder) bool { return h.member == m })
		}
	}
}

func (d *directory) setRunning(m *member, yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m.running = yes
}

// visible returns the networks of the asker: all, where it is the lab itself.
func (d *directory) visible(asker netip.Addr) []string {
	if m := d.at[asker]; m != nil {
		return m.networks
	}
	all := make([]string, len(d.networks))
	for i, n := range d.networks {
		all[i] = n.Name
	}
	return all
}

// find returns the addresses of those running that have a name, on the first
// of the asker's networks where there are some. Each time another comes first.
// Whether the name is the lab's at all is said by ours.
func (d *directory) find(asker netip.Addr, name string) (list []netip.Addr, ours bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = plainName(name)
	for _, network := range d.visible(asker) {
		if list := d.names[network][name].next(); len(list) > 0 {
			return list, true
		}
	}
	return nil, d.known[name]
}

// next returns the addresses of those running, and takes a turn.
func (h *holders) next() []netip.Addr {
	if h == nil {
		return nil
	}
	var list []netip.Addr
	for _, one := range h.list {
		if one.running {
			list = append(list, one.address)
		}
	}
	if len(list) == 0 {
		return nil
	}
	first := h.turn % len(list)
	h.turn++
	return append(list[first:], list[:first]...)
}

// nameOf returns NAME.NETWORK of the running container that has an address on
// a network of the asker's; it is empty where there is none. Whether the
// address is of the lab at all is said by ours.
func (d *directory) nameOf(asker, address netip.Addr) (name string, ours bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.networks {
		if !n.Subnet.Contains(address) {
			continue
		}
		m := d.at[address]
		if m == nil || !m.running || !slices.Contains(d.visible(asker), n.Name) {
			return "", true
		}
		return m.name + "." + n.Name, true
	}
	return "", false
}

// resolversOf returns the upstream resolvers that an asker has of its own.
func (d *directory) resolversOf(asker netip.Addr) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.at[asker]; m != nil {
		return m.dns
	}
	return nil
}

// within says whether an address is of the lab.
func (d *directory) within(a netip.Addr) bool {
	return slices.ContainsFunc(d.networks, func(n Network) bool { return n.Subnet.Contains(a) })
}
