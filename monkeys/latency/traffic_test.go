package latency

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/gauge"
	"github.com/simianhq/simian/internal/proc"
)

// answer has s give back whatever comes to ports 7001 and 7002, by UDP and TCP.
func (s *space) answer() {
	s.t.Helper()
	for _, port := range []string{"7001", "7002"} {
		s.do(func() error {
			udp, err := net.ListenPacket("udp", ":"+port)
			if err != nil {
				return err
			}
			s.t.Cleanup(func() { _ = udp.Close() })
			go echo(udp)
			tcp, err := net.Listen("tcp", ":"+port)
			if err == nil {
				s.t.Cleanup(func() { _ = tcp.Close() })
			}
			return err
		})
	}
}

// echo answers as packets come to one that has several addresses: from the one
// they came to.
func echo(c net.PacketConn) {
	p := c.(*net.UDPConn)
	raw, _ := p.SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	b, oob := make([]byte, 2048), make([]byte, 256)
	for {
		n, m, _, from, err := p.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			return
		}
		_, _, _ = p.WriteMsgUDPAddrPort(b[:n], oob[:m], from)
	}
}

// probe is a packet that wants an answer.
type probe struct {
	kind string // udp, tcp or icmp; "" is udp
	to   netip.Addr
	port int
	from int // port; 0 is any
}

func (p probe) String() string {
	if p.kind == "icmp" {
		return fmt.Sprintf("icmp %s", p.to)
	}
	return fmt.Sprintf("%s %s port %d from %d", p.kind, p.to, p.port, p.from)
}

// answers tells whether a probe from the target is answered in time.
func (w *wire) answers(p probe, within time.Duration) bool {
	w.t.Helper()
	_, ok := w.target.ask(p, within)
	return ok
}

// ask sends a probe, and returns how long the answer took.
func (s *space) ask(p probe, within time.Duration) (took time.Duration, ok bool) {
	s.t.Helper()
	if p.kind == "icmp" {
		g := gauge.Gauge{Net: s.Net, Addr: p.to}
		ctx, cancel := context.WithTimeout(s.t.Context(), within)
		defer cancel()
		for {
			took, err := g.Once(ctx, proc.Host()) // for 3 s at the most; on a busy host an echo gets lost, or its answer
			if err == nil || ctx.Err() != nil {
				return took, err == nil
			}
		}
	}
	begun := time.Now()
	conn, err := s.dial(p, within)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	if p.kind == "tcp" {
		return time.Since(begun), true
	}
	begun = time.Now()
	_ = conn.SetDeadline(begun.Add(within))
	b := []byte("hello")
	if _, err = conn.Write(b); err == nil {
		_, err = conn.Read(b)
	}
	return time.Since(begun), err == nil
}

// reuse lets one probe follow another from the same port.
func reuse(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
}

func (s *space) dial(p probe, within time.Duration) (conn net.Conn, err error) {
	network := p.kind
	if network == "" {
		network = "udp"
	}
	d := net.Dialer{Timeout: within, Control: reuse}
	if p.from != 0 {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.Addr{}, uint16(p.from)))
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.Addr{}, uint16(p.from)))
		}
	}
	err = proc.Do(fmt.Sprintf("/proc/%d/ns/net", s.cmd.Process.Pid), func() (err error) {
		conn, err = d.Dial(network, netip.AddrPortFrom(p.to, uint16(p.port)).String())
		return err
	})
	return conn, err
}

// roundTrips measures n of them, one after the other, and returns them sorted.
func (w *wire) roundTrips(n int, at netip.Addr) []time.Duration {
	w.t.Helper()
	conn, err := w.target.dial(probe{to: at, port: 7001}, time.Minute)
	must(w.t, err)
	defer conn.Close()
	list := make([]time.Duration, n)
	for i := range list {
		begun := time.Now()
		_ = conn.SetDeadline(begun.Add(20 * time.Second))
		_, err := conn.Write(binary.BigEndian.AppendUint32(nil, uint32(i)))
		must(w.t, err)
		b := make([]byte, 4)
		for again := true; again; again = binary.BigEndian.Uint32(b) != uint32(i) { // it may come twice
			_, err = conn.Read(b)
			must(w.t, err)
		}
		list[i] = time.Since(begun)
	}
	slices.Sort(list)
	return list
}

// told is a list of times in one line.
func told(list []time.Duration) string {
	var sum, squares float64
	for _, d := range list {
		sum += d.Seconds()
		squares += d.Seconds() * d.Seconds()
	}
	n := float64(len(list))
	mean := sum / n
	sd := math.Sqrt(max(squares/n-mean*mean, 0))
	return fmt.Sprintf("%d round trips of %s to %s, mean %.3f ms, sd %.3f ms",
		len(list), list[0].Round(time.Microsecond), list[len(list)-1].Round(time.Microsecond), mean*1e3, sd*1e3)
}

// flood is n packets with numbers, sent one way, and what came of them.
type flood struct {
	order []uint32        // as they came
	times []time.Duration // when, since the first was sent
}

// arrived returns how many different ones came.
func (f flood) arrived() int { return len(slices.Compact(slices.Sorted(slices.Values(f.order)))) }

// twice returns how many came once more.
func (f flood) twice() int { return len(f.order) - f.arrived() }

// overtook returns how many came before one that had been sent before them.
func (f flood) overtook() (n int) {
	least := uint32(math.MaxUint32)
	for _, i := range slices.Backward(f.order) {
		if i > least {
			n++
		}
		least = min(least, i)
	}
	return n
}

// last returns when the last one came.
func (f flood) last() time.Duration {
	if len(f.times) == 0 {
		return 0
	}
	return f.times[len(f.times)-1]
}

// flood sends n packets with a payload of size bytes from one end to an
// address of the other, and collects until none comes for a while.
func (w *wire) flood(from, to *space, at netip.Addr, n, size int, pause time.Duration) (f flood) {
	w.t.Helper()
	var sink net.PacketConn
	to.do(func() (err error) { sink, err = net.ListenPacket("udp", ":0"); return err })
	raw, err := sink.(*net.UDPConn).SyscallConn()
	must(w.t, err)
	must(w.t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) }))
	must(w.t, err)
	source, err := from.dial(probe{to: at, port: sink.LocalAddr().(*net.UDPAddr).Port}, time.Minute)
	must(w.t, err)
	defer source.Close()
	begun := time.Now()
	var reading sync.WaitGroup
	var came atomic.Int64
	reading.Go(func() {
		for b := make([]byte, 65536); ; {
			got, _, err := sink.ReadFrom(b)
			if err != nil {
				return
			}
			if got >= 4 {
				f.order, f.times = append(f.order, binary.BigEndian.Uint32(b)), append(f.times, time.Since(begun))
				came.Add(1)
			}
		}
	})
	for i := range n {
		_, _ = source.Write(append(binary.BigEndian.AppendUint32(nil, uint32(i)), make([]byte, size-4)...))
		if time.Sleep(pause); pause == 0 && i%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	settle(&came, n)
	_ = sink.Close()
	reading.Wait()
	return f
}

// settle waits until no more come: not for long where as many came as were sent.
func settle(came *atomic.Int64, n int) {
	for was, since := came.Load(), time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if now := came.Load(); now != was {
			was, since = now, time.Now()
		}
		if idle := time.Since(since); idle > 300*time.Millisecond || idle > 60*time.Millisecond && was >= int64(n) {
			return
		}
	}
}

// touched sends all probes at once, and returns those that are not answered. It
// waits long for those that are to be spared, and a while for the others.
func (w *wire) touched(probes []probe, spared func(probe) bool) (lost []probe) {
	w.t.Helper()
	var mu sync.Mutex
	answered := map[probe]bool{}
	var all sync.WaitGroup
	for _, p := range probes {
		wait := 250 * time.Millisecond
		if spared(p) {
			wait = 20 * time.Second
		}
		all.Go(func() {
			_, ok := w.target.ask(p, wait)
			mu.Lock()
			defer mu.Unlock()
			answered[p] = ok
		})
	}
	all.Wait()
	for _, p := range probes {
		if !answered[p] {
			lost = append(lost, p)
		}
	}
	return lost
}
