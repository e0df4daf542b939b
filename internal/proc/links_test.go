package proc

import (
	"errors"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// linksIn makes links in a fresh namespace, and returns it.
func linksIn(t *testing.T, fill func() error) experiment.Namespace {
	t.Helper()
	ns, err := Host().Namespace(inNamespaces(t, syscall.CLONE_NEWNET), "net")
	if err == nil {
		err = Host().InNetwork(ns, fill)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func addLink(l netlink.Link, up bool, addresses ...string) error {
	err := netlink.LinkAdd(l)
	if err == nil && up {
		err = netlink.LinkSetUp(l)
	}
	for _, text := range addresses {
		a, bad := netlink.ParseAddr(text)
		if err == nil && bad == nil {
			bad = netlink.AddrAdd(l, a)
		}
		err = errors.Join(err, bad)
	}
	return err
}

func TestLinks(t *testing.T) {
	t.Parallel()
	ns := linksIn(t, func() error {
		return errors.Join(
			addLink(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}, true, "10.1.0.1/24", "10.1.0.2/16"),
			addLink(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "ifb9"}}, false),
			addLink(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: 1400}, PeerName: "peer0"}, true, "2001:db8::1/64"),
		)
	})
	err := Host().InNetwork(ns, func() error {
		peer, err := netlink.LinkByName("peer0")
		if err != nil {
			return err
		}
		bridge, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(peer, bridge)
	})
	if err != nil {
		t.Fatal(err)
	}
	links, err := Host().Links(ns)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Link{}
	last := 0
	for _, l := range links {
		if l.Index <= last {
			t.Errorf("%s is not in order", l.Name)
		}
		last, got[l.Name] = l.Index, l
	}
	bridge, eth := got["br0"], got["eth0"]
	if !bridge.Up || bridge.Kind != "bridge" || bridge.Hardware != unix.ARPHRD_ETHER || len(bridge.MAC) != 6 {
		t.Errorf("%+v", bridge)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("10.1.0.2/16")}
	if diff := cmp.Diff(want, bridge.Addresses[:min(2, len(bridge.Addresses))], cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if !eth.IPv6() || eth.Kind != "veth" || eth.MTU != 1400 || eth.Lower != 0 || eth.Master != 0 {
		t.Errorf("%+v", eth)
	}
	if peer := got["peer0"]; peer.Master != bridge.Index || peer.Up || peer.IPv6() {
		t.Errorf("%+v", peer)
	}
	if l := got["ifb9"]; l.Kind != "ifb" || l.Up {
		t.Errorf("%+v", l)
	}
	if lo := got["lo"]; !lo.Loopback || lo.Up || lo.Hardware != unix.ARPHRD_LOOPBACK {
		t.Errorf("%+v", lo)
	}
}

func TestLinksThatStandOnOthers(t *testing.T) {
	t.Parallel()
	var why error
	ns := linksIn(t, func() error {
		base := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"}
		if err := addLink(base, true); err != nil {
			return err
		}
		attrs := netlink.LinkAttrs{Name: "mac0", ParentIndex: base.Index}
		why = netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE})
		return nil
	})
	if why != nil {
		t.Skip("no macvlan here:", why)
	}
	links, err := Host().Links(ns)
	if err != nil {
		t.Fatal(err)
	}
	index := map[string]int{}
	for _, l := range links {
		index[l.Name] = l.Index
		if l.Name == "mac0" && l.Lower != index["eth0"] || l.Kind == "veth" && l.Lower != 0 {
			t.Errorf("%+v", l)
		}
	}
}

func TestLinksOfNobody(t *testing.T) {
	t.Parallel()
	_, err := Host().Links(experiment.Namespace{Inode: 1, Via: experiment.ProcessID{PID: 1 << 30}})
	if !errors.Is(err, experiment.ErrGone) {
		t.Error(err)
	}
}

func BenchmarkLinks(b *testing.B) {
	ns, err := Host().Namespace(os.Getpid(), "net")
	if err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		if _, err := Host().Links(ns); err != nil {
			b.Fatal(err)
		}
	}
}
