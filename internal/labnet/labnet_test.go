package labnet

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestContainersReachEachOther(t *testing.T) {
	t.Parallel()
	n := newNet(t, twoNetworks())
	a, b := joinOn(t, n, "a", "", "front"), joinOn(t, n, "b", "", "front", "back")
	listenIn(t, b.NetNS(), ":80", "b")
	for name, dial := range map[string]dialFunc{
		"from another container": from(a).connect, "from itself": from(b).connect, "from the lab": n.Dial,
	} {
		for network, address := range b.Addresses() {
			if name == "from another container" && network == "back" {
				continue
			}
			word, err := hear(t, dial, address.String()+":80")
			if err != nil || word != "b" {
				t.Errorf("%s, on %s: %q, %v", name, network, word, err)
			}
		}
	}
	if _, err := hear(t, from(a).connect, at(b, 81)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port where nobody listens: %v", err)
	}
}

// What is not on the same network is out of reach, and the one who tries
// hears that at once.
func TestNetworksAreApart(t *testing.T) {
	t.Parallel()
	n := newNet(t, twoNetworks())
	a, b := joinOn(t, n, "a", "", "front"), joinOn(t, n, "b", "", "back")
	listenIn(t, b.NetNS(), ":80", "b")
	for name, address := range map[string]string{"another network": at(b, 80), "outside": "192.0.2.1:80"} {
		began := time.Now()
		_, err := hear(t, from(a).connect, address)
		if !errors.Is(err, syscall.ENETUNREACH) || time.Since(began) > time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
	}
}

// Nor does anything pass where nobody waits for an answer.
func TestLabForwardsNothing(t *testing.T) {
	t.Parallel()
	n := newNet(t, twoNetworks())
	a, b := joinOn(t, n, "a", "", "front"), joinOn(t, n, "b", "", "back")
	got := make(chan bool, 1)
	must(t, inNamespace(b.NetNS(), func() error {
		conn, err := net.ListenPacket("udp4", ":9")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			_, _, err := conn.ReadFrom(make([]byte, 8))
			got <- err == nil
		}()
		return nil
	}))
	conn, err := from(a).connect(t.Context(), "udp", at(b, 9))
	must(t, err)
	defer conn.Close()
	for range 20 {
		_, _ = conn.Write([]byte("x"))
		time.Sleep(time.Millisecond)
	}
	select {
	case <-got:
		t.Error("a packet went from one network to the other")
	case <-time.After(20 * time.Millisecond):
	}
}

// linksOf lists the links of a namespace with their addresses.
func linksOf(t *testing.T, ns *os.File) map[string][]string {
	t.Helper()
	list := map[string][]string{}
	must(t, inNamespace(ns, func() error {
		h, err := newHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		links, err := h.LinkList()
		for _, l := range links {
			if l.Attrs().Flags&net.FlagUp == 0 {
				continue // a kernel with tunnels shows some in each namespace
			}
			addresses, err := h.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			list[l.Attrs().Name] = []string{}
			for _, a := range addresses {
				list[l.Attrs().Name] = append(list[l.Attrs().Name], a.IPNet.String())
			}
		}
		return err
	}))
	return list
}

func TestJoin(t *testing.T) {
	t.Parallel()
	c := twoNetworks()
	c.Networks[1].Subnet = netip.MustParsePrefix("172.30.5.0/24")
	n := newNet(t, c)
	p := joinAs(t, n, Endpoint{Name: "db", On: []Attachment{
		{Network: "back", Address: netip.MustParseAddr("172.30.5.77")}, {Network: "front"},
	}})
	want := map[string][]string{"lo": {"127.0.0.1/8", "::1/128"}, "eth0": {"172.30.5.77/24"}, "eth1": {"10.64.0.2/16"}}
	if diff := cmp.Diff(want, linksOf(t, p.NetNS())); diff != "" {
		t.Error(diff)
	}
	want = map[string][]string{"lo": {"127.0.0.1/8", "::1/128"}, "br0": {"10.64.0.1/16"}, "br1": {"172.30.5.1/24"}, "v1": {}, "v2": {}}
	if diff := cmp.Diff(want, linksOf(t, n.NetNS())); diff != "" {
		t.Error(diff)
	}
	if p.Resolver().String() != "172.30.5.1" || p.Address().String() != "172.30.5.77" {
		t.Errorf("resolver %s, address %s", p.Resolver(), p.Address())
	}
	must(t, inNamespace(p.NetNS(), func() error {
		routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{}, netlink.RT_FILTER_DST)
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != "172.30.5.1" {
			t.Errorf("default route: %v, %v", routes, err)
		}
		for file, want := range map[string]string{
			"/proc/sys/net/ipv4/ip_unprivileged_port_start": "0",
			"/proc/sys/net/ipv4/ping_group_range":           "0\t2147483647",
		} {
			value, err := os.ReadFile(file)
			if strings.TrimSpace(string(value)) != want {
				t.Errorf("%s: %q, %v", file, value, err)
			}
		}
		return nil
	}))
}

// A container on no network has lo, and nothing else.
func TestJoinAlone(t *testing.T) {
	t.Parallel()
	n := newNet(t, Config{})
	p := joinOn(t, n, "alone", "")
	want := map[string][]string{"lo": {"127.0.0.1/8", "::1/128"}}
	if diff := cmp.Diff(want, linksOf(t, p.NetNS())); diff != "" {
		t.Error(diff)
	}
	if p.Resolver().IsValid() || p.Address().IsValid() || n.Resolver().IsValid() {
		t.Error("there is a resolver, or an address")
	}
	_, err := hear(t, from(p).connect, "192.0.2.1:80")
	if !errors.Is(err, syscall.ENETUNREACH) {
		t.Error(err)
	}
}

func TestJoinErrors(t *testing.T) {
	t.Parallel()
	c := twoNetworks()
	c.Networks[1].Subnet = netip.MustParsePrefix("10.9.9.0/30")
	n := newNet(t, c)
	first := joinOn(t, n, "one", "", "back")
	on := func(network, address string) []Attachment {
		a := Attachment{Network: network}
		if address != "" {
			a.Address = netip.MustParseAddr(address)
		}
		return []Attachment{a}
	}
	for name, tt := range map[string]struct {
		e    Endpoint
		want string
	}{
		"no name":         {Endpoint{}, "join  to the network of lab test: a name is missing"},
		"no such network": {Endpoint{Name: "x", On: on("mid", "")}, `join x to the network of lab test: there is no network "mid": there is front, back`},
		"network twice":   {Endpoint{Name: "x", On: append(on("front", ""), on("front", "")...)}, "join x to the network of lab test: network front is named twice"},
		"address taken":   {Endpoint{Name: "x", On: on("back", "10.9.9.2")}, "join x to the network of lab test: network back: address 10.9.9.2 is taken: one has it"},
		"the gateway's":   {Endpoint{Name: "x", On: on("back", "10.9.9.1")}, "join x to the network of lab test: network back: address 10.9.9.1 is taken: the gateway has it"},
		"not in subnet":   {Endpoint{Name: "x", On: on("back", "10.9.8.2")}, "join x to the network of lab test: network back: address 10.9.8.2 is not one of a host in 10.9.9.0/30"},
		"broadcast":       {Endpoint{Name: "x", On: on("back", "10.9.9.3")}, "join x to the network of lab test: network back: address 10.9.9.3 is not one of a host in 10.9.9.0/30"},
		"none left":       {Endpoint{Name: "x", On: on("back", "")}, "join x to the network of lab test: network back: no address is left in 10.9.9.0/30: all 2 are taken"},
		"name taken":      {Endpoint{Name: "one", On: on("front", "")}, "join one to the network of lab test: a container of the name one has joined already"},
	} {
		_, err := n.Join(t.Context(), tt.e)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, _ := n.names.find(netip.Addr{}, "one"); len(list) != 1 {
		t.Error("a join that failed took the name away")
	}
	first.Close()
	joinOn(t, n, "two", "", "back") // has the address that came back
	must(t, n.Close())
	if _, err := n.Join(t.Context(), Endpoint{Name: "late", On: on("front", "")}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if _, err := n.Dial(t.Context(), "tcp", "10.64.0.2:80"); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}
