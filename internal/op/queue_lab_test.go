package op

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/proc"
	_ "github.com/simianhq/simian/internal/stage" // this binary is the queue's helper, too
)

// wire is two network namespaces, near and far, joined by a veth. What is
// tested is done to near.
type wire struct {
	near, far *sleeper
	host      *Host
	index     int // of near's link, eth0
}

// The addresses of a wire.
const (
	nearIP, farIP   = "10.99.0.1", "10.99.0.2"
	nearIP6, farIP6 = "fd99::1", "fd99::2"
)

// sleeper is a process in a network namespace of its own.
type sleeper struct {
	cmd *exec.Cmd
	id  experiment.ProcessID
	net experiment.Namespace
}

func (s *sleeper) path() string { return fmt.Sprintf("/proc/%d/ns/net", s.cmd.Process.Pid) }

func (s *sleeper) end() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func newSleeper(t testing.TB) *sleeper {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); errors.Is(err, os.ErrPermission) {
		t.Skip("a network namespace can be made by root only")
	} else {
		must(t, err)
	}
	s := &sleeper{cmd: cmd}
	t.Cleanup(s.end)
	id, err := host.Identify(cmd.Process.Pid)
	must(t, err)
	s.id = id
	ns, err := host.Namespace(cmd.Process.Pid, "net")
	must(t, err)
	s.net, err = host.NetworkOf(experiment.Target{Name: "sleep", Net: ns})
	must(t, err)
	return s
}

func newWire(t testing.TB) *wire {
	t.Helper()
	w := &wire{near: newSleeper(t), far: newSleeper(t), host: NewHost(proc.Host())}
	must(t, proc.Do(w.near.path(), func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "eth0"
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(w.far.cmd.Process.Pid)})
		if err != nil {
			return err
		}
		w.index, err = setUp("eth0", nearIP+"/24", nearIP6+"/64")
		return err
	}))
	must(t, proc.Do(w.far.path(), func() error {
		_, err := setUp("eth0", farIP+"/24", farIP6+"/64")
		return err
	}))
	return w
}

func setUp(name string, addresses ...string) (int, error) {
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0)
	for _, n := range []string{"lo", name} {
		link, err := netlink.LinkByName(n)
		if err != nil {
			return 0, err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return 0, err
		}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return 0, err
		}
		a.Flags |= unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return 0, err
		}
	}
	return link.Attrs().Index, nil
}

// match is all of the wire in one direction, or both.
func (w *wire) match(d filter.Direction) filter.Match {
	return filter.Match{Links: []filter.Link{{Name: "eth0", Index: w.index}}, Egress: d.Egress(), Ingress: d.Ingress()}
}

var queueNumber atomic.Int32

// queue returns the op that impairs near's link.
func (w *wire) queue(m filter.Match, cfg impair.Config) *Queue {
	run := experiment.RunID("t" + strconv.FormatInt(int64(os.Getpid()%(36*36*36*36)), 36))
	return NewQueue(w.host, w.near.net, run, int(queueNumber.Add(1)), m, cfg, 64<<20, 0x1234_5678_9abc_def0)
}

// apply starts a queue, and ends it when the test does.
func (w *wire) apply(t testing.TB, q *Queue) *Queue {
	t.Helper()
	if err := q.Apply(context.Background()); errors.Is(err, experiment.ErrUnsupported) {
		t.Skip(err)
	} else {
		must(t, err)
	}
	t.Cleanup(func() {
		if err := q.Gone().Apply(context.Background()); err != nil && !errors.Is(err, experiment.ErrGone) {
			t.Error(err)
		}
	})
	return q
}

// socket opens a socket in a namespace.
func (s *sleeper) socket(t testing.TB, domain, kind, protocol int) int {
	t.Helper()
	fd := -1
	must(t, proc.Do(s.path(), func() (err error) {
		fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
		return err
	}))
	return fd
}

// pinger measures round trips by ICMP: the far kernel answers.
type pinger struct {
	fd, v6 int
	to     unix.Sockaddr
	seq    uint16
}

func (w *wire) pinger(t testing.TB, address string) *pinger {
	t.Helper()
	ip := net.ParseIP(address)
	p := &pinger{}
	if v4 := ip.To4(); v4 != nil {
		p.fd = w.near.socket(t, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		p.to = &unix.SockaddrInet4{Addr: [4]byte(v4)}
	} else {
		p.fd, p.v6 = w.near.socket(t, unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6), 1
		p.to = &unix.SockaddrInet6{Addr: [16]byte(ip)}
	}
	t.Cleanup(func() { unix.Close(p.fd) })
	must(t, unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	timeout := unix.NsecToTimeval(int64(2 * time.Second))
	must(t, unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	return p
}

// arrived is when the kernel took a packet in: how long the process that waits
// for it takes to wake is no part of a round trip (ping(8) does the same).
func arrived(control []byte) time.Time {
	list, _ := unix.ParseSocketControlMessage(control)
	for _, c := range list {
		if c.Header.Type == unix.SCM_TIMESTAMPNS && len(c.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(c.Data)), int64(binary.NativeEndian.Uint64(c.Data[8:])))
		}
	}
	return time.Now()
}

// ping returns a round trip, or an error where no answer comes in 2 s.
func (p *pinger) ping() (time.Duration, error) {
	p.seq++
	echo := [64]byte{0: 8}
	if p.v6 == 1 {
		echo[0] = 128 // the kernel adds ICMPv6's checksum
	}
	binary.BigEndian.PutUint16(echo[6:], p.seq)
	if p.v6 == 0 {
		binary.BigEndian.PutUint16(echo[2:], ^(8<<8 + p.seq))
	}
	start := time.Now()
	if err := unix.Sendto(p.fd, echo[:], 0, p.to); err != nil {
		return 0, err
	}
	b, control := make([]byte, 256), make([]byte, 64)
	for {
		n, nc, _, _, err := unix.Recvmsg(p.fd, b, control, 0)
		took := arrived(control[:nc]).Sub(start.Round(0))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		reply := b[:n]
		if p.v6 == 0 {
			reply = b[20:n]
		}
		if (reply[0] == 0 && p.v6 == 0 || reply[0] == 129) && binary.BigEndian.Uint16(reply[6:]) == p.seq {
			return took, nil
		}
	}
}

// pings returns n round trips, sorted, with a pause between them.
func (p *pinger) pings(t testing.TB, n int, pause time.Duration) []time.Duration {
	t.Helper()
	var list []time.Duration
	for range n {
		d, err := p.ping()
		must(t, err)
		list = append(list, d)
		time.Sleep(pause)
	}
	slices.Sort(list)
	return list
}

func mean(list []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range list {
		sum += d
	}
	return sum / time.Duration(len(list))
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(int(p*float64(len(sorted))), len(sorted)-1)]
}
