package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/proc"
)

// start starts the program as a plain process of this host.
func (s *subject) start(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"data", "scratch"} {
		must(t, os.Mkdir(filepath.Join(s.dir, dir), 0o755))
	}
	scratch := filepath.Join(s.dir, "scratch")
	must(t, unix.Mount("tmpfs", scratch, "tmpfs", 0, "size=16m"))
	t.Cleanup(func() { _ = unix.Unmount(scratch, unix.MNT_DETACH) })
	file, err := program()
	must(t, err)
	s.words = map[string]string{"$DATA": filepath.Join(s.dir, "data"), "$SCRATCH": scratch, "$SUBJECT": file}
	var pid int
	if s.kind == networked {
		pid = s.startNetworked(t)
	} else {
		pid = s.startHere(t)
	}
	s.pick = fmt.Sprintf("type: process, pid: %d", pid)
	if s.kind != process {
		s.seclude(t, pid)
	}
	s.answers(t)
	s.feels(t, "at first", dials("udp"), "answered") // a link takes a moment
}

// startHere starts it in this host's network, where it is its own peer.
func (s *subject) startHere(t testing.TB) int {
	port, web := freePort(t), freePort(t)
	s.words["$PEER"], s.words["$PORT"], s.words["$WEB"] = "127.0.0.1", port, web
	pid := run(t, s.dir, "127.0.0.1:"+port, "127.0.0.1:"+web, false)
	s.words["$TO"] = fmt.Sprintf("type: process, pid: %d", pid)
	return pid
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// The ends of a wire between two subjects, each in a network namespace.
const (
	nearIP, farIP = "10.79.0.2", "10.79.0.1"
)

// startNetworked starts it in a network namespace, and a peer in another.
func (s *subject) startNetworked(t testing.TB) int {
	t.Helper()
	s.peer = filepath.Join(s.dir, "peer")
	must(t, os.Mkdir(s.peer, 0o755))
	far := run(t, s.peer, ":7001", ":7002", true)
	near := run(t, s.dir, ":7001", ":7002", true)
	for _, pid := range []int{far, near} { // nothing happens but what the test does
		inNet(t, pid, func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0)
		})
	}
	inNet(t, near, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(far)})
	})
	inNet(t, near, func() error { return raise("eth0", nearIP) })
	inNet(t, far, func() error { return raise("eth0", farIP) })
	s.words["$PEER"], s.words["$SELF"], s.words["$PORT"], s.words["$WEB"] = farIP, nearIP, "7001", "7002"
	s.words["$TO"] = fmt.Sprintf("type: process, pid: %d", far)
	return near
}

func inNet(t testing.TB, pid int, fn func() error) {
	t.Helper()
	must(t, proc.Do(fmt.Sprintf("/proc/%d/ns/net", pid), fn))
}

// raise gives a link an address, and sets it and lo up.
func raise(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	at := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(24, 32)}}
	return errors.Join(netlink.AddrAdd(link, at), netlink.LinkSetUp(lo), netlink.LinkSetUp(link))
}

// run starts the program, which ends with this process at the latest.
func run(t testing.TB, dir, address, web string, apart bool) (pid int) {
	t.Helper()
	file, err := program()
	must(t, err)
	c := exec.Command(file, "serve", dir, address, web)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if apart {
		c.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
	}
	c.Stderr = os.Stderr
	_, err = c.StdinPipe()
	must(t, err)
	must(t, c.Start())
	over := make(chan struct{})
	go func() { reap(c); close(over) }() // at once: who has ended is gone
	t.Cleanup(func() {
		_ = c.Process.Signal(unix.SIGCONT)
		_ = c.Process.Kill()
		select {
		case <-over:
		case <-time.After(patience):
			t.Error("a raw subject does not end")
		}
	})
	return c.Process.Pid
}

var cgroups atomic.Int64

// seclude moves the process into a cgroup of its own, with limits, in every
// hierarchy.
func (s *subject) seclude(t testing.TB, pid int) {
	t.Helper()
	name := fmt.Sprintf("simian-faults%d.%d", os.Getpid(), cgroups.Add(1))
	_, err := box.NewCgroup(host, name, limits)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(box.KillCgroup(ctx, host, name), box.RemoveCgroup(ctx, host, name)); err != nil {
			t.Error(err)
		}
	})
	list, err := host.CgroupHierarchies()
	must(t, err)
	for _, h := range list {
		must(t, os.WriteFile(filepath.Join(h.Dir, name, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
	}
}

// reap waits for a child's end. It waits by a pidfd: wait4(2) would also return
// when another thread of this process traces the child, as a fault may.
func reap(c *exec.Cmd) {
	fd, err := unix.PidfdOpen(c.Process.Pid, 0)
	for err == nil {
		var n int
		if n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); n > 0 {
			break
		}
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
	}
	_ = unix.Close(fd)
	_ = c.Wait()
}
