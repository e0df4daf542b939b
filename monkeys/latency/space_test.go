package latency

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
)

// space is a network namespace with a process in it, and files of its own.
type space struct {
	experiment.Target
	t   testing.TB
	cmd *exec.Cmd
}

func newSpace(t testing.TB, name string) *space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces can be made by root only")
	}
	s := &space{t: t}
	s.cmd = exec.Command("sleep", "600")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	s.start(name)
	s.do(func() error { // no packets but the test's
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0)
	})
	return s
}

// beside is another target in the same network namespace.
func (s *space) beside(name string) *space {
	s.t.Helper()
	other := &space{t: s.t, cmd: exec.Command("sleep", "600")}
	s.do(func() error { other.start(name); return nil })
	return other
}

func (s *space) start(name string) {
	s.t.Helper()
	must(s.t, s.cmd.Start())
	s.t.Cleanup(s.end)
	target, err := proc.Host().Target(s.cmd.Process.Pid)
	must(s.t, err)
	s.Target = target
	s.Kind, s.Name, s.ID, s.Root = "process", name, target.PIDs[0].Handle(), s.t.TempDir()
}

// end ends the process, and with it the namespace.
func (s *space) end() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// do runs fn in the namespace.
func (s *space) do(fn func() error) {
	s.t.Helper()
	must(s.t, proc.Do(fmt.Sprintf("/proc/%d/ns/net", s.cmd.Process.Pid), fn))
}

// file writes a file of the target's own.
func (s *space) file(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.Root, name)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(s.t, os.WriteFile(path, []byte(text), 0o644))
}

// raise gives a link its hardware address and its addresses, and sets it up,
// and lo too.
func (s *space) raise(name string, last byte, list ...netip.Addr) {
	s.t.Helper()
	s.do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		err = netlink.LinkSetHardwareAddr(link, hardware(last))
		for _, a := range list {
			bits := 24 + 40*(a.BitLen()/128)
			at := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}, Flags: unix.IFA_F_NODAD}
			err = errors.Join(err, netlink.AddrAdd(link, at))
		}
		lo, err2 := netlink.LinkByName("lo")
		if err = errors.Join(err, err2); err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lo), netlink.LinkSetUp(link))
	})
}

func hardware(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }

// knows tells who has which address for good: what waits for an answer to ARP
// is soon dropped.
func (s *space) knows(name string, last byte, list ...netip.Addr) {
	s.t.Helper()
	s.do(func() error {
		link, err := netlink.LinkByName(name)
		for _, a := range list {
			if err != nil {
				return err
			}
			err = netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: hardware(last),
			})
		}
		return err
	})
}
