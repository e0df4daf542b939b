package labnet

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// A namespace can't be seen when nobody holds it. So a pair of links is laid
// from here into each: an end goes with the other's namespace.
func TestNothingIsLeft(t *testing.T) {
	needRoot(t)
	before, held := hostState(t), namespacesHeld(t)
	n := newNet(t, twoNetworks())
	web := joinOn(t, n, "web", "", "front", "back")
	server := listenIn(t, web.NetNS(), ":80", "web")
	pub, err := n.Publish(Publish{To: func() (netip.AddrPort, bool) { return netip.AddrPortFrom(web.Address(), 80), true }})
	must(t, err)
	if word, err := hear(t, new(net.Dialer).DialContext, pub.Address().String()); word != "web" {
		t.Error(word, err)
	}
	open, err := net.Dial("tcp", pub.Address().String()) // stays so
	must(t, err)
	defer open.Close()
	if diff := cmp.Diff(before, hostState(t)); diff != "" {
		t.Errorf("the host's network changed: %s", diff)
	}
	watch := watchEnd(t, map[string]*os.File{"lab": n.NetNS(), "web": web.NetNS()})
	must(t, server.Close()) // a socket keeps its namespace
	began := time.Now()
	web.Close()
	must(t, n.Close())
	t.Logf("closed in %v", time.Since(began))
	await(t, "both namespaces' end", func() bool { return len(watch()) == 0 })
	t.Logf("gone after %v", time.Since(began))
	if time.Since(began) > time.Second {
		t.Error("that took too long")
	}
	if diff := cmp.Diff(before, hostState(t)); diff != "" {
		t.Error(diff)
	}
	await(t, "the threads' end", func() bool { return namespacesHeld(t) == held+1 }) // the one that watched
}

// watchEnd lays a pair of links into each namespace, and returns what says
// which of them are still there.
func watchEnd(t *testing.T, namespaces map[string]*os.File) func() []string {
	t.Helper()
	watch, err := inNewNamespace(func(*os.File) error {
		for name, ns := range namespaces {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = name
			err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "watch", PeerNamespace: netlink.NsFd(ns.Fd())})
			if err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	t.Cleanup(func() { _ = watch.Close() })
	return func() (left []string) {
		must(t, inNamespace(watch, func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				if namespaces[l.Attrs().Name] != nil {
					left = append(left, l.Attrs().Name)
				}
			}
			return err
		}))
		return left
	}
}

// namespacesHeld counts the network namespaces that this process has open, and
// its threads that are in another than the process.
func namespacesHeld(t *testing.T) int {
	t.Helper()
	home, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	count := 0
	for _, pattern := range []string{"/proc/self/fd/*", "/proc/self/task/*/ns/net"} {
		links, err := filepath.Glob(pattern)
		must(t, err)
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.HasPrefix(to, "net:") && to != home {
				count++
			}
		}
	}
	return count
}

// hostState is what of the host's network could have changed.
func hostState(t *testing.T) []string {
	t.Helper()
	h, err := newHandle()
	must(t, err)
	defer h.Close()
	var state []string
	links, err := h.LinkList()
	must(t, err)
	for _, l := range links {
		state = append(state, l.Attrs().Name+" "+l.Attrs().HardwareAddr.String())
	}
	addresses, err := h.AddrList(nil, netlink.FAMILY_ALL)
	must(t, err)
	for _, a := range addresses {
		state = append(state, a.IPNet.String())
	}
	routes, err := h.RouteList(nil, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		state = append(state, r.String())
	}
	return state
}
