package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The lab is two network namespaces and a veth pair between them. All of it is
// gone when this process is: nothing is made in the host's own namespace.
//
//	target                    far
//	bench0 198.18.0.1 ──────▶ bench1 198.18.0.2, 198.18.0.3
//	       the fault is here
//
// 198.18.0.0/15 is kept for benchmarks (RFC 2544, appendix C.2.2).
const (
	link    = "bench0"
	farLink = "bench1"
)

var (
	targetAddr = netip.MustParseAddr("198.18.0.1")
	farAddr    = netip.MustParseAddr("198.18.0.2")
	otherAddr  = netip.MustParseAddr("198.18.0.3") // far as well, to match a filter that farAddr doesn't
)

// lab is where packets go to and fro.
type lab struct {
	target, far *space
	held        *exec.Cmd // the process that is the fault's target
	release     io.Closer
}

func newLab() (*lab, error) {
	target, err := newSpace()
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	far, err := newSpace()
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	l := &lab{target: target, far: far}
	if err := l.wire(); err != nil {
		return nil, fmt.Errorf("join the namespaces: %w", err)
	}
	return l, l.hold()
}

// wire joins the namespaces. Neighbours are fixed, so that no ARP request is
// delayed, lost or counted.
func (l *lab) wire() error {
	var near, remote net.HardwareAddr
	err := l.target.do(func() (err error) {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: link}, PeerName: farLink,
			PeerNamespace: netlink.NsFd(int(l.far.ns.Fd())),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		near, err = up(link, targetAddr)
		return err
	})
	if err != nil {
		return err
	}
	err = l.far.do(func() (err error) {
		if remote, err = up(farLink, farAddr, otherAddr); err != nil {
			return err
		}
		return neighbour(farLink, near, targetAddr)
	})
	if err != nil {
		return err
	}
	return l.target.do(func() error { return neighbour(link, remote, farAddr, otherAddr) })
}

// up gives a link its addresses and sets it up, and the loopback too.
func up(name string, addrs ...netip.Addr) (net.HardwareAddr, error) {
	for _, n := range []string{"lo", name} {
		found, err := netlink.LinkByName(n)
		if err != nil {
			return nil, err
		}
		if err := netlink.LinkSetUp(found); err != nil {
			return nil, err
		}
	}
	found, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}}
		if err := netlink.AddrAdd(found, address); err != nil {
			return nil, err
		}
	}
	return found.Attrs().HardwareAddr, nil
}

func neighbour(name string, mac net.HardwareAddr, addrs ...netip.Addr) error {
	found, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		n := &netlink.Neigh{LinkIndex: found.Attrs().Index, State: unix.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
		if err := netlink.NeighSet(n); err != nil {
			return err
		}
	}
	return nil
}

// hold starts the process that is the target: this program again, which waits
// until its standard input ends.
func (l *lab) hold() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l.held = exec.Command(self, "-hold")
	if l.release, err = l.held.StdinPipe(); err != nil {
		return err
	}
	return l.target.do(l.held.Start)
}

// close ends the target; the links go with the namespaces.
func (l *lab) close() error {
	err := errors.Join(l.release.Close(), l.held.Wait())
	close(l.target.work)
	close(l.far.work)
	return errors.Join(err, l.target.ns.Close(), l.far.ns.Close())
}

// space is a network namespace with a thread in it.
type space struct {
	ns   *os.File
	work chan func()
}

func newSpace() (*space, error) {
	s := &space{work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.ns, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
		for f := range s.work {
			f()
		}
	}()
	return s, <-made
}

// do calls f on the namespace's thread: sockets that it opens and processes
// that it starts are in the namespace. f must be short.
func (s *space) do(f func() error) error {
	done := make(chan error)
	s.work <- func() { done <- f() }
	return <-done
}
