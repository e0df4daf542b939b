package proc

import (
	"errors"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// TestGateway looks for the gateway as the namespace's routes and neighbours
// change.
func TestGateway(t *testing.T) {
	t.Parallel()
	pid := inNamespaces(t, syscall.CLONE_NEWNET)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs iproute2: ", err)
	}
	f := Host()
	ns, err := f.Namespace(pid, "net")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		commands string // of ip
		links    []int
		want     string
	}{
		{"", nil, ""},
		{"link set lo up", nil, ""},
		{"link add va index 10 type veth peer vb index 11; link set va addrgenmode none up; link set vb addrgenmode none up", nil, ""},
		{"address add 10.205.0.1/24 dev va; address add fd00:205::1/64 dev va nodad; address add 10.206.0.1/24 dev vb", nil, ""},
		{"route add 10.0.0.0/8 via 10.205.0.7; route add blackhole default metric 900", nil, ""},
		{"neigh add 10.205.0.9 lladdr 02:00:00:00:00:09 dev va nud failed", nil, ""},
		{"neigh add fe80::9 lladdr 02:00:00:00:00:09 dev va nud stale", nil, "fe80::9%va"},
		{"neigh add 10.205.0.8 lladdr 02:00:00:00:00:08 dev va nud reachable", nil, "10.205.0.8"},
		{"neigh add 10.206.0.8 lladdr 02:00:00:00:00:08 dev vb nud permanent", []int{11}, "10.206.0.8"},
		{"-6 route add default via fe80::7 dev va", nil, "fe80::7%va"},
		{"route add default via 10.205.0.6 metric 300", nil, "10.205.0.6"},
		{"route add default via 10.205.0.5 metric 200", nil, "10.205.0.5"},
		{"route add default via 10.206.0.5 metric 100", []int{10}, "10.205.0.5"},
		{"", []int{11}, "10.206.0.5"},
		{"", nil, "10.206.0.5"},
		{"route del default via 10.206.0.5", nil, "10.205.0.5"},
		{"route add default metric 10 nexthop via 10.206.0.3 nexthop via 10.205.0.4", []int{10}, "10.205.0.4"},
		{"-4 route add default metric 5 via inet6 fd00:205::3 dev va", nil, "fd00:205::3"},
		{"", []int{99}, ""},
	} {
		ip(t, f, ns, step.commands)
		addr, err := f.Gateway(ns, step.links...)
		if step.want == "" {
			if !errors.Is(err, experiment.ErrUnsupported) {
				t.Errorf("after %q: %v, %v", step.commands, addr, err)
			}
			continue
		}
		if err != nil || addr.String() != step.want {
			t.Errorf("after %q, links %v: %v, %v; want %s", step.commands, step.links, addr, err, step.want)
		}
	}
}

// TestGatewayThatIsDown: a route whose link has no carrier leads nowhere.
func TestGatewayThatIsDown(t *testing.T) {
	t.Parallel()
	hop := func(link, flags int) *netlink.NexthopInfo {
		return &netlink.NexthopInfo{LinkIndex: link, Gw: net.IPv4(10, 0, 0, byte(link)), Flags: flags}
	}
	for want, hops := range map[string][]*netlink.NexthopInfo{
		"10.0.0.3":   {hop(1, unix.RTNH_F_DEAD), hop(2, unix.RTNH_F_LINKDOWN|unix.RTNH_F_DEAD), hop(3, unix.RTNH_F_ONLINK)},
		"invalid IP": {hop(1, unix.RTNH_F_LINKDOWN)},
	} {
		if got := (nearby{}).via(netlink.Route{Type: unix.RTN_UNICAST, MultiPath: hops}); got.String() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
}

// ip runs commands of ip(8), apart by semicolons, in ns.
func ip(t *testing.T, f FS, ns experiment.Namespace, commands string) {
	t.Helper()
	err := f.InNetwork(ns, func() error {
		for line := range strings.SplitSeq(commands, "; ") {
			if line == "" {
				continue
			}
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %s", line, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
