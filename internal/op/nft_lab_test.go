package op

import (
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// nftLab is two network namespaces with a wire between them:
//
//	target eth0 10.77.0.2 fd77::2 ── 10.77.0.1 fd77::1 peer0 peer
type nftLab struct {
	t            testing.TB
	target, peer *exec.Cmd
	ns           experiment.Namespace
	link         filter.Link
	h            *Host
}

// The addresses of a lab.
const (
	targetIP4, peerIP4 = "10.77.0.2", "10.77.0.1"
	targetIP6, peerIP6 = "fd77::2", "fd77::1"
)

func newNftLab(t testing.TB) *nftLab {
	t.Helper()
	if unix.Geteuid() != 0 {
		t.Skip("network namespaces can be made by root only")
	}
	l := &nftLab{t: t, target: inNewNet(t), peer: inNewNet(t), h: NewHost(host)}
	l.inTarget(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0", PeerNamespace: netlink.NsPid(l.peer.Process.Pid)}
		return netlink.LinkAdd(veth)
	})
	l.inTarget(func() error { return up("eth0", targetIP4+"/24", targetIP6+"/64") })
	l.inPeer(func() error { return up("peer0", peerIP4+"/24", peerIP6+"/64") })
	ns, err := host.Namespace(l.target.Process.Pid, "net")
	must(t, err)
	l.ns, err = host.NetworkOf(experiment.Target{Net: ns})
	must(t, err)
	l.link = filter.Link{Name: "eth0"}
	l.inTarget(func() (err error) { l.link.Index, err = linkIndex("eth0"); return err })
	l.ready(targetIP4, peerIP4)
	return l
}

// newNftLab6 is newNftLab whose IPv6 is ready, too: it takes notice of a new
// link up to a second after it is up.
func newNftLab6(t testing.TB) *nftLab {
	t.Helper()
	l := newNftLab(t)
	l.ready(targetIP6, peerIP6)
	return l
}

// ready waits until both ends know each other.
func (l *nftLab) ready(target, peer string) {
	l.t.Helper()
	from, to := l.udp(l.target, net.JoinHostPort(target, "0")), l.udp(l.peer, net.JoinHostPort(peer, "0"))
	await(l.t, "the wire", func() bool {
		_, _ = from.WriteTo([]byte("hello"), to.LocalAddr())
		_ = to.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, back, err := to.ReadFrom(make([]byte, 16))
		if err == nil {
			_, err = to.WriteTo([]byte("hello"), back)
		}
		return err == nil
	})
	_ = from.Close()
	_ = to.Close()
}

// inNewNet starts a process that does nothing in a network namespace of its own.
func inNewNet(t testing.TB) *exec.Cmd {
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// up gives a link addresses that serve at once, and lo too.
func up(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		parsed.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, parsed); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func inNet(t testing.TB, cmd *exec.Cmd, fn func() error) {
	t.Helper()
	must(t, proc.Do("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/ns/net", fn))
}

func (l *nftLab) inTarget(fn func() error) { l.t.Helper(); inNet(l.t, l.target, fn) }
func (l *nftLab) inPeer(fn func() error)   { l.t.Helper(); inNet(l.t, l.peer, fn) }

// table is a table of the lab's only link.
func (l *nftLab) table(m filter.Match, act TableAct) *Table {
	l.t.Helper()
	m.Links = []filter.Link{l.link}
	table := NewTable(l.h, l.ns, "simian_test_1", m, act)
	must(l.t, CheckNft(table))
	return table
}

// apply makes the table, until the test's end.
func (l *nftLab) apply(table *Table) *Table {
	l.t.Helper()
	must(l.t, table.Apply(l.t.Context()))
	l.t.Cleanup(func() { _ = table.Gone().Apply(l.t.Context()) })
	return table
}

// udp opens a socket at the target or the peer.
func (l *nftLab) udp(at *exec.Cmd, address string) *net.UDPConn {
	l.t.Helper()
	var c *net.UDPConn
	inNet(l.t, at, func() error {
		a, err := net.ResolveUDPAddr("udp", address)
		if err == nil {
			c, err = net.ListenUDP("udp", a)
		}
		return err
	})
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}
