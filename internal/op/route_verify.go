package op

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// mostTried is how many of its prefixes are tried: of many routes all were
// made in one go.
const mostTried = 32

// Verify implements experiment.Verifier: the routes are there, and connect(2)
// from inside the namespace is told what those of this type tell.
func (r *Routes) Verify(context.Context) (e experiment.Evidence, err error) {
	err = r.host.FS.InNetwork(r.Net, func() error {
		own, err := r.own()
		if err != nil {
			return err
		}
		if r.Remove {
			e = experiment.Evidence{InForce: len(own) == 0, What: fmt.Sprintf("%d %s routes of the run's", len(own), r.Type)}
			return nil
		}
		for _, p := range slices.Concat(r.Match.Far, r.Narrower) {
			if !slices.ContainsFunc(own, func(o netlink.Route) bool { return prefixTo(o) == p }) {
				e = experiment.Evidence{What: fmt.Sprintf("no %s route to %s", r.Type, p), Hint: "somebody removed or replaced it"}
				return nil
			}
		}
		e, err = r.try(len(own))
		return err
	})
	return e, err
}

// try connects to an address of each prefix.
func (r *Routes) try(routes int) (experiment.Evidence, error) {
	own, err := addresses()
	if err != nil {
		return experiment.Evidence{}, err
	}
	said := map[bool]string{}
	for _, p := range r.Match.Far[:min(mostTried, len(r.Match.Far))] {
		at, ok := tryable(p, own)
		if !ok {
			continue // all of it is the target's own
		}
		told := connectUDP(at)
		words := fmt.Sprintf("connect to %s: %s", at, result(told))
		if !errors.Is(told, routeTypes[r.Type].errno) {
			return experiment.Evidence{What: words, Hint: "a rule leads past the main table, or the address is one of its own"}, nil
		}
		if said[at.Is6()] == "" {
			said[at.Is6()] = words
		}
	}
	what := fmt.Sprintf("%d %s routes", routes, r.Type)
	for _, v6 := range []bool{false, true} {
		if said[v6] != "" {
			what += "; " + said[v6]
		}
	}
	return experiment.Evidence{InForce: true, What: what}, nil
}

func result(err error) string {
	if err == nil {
		return "there is a way"
	}
	return err.Error()
}

// addresses are those of this thread's namespace, and those that stand for all
// on a link.
func addresses() (list []netip.Addr, err error) {
	found, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range found {
		for _, ip := range [][]byte{a.IP, a.Broadcast} {
			if addr, ok := netip.AddrFromSlice(ip); ok {
				list = append(list, addr.Unmap())
			}
		}
	}
	return list, nil
}

// tryable returns an address of a prefix that is not the target's own. One of
// all is taken from those that documents may use (RFC 5737, RFC 3849).
func tryable(p netip.Prefix, own []netip.Addr) (netip.Addr, bool) {
	if p.IsSingleIP() {
		return p.Addr(), !slices.Contains(own, p.Addr())
	}
	at := p.Addr().Next()
	switch p {
	case netip.MustParsePrefix("0.0.0.0/0"):
		at = netip.MustParseAddr("192.0.2.1")
	case netip.MustParsePrefix("::/0"):
		at = netip.MustParseAddr("2001:db8::1")
	}
	for slices.Contains(own, at) {
		at = at.Next()
	}
	return at, p.Contains(at)
}

// connectUDP asks the kernel for the way to an address. Nothing is sent.
func connectUDP(a netip.Addr) error {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: a.As16(), Port: 9})
	if a.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: a.As4(), Port: 9}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

// Follow implements experiment.Follower: the addresses that names come to have
// get routes too.
func (r *Routes) Follow(ctx context.Context) error {
	if r.Match.Names == nil || r.Remove {
		<-ctx.Done()
		return nil
	}
	m := r.Match
	m.Far = slices.Clone(m.Far)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, _ := m.Refresh(ctx, r.host.FS) // a name that can't be resolved keeps what it had
		if !changed || ctx.Err() != nil {
			continue
		}
		if err := r.host.FS.InNetwork(r.Net, func() error { return r.add(r.usable(m.Far)) }); err != nil {
			return fmt.Errorf("follow names in routes: %w", err)
		}
	}
}
