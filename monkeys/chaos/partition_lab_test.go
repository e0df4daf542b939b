package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/gauge"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// node is a network namespace with a process in it.
type node struct {
	experiment.Target
	t   testing.TB
	cmd *exec.Cmd
}

func newNode(t testing.TB, name string) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces can be made by root only")
	}
	n := &node{t: t, cmd: exec.Command("sleep", "600")}
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	n.start(name)
	n.do(func() error { // addresses serve at once, and everybody is told who is to be told
		return errors.Join(os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0),
			os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0), os.WriteFile("/proc/sys/net/ipv6/icmp/ratelimit", []byte("0"), 0))
	})
	n.raise("lo") // first of all: package net asks there, once, for what it has of IPv6
	return n
}

// beside is another target in the same network namespace.
func (n *node) beside(name string) *node {
	n.t.Helper()
	other := &node{t: n.t, cmd: exec.Command("sleep", "600")}
	n.do(func() error { other.start(name); return nil })
	return other
}

func (n *node) start(name string) {
	n.t.Helper()
	must(n.t, n.cmd.Start())
	n.t.Cleanup(n.end)
	target, err := host.Target(n.cmd.Process.Pid)
	must(n.t, err)
	target.Kind, target.Name, target.ID = "process", name, target.PIDs[0].Handle()
	n.Target = target
}

func (n *node) end() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

func (n *node) do(fn func() error) {
	n.t.Helper()
	must(n.t, proc.Do(fmt.Sprintf("/proc/%d/ns/net", n.cmd.Process.Pid), fn))
}

// raise gives a link addresses and sets it up.
func (n *node) raise(name string, addresses ...string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(name)
		for _, text := range addresses {
			at, bad := netlink.ParseAddr(text)
			if err = errors.Join(err, bad); err != nil {
				return err
			}
			at.Flags = unix.IFA_F_NODAD
			err = netlink.AddrAdd(link, at)
		}
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
}

// net3 is a target with two neighbours, each on a link of its own.
//
//	db 10.83.0.1 fd83::1 ── eth0 .2 ::2 web eth1 .2 ::2 ── 10.84.0.1 fd84::1 cache
type net3 struct {
	t              testing.TB
	web, db, cache *node
	host           *op.Host
	peers          []experiment.Target // what the selector peer finds
}

func newNet3(t testing.TB) *net3 { return newNet3For(t, op.NewHost(host)) }

func newNet3For(t testing.TB, h *op.Host) *net3 {
	t.Helper()
	l := &net3{t: t, web: newNode(t, "web"), db: newNode(t, "db"), cache: newNode(t, "cache"), host: h}
	l.peers = []experiment.Target{l.db.Target}
	for i, peer := range []*node{l.db, l.cache} {
		l.web.do(func() error {
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.Index = fmt.Sprint("eth", i), 7+i
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(peer.cmd.Process.Pid)})
		})
		l.web.raise(fmt.Sprint("eth", i), fmt.Sprintf("10.8%d.0.2/24", 3+i), fmt.Sprintf("fd8%d::2/64", 3+i))
		peer.raise("eth0", fmt.Sprintf("10.8%d.0.1/24", 3+i), fmt.Sprintf("fd8%d::1/64", 3+i))
	}
	for _, n := range []*node{l.web, l.db, l.cache} {
		n.serve()
	}
	for _, a := range []string{"10.83.0.1", "10.84.0.1", "fd83::1", "fd84::1"} {
		await(t, a, func() bool {
			return l.web.talk("udp", a, 200*time.Millisecond) == nil && l.web.talk("icmp", a, 200*time.Millisecond) == nil
		})
	}
	return l
}

// serve gives back what comes to port 7001, by UDP and TCP.
func (n *node) serve() {
	n.t.Helper()
	n.do(func() error {
		udp, err := net.ListenPacket("udp", ":7001")
		if err != nil {
			return err
		}
		n.t.Cleanup(func() { _ = udp.Close() })
		go func() {
			for b := make([]byte, 64); ; {
				size, from, err := udp.ReadFrom(b)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err == nil {
					_, _ = udp.WriteTo(b[:size], from)
				}
			}
		}()
		tcp, err := net.Listen("tcp", ":7001")
		if err == nil {
			n.t.Cleanup(func() { _ = tcp.Close() })
			go echoes(tcp)
		}
		return err
	})
}

func echoes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 64)
			for size, err := c.Read(b); err == nil; size, err = c.Read(b) {
				_, _ = c.Write(b[:size])
			}
		}()
	}
}

// dial connects from the node.
func (n *node) dial(network, to string, within time.Duration) (conn net.Conn, err error) {
	at := netip.AddrPortFrom(netip.MustParseAddr(to), 7001).String()
	err = proc.Do(fmt.Sprintf("/proc/%d/ns/net", n.cmd.Process.Pid), func() (err error) {
		conn, err = net.DialTimeout(network, at, within)
		return err
	})
	return conn, err
}

// talk sends something and wants it back: an error says that it did not come,
// and whether anybody said so.
func (n *node) talk(kind, to string, within time.Duration) error {
	if kind == "icmp" {
		ctx, cancel := context.WithTimeout(n.t.Context(), within)
		defer cancel()
		_, err := gauge.Gauge{Net: n.Net, Addr: netip.MustParseAddr(to)}.Once(ctx, host)
		return err
	}
	conn, err := n.dial(kind, to, within)
	if err != nil {
		return err
	}
	defer conn.Close()
	return converse(conn, within)
}

func converse(conn net.Conn, within time.Duration) error {
	_ = conn.SetDeadline(time.Now().Add(within))
	b := []byte("hello")
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err := conn.Read(b)
	return err
}

// told tells whether an error came from somebody, rather than of waiting.
func told(err error) bool {
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout")
}

// netSnapshot is all of a target's network.
func netSnapshot(t experiment.Target) string {
	seen, err := proc.System{FS: host}.Observe(context.Background(), t)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, o := range seen {
		if strings.HasPrefix(o.Object, "net:") {
			lines = append(lines, o.Lines...)
		}
	}
	return strings.Join(lines, "\n")
}

// neighbours is a selector that finds what a test says.
type neighbours struct {
	Name string `json:"name,omitempty"`

	list *[]experiment.Target
}

// Select implements experiment.Selector.
func (s *neighbours) Select(context.Context) ([]experiment.Target, error) { return *s.list, nil }

// readPartition reads a fault's fields as a file has them.
func readPartition(h *op.Host, peers *[]experiment.Target, fields string) (*Partition, error) {
	l := experiment.Loader{
		Faults: experiment.Catalog[experiment.Fault]{"partition": partitions(h)},
		Targets: experiment.Catalog[experiment.Selector]{
			"peer": func() experiment.Selector { return &neighbours{list: peers} },
		},
	}
	e, err := l.Load("test.yaml", fmt.Appendf(nil, `apiVersion: %s
kind: %s
metadata: {name: test}
spec:
  method:
    - {fault: {type: partition, %s}, target: {type: peer}, for: 10s}
`, experiment.APIVersion, experiment.Kind, fields), nil)
	if err != nil {
		return nil, err
	}
	return e.Spec.Method[0].Fault.(*Partition), nil
}

func (l *net3) partition(fields string) *Partition {
	l.t.Helper()
	p, err := readPartition(l.host, &l.peers, fields)
	must(l.t, err)
	return p
}

// strike plans and applies.
func (l *net3) strike(fields string, targets ...experiment.Target) (steps []experiment.Step) {
	l.t.Helper()
	p := l.partition(fields)
	for _, target := range targets {
		more, err := p.Plan(l.t.Context(), "abcd23", target)
		must(l.t, err)
		steps = append(steps, more...)
	}
	l.t.Cleanup(func() { takeBack(l.t, steps) })
	for _, s := range steps {
		must(l.t, s.Do.Apply(l.t.Context()))
	}
	return steps
}

func takeBack(t testing.TB, steps []experiment.Step) {
	t.Helper()
	for _, s := range slices.Backward(steps) {
		if err := s.Undo.Apply(context.Background()); err != nil && !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v", s.Undo, err)
		}
	}
}

// heal takes steps back, twice, and wants a target to be as before.
func heal(t testing.TB, steps []experiment.Step, target experiment.Target, before string) {
	t.Helper()
	for range 2 {
		takeBack(t, steps)
	}
	var diff string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if diff = cmp.Diff(before, netSnapshot(target)); diff == "" {
			return
		}
	}
	t.Errorf("the target's network is not as it was (-before +after)\n%s", diff)
}
