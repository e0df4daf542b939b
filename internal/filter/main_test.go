package filter

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// space is a network namespace with a process in it, and a root of its own.
type space struct {
	t testing.TB
	experiment.Target
}

// newSpace makes a namespace in which lo is up.
func newSpace(t testing.TB, name string) *space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are made by root only")
	}
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	target, err := proc.Host().Target(cmd.Process.Pid)
	must(t, err)
	target.Kind, target.Name, target.ID, target.Root = "process", name, "process:"+strconv.Itoa(cmd.Process.Pid), folder(t)
	s := &space{t, target}
	s.up("lo")
	return s
}

// do runs fn in the namespace.
func (s *space) do(fn func() error) {
	s.t.Helper()
	must(s.t, proc.Do(fmt.Sprintf("/proc/%d/ns/net", s.PIDs[0].PID), fn))
}

func (s *space) up(name string) {
	s.t.Helper()
	s.do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	})
}

func (s *space) address(name string, list ...string) {
	s.t.Helper()
	s.do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, text := range list {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, a); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	})
}

func (s *space) setting(path, value string) {
	s.t.Helper()
	s.do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
}

// add makes a link, and sets it up.
func (s *space) add(l netlink.Link) {
	s.t.Helper()
	s.do(func() error { return netlink.LinkAdd(l) })
	s.up(l.Attrs().Name)
}

// join connects two namespaces by a veth, called name at both ends, without
// IPv6.
func join(a, b *space, name string) {
	a.t.Helper()
	for _, s := range []*space{a, b} {
		s.setting("ipv6/conf/default/disable_ipv6", "1")
	}
	a.add(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name, PeerNamespace: netlink.NsPid(b.PIDs[0].PID),
	})
	b.up(name)
}

// allowIPv6 gives a link a link-local address.
func (s *space) allowIPv6(name string) {
	s.t.Helper()
	s.setting("ipv6/conf/"+name+"/accept_dad", "0")
	s.setting("ipv6/conf/"+name+"/disable_ipv6", "0")
	for end := time.Now().Add(10 * time.Second); !s.hasIPv6(name); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s gets no IPv6 address", name)
		}
	}
}

func (s *space) hasIPv6(name string) bool {
	links, err := proc.Host().Links(s.Net)
	must(s.t, err)
	return slices.ContainsFunc(links, func(l proc.Link) bool { return l.Name == name && l.IPv6() })
}

// listen opens a socket of each kind in the namespace.
func (s *space) listen(at netip.AddrPort) (udp net.PacketConn, tcp net.Listener) {
	s.t.Helper()
	s.do(func() (err error) {
		if udp, err = net.ListenPacket("udp", at.String()); err == nil {
			tcp, err = net.Listen("tcp", at.String())
		}
		return err
	})
	return udp, tcp
}
