package op

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// pairNet is a target's network namespace, and a peer's, with a pair of links
// between them.
//
//	target 10.9.0.1 eth0 ──── eth0 10.9.0.2 peer
type pairNet struct {
	target, peer *prey
	net, peerNet experiment.Namespace
	link         filter.Link // the target's end
	host         *Host
}

// newNetSleeper starts a process in a network namespace of its own.
func newNetSleeper(t testing.TB) *prey {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace can be made by root only")
	}
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	return &prey{cmd, id}
}

func (p *prey) network(t testing.TB) experiment.Namespace {
	t.Helper()
	ns, err := host.Namespace(p.id.PID, "net")
	must(t, err)
	ns, err = host.NetworkOf(experiment.Target{Net: ns})
	must(t, err)
	return ns
}

func newPairNet(t testing.TB) *pairNet {
	t.Helper()
	w := &pairNet{target: newNetSleeper(t), peer: newNetSleeper(t), host: NewHost(host)}
	w.net, w.peerNet = w.target.network(t), w.peer.network(t)
	for _, ns := range []experiment.Namespace{w.net, w.peerNet} {
		must(t, host.InNetwork(ns, func() error { // no packets but the test's
			err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}))
	}
	w.in(t, func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(w.peer.id.PID)}
		if err := h.LinkAdd(pair); err != nil {
			return err
		}
		w.link = filter.Link{Name: "eth0", Index: pair.Index}
		return linkAddress(h, "eth0", 1)
	})
	must(t, w.inside(w.peerNet, func(h *netlink.Handle) error { return linkAddress(h, "eth0", 2) }))
	w.acquaint(t)
	return w
}

// acquaint tells both ends where the other is, for good: packets that wait for
// an answer to ARP are few, and the others are dropped.
func (w *pairNet) acquaint(t testing.TB) {
	t.Helper()
	hardware := func(ns experiment.Namespace) (mac net.HardwareAddr) {
		must(t, w.inside(ns, func(h *netlink.Handle) error {
			l, err := h.LinkByName("eth0")
			mac = l.Attrs().HardwareAddr
			return err
		}))
		return mac
	}
	for _, end := range []struct {
		ns, other experiment.Namespace
		last      byte
	}{{w.net, w.peerNet, 2}, {w.peerNet, w.net, 1}} {
		must(t, w.inside(end.ns, func(h *netlink.Handle) error {
			l, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			return h.NeighSet(&netlink.Neigh{
				LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
				IP: net.IPv4(10, 9, 0, end.last), HardwareAddr: hardware(end.other),
			})
		}))
	}
}

// linkAddress sets a link up, with an address.
func linkAddress(h *netlink.Handle, name string, last byte) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, last), Mask: net.CIDRMask(24, 32)}}
	return errors.Join(h.AddrAdd(l, a), h.LinkSetUp(l), h.LinkSetUp(lo))
}

func (w *pairNet) inside(ns experiment.Namespace, fn func(h *netlink.Handle) error) error {
	return host.InNetwork(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
}

// in runs fn in the target's namespace.
func (w *pairNet) in(t testing.TB, fn func(h *netlink.Handle) error) {
	t.Helper()
	must(t, w.inside(w.net, fn))
}

// tc runs tc(8) in the target's namespace, and skips the test where there is
// none, or this kernel has not what it asks for.
func (w *pairNet) tc(t testing.TB, args ...string) string {
	t.Helper()
	tc, err := exec.LookPath("tc")
	if err != nil {
		if tc, err = exec.LookPath("/sbin/tc"); err != nil {
			t.Skip("no tc here")
		}
	}
	var out []byte
	must(t, host.InNetwork(w.net, func() (e error) {
		out, err = exec.Command(tc, args...).CombinedOutput()
		return nil
	}))
	if strings.Contains(string(out), "Specified qdisc") || strings.Contains(string(out), "Unknown qdisc") {
		t.Skipf("tc %s: %s", strings.Join(args, " "), strings.TrimSpace(string(out)))
	}
	if err != nil {
		t.Fatalf("tc %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// state is all that the ops may change in the target's namespace, one line
// each.
func (w *pairNet) state(t testing.TB) string {
	var lines []string
	err := insideNet(w.host, w.net, func(c *tcConn) error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		links, err := h.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			a := l.Attrs()
			lines = append(lines, fmt.Sprintf("link %s %d %s txqueuelen %d alias %q flags %x", a.Name, a.Index, l.Type(), a.TxQLen, a.Alias, a.RawFlags&unix.IFF_UP))
			tree, err := readTree(c, a.Index)
			if err != nil {
				return err
			}
			for _, m := range slices.Concat(tree.qdiscs, tree.classes, tree.filters) {
				lines = append(lines, fmt.Sprintf("%s %s parent %s %x", a.Name, &m, handleString(m.Parent), m.encode()))
			}
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return strings.Join(lines, "\n")
}

// plan is PlanQdisc for the target's end.
func (w *pairNet) plan(t testing.TB, p QdiscPlan) experiment.Step {
	t.Helper()
	step, err := PlanQdisc(w.host, w.fill(p))
	must(t, err)
	return step
}

func (w *pairNet) fill(p QdiscPlan) QdiscPlan {
	p.Net, p.Handle = w.net, HandleOf("abcd23", 1)
	if p.Link.Index == 0 {
		p.Link = w.link
	}
	return p
}

// gone ends both processes, and with them the namespaces.
func (w *pairNet) gone() {
	for _, p := range []*prey{w.target, w.peer} {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// needNetem skips a test where the kernel has no netem, for its own reason.
func needNetem(t testing.TB, also ...func(*Host) error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a network namespace can be made by root only")
	}
	for _, can := range append([]func(*Host) error{CanNetem}, also...) {
		if err := can(NewHost(host)); err != nil {
			t.Skip(err)
		}
	}
}

// udpSocket opens a UDP socket in a namespace.
func udpSocket(t testing.TB, ns experiment.Namespace, address string) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	must(t, host.InNetwork(ns, func() error {
		a, err := net.ResolveUDPAddr("udp4", address)
		if err != nil {
			return err
		}
		conn, err = net.ListenUDP("udp4", a)
		return err
	}))
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echo answers each packet that comes to the peer.
func (w *pairNet) echo(t testing.TB) {
	conn := udpSocket(t, w.peerNet, "10.9.0.2:7")
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDP(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDP(b[:n], from)
		}
	}()
}

// roundTrips measures n of them, one after the other.
func (w *pairNet) roundTrips(t testing.TB, n int) []time.Duration {
	t.Helper()
	conn := udpSocket(t, w.net, "10.9.0.1:0")
	to := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 7}
	var list []time.Duration
	for i := range n {
		b := []byte{byte(i), byte(i >> 8)}
		start := time.Now()
		_, err := conn.WriteToUDP(b, to)
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, _, err = conn.ReadFromUDP(make([]byte, 16))
		must(t, err)
		list = append(list, time.Since(start))
	}
	return list
}
