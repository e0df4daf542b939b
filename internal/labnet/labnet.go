// Package labnet is the network of the containers that one run launches. It
// lives in a network namespace of its own, the lab's, so that nothing on the
// host's network changes:
//
//	host's namespace │ lab's namespace                │ a container's namespace
//	                 │                                │
//	Publish ─ relay ─┼─► Dial ─► br0 10.64.0.1 ── v1 ─┼─ eth0 10.64.0.2
//	127.0.0.1:8080   │            │                   │  default by 10.64.0.1
//	                 │            ├───────────── v2 ──┼─ eth0 10.64.0.3
//	                 │            │                   │
//	resolvers of   ◄─┼── resolver │                   │
//	the host         │   :53 of each gateway address  │
//	                 │            │                   │
//	                 │           br1 10.65.0.1 ── v3 ─┼─ eth1 10.65.0.2
//
// No packet crosses the line on the left: what goes from one side to the other
// is copied by this process, between a socket here and a socket there. Nothing
// is held by name. Namespaces live as long as somebody has them open or is in
// them, and links go with their namespaces.
package labnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
)

// Config is what a lab's network is made from.
type Config struct {
	Run      string    // the run's name, for errors
	Networks []Network // none is fine: then containers are on their own
	// Upstream are the resolvers that names of others are forwarded to, from
	// the namespace of this process. Nil is what /etc/resolv.conf says at the
	// time; an empty list forwards nothing.
	Upstream []netip.AddrPort
	// Names are the lab's from the start. Others become so when a container
	// that has them joins.
	Names []string
}

// Network is one network of a lab: a bridge, with an address in the lab's
// namespace by which containers reach the resolver.
type Network struct {
	Name    string
	Subnet  netip.Prefix // IPv4; zero is chosen: 10.64.0.0/16 and those that follow
	Gateway netip.Addr   // zero is the subnet's first
}

// Net is the network of one lab. Its methods may be called at the same time.
type Net struct {
	run      string
	ns       *os.File
	links    *netlink.Handle // in ns
	segments []*segment      // in the order of Config.Networks
	names    *directory
	resolver *resolver

	// open is held for reading by those who use ns or links, and for writing
	// to close them: the number of a descriptor closed too early may be
	// another's already.
	open   sync.RWMutex
	closed bool
	veths  atomic.Int64 // made so far

	mu        sync.Mutex
	published map[*Published]struct{}
}

// segment is a Network as made.
type segment struct {
	Network
	bridge int // index of its link
	pool   *pool
	up     atomic.Bool // the bridge has been seen up, as it is from the first container on
}

// awaitUp waits until the bridge is up, the first time.
func (s *segment) awaitUp(h *netlink.Handle) error {
	if s.up.Load() {
		return nil
	}
	err := awaitUp(h, s.bridge)
	s.up.Store(err == nil)
	return err
}

var errClosed = errors.New("the lab's network is closed")

// New makes the lab's namespace, with a bridge and a resolver for each
// network. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN. On an error nothing is
// left.
func New(ctx context.Context, c Config) (*Net, error) {
	plans, err := plan(c.Networks)
	if err != nil {
		return nil, fmt.Errorf("plan the network of lab %s: %w", c.Run, err)
	}
	n := &Net{run: c.Run, names: newDirectory(plans, c.Names), published: map[*Published]struct{}{}}
	if err := n.build(ctx, plans, c.Upstream); err != nil {
		return nil, errors.Join(fmt.Errorf("make the network of lab %s: %w", c.Run, err), n.Close())
	}
	return n, nil
}

func (n *Net) build(ctx context.Context, plans []Network, upstream []netip.AddrPort) error {
	ns, err := inNewNamespace(func(*os.File) (err error) {
		if n.links, err = newHandle(); err != nil {
			return err
		}
		return prepareLab(n.links)
	})
	if err != nil {
		return err
	}
	n.ns = ns
	for i, p := range plans {
		bridge, err := addBridge(n.links, i, p)
		if err != nil {
			return fmt.Errorf("network %s: %w", p.Name, err)
		}
		n.segments = append(n.segments, &segment{Network: p, bridge: bridge, pool: newPool(p)})
	}
	inside := dialer{inside: n.inside}.connect
	n.resolver, err = startResolver(ctx, n.ns, n.names, newForwarder(upstream, n.names, inside))
	return err
}

// NetNS returns the lab's namespace, in which there is a gateway address of
// each network. It is closed by Close.
func (n *Net) NetNS() *os.File { return n.ns }

// Resolver returns where a process in the lab's namespace asks for names, as
// DialVia does. It is zero in a lab without networks.
func (n *Net) Resolver() netip.AddrPort {
	if len(n.segments) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(n.segments[0].Gateway, portDNS)
}

// Networks returns the networks as made: with subnet and gateway.
func (n *Net) Networks() []Network {
	list := make([]Network, len(n.segments))
	for i, s := range n.segments {
		list[i] = s.Network
	}
	return list
}

// Close ends published ports with their connections, the resolver, and what
// this process holds of the lab's namespace. That goes, with every link in it,
// when nobody else is left who holds it: open connections of Dial do.
// Containers' namespaces are their Ports'. A second Close does nothing.
func (n *Net) Close() error {
	n.open.Lock()
	before := n.closed
	n.closed = true
	n.open.Unlock()
	if before {
		return nil
	}
	var errs []error
	for _, p := range n.ports() {
		errs = append(errs, p.Close())
	}
	if n.resolver != nil {
		n.resolver.close()
	}
	if n.links != nil {
		n.links.Close()
	}
	if n.ns != nil {
		errs = append(errs, n.ns.Close())
	}
	return errors.Join(errs...)
}

// use runs fn while ns and links are open.
func (n *Net) use(fn func() error) error {
	n.open.RLock()
	defer n.open.RUnlock()
	if n.closed {
		return errClosed
	}
	return fn()
}

// ports returns what is published.
func (n *Net) ports() []*Published {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.published))
}

// segment returns a network by name.
func (n *Net) segment(name string) (*segment, error) {
	known := make([]string, len(n.segments))
	for i, s := range n.segments {
		if s.Name == name {
			return s, nil
		}
		known[i] = s.Name
	}
	return nil, fmt.Errorf("there is no network %q: there is %s", name, strings.Join(known, ", "))
}
