package labnet

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// udpIdle is how long a sender's socket in the lab is kept when nothing is
	// sent either way.
	udpIdle = 60 * time.Second
	// maxSenders bounds the sockets in the lab of one published UDP port.
	maxSenders = 1024
	maxPacket  = 65535 // bytes
)

// join copies between two connections until both directions have ended. The
// kernel splices: nothing passes through this process's memory (io.Copy of
// *net.TCPConn, splice(2)).
func join(ctx context.Context, a, b *net.TCPConn) {
	broken := func() { reset(a); reset(b) }
	defer context.AfterFunc(ctx, broken)()
	copying := func(to, from *net.TCPConn) {
		if _, err := io.Copy(to, from); err != nil {
			broken() // who was reset shall not seem to have ended well
			return
		}
		_ = to.CloseWrite()
	}
	var both sync.WaitGroup
	both.Go(func() { copying(a, b) })
	both.Go(func() { copying(b, a) })
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

// reset closes a connection so that the other side sees that it was broken off
// (SO_LINGER of 0, socket(7)).
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// udpRelay is a published UDP port.
type udpRelay struct {
	*Published
	outer   *net.UDPConn
	ctx     context.Context // of the port: packets come without one
	buffers sync.Pool       // of *[maxPacket]byte: who only waits needs none

	mu      sync.Mutex
	senders map[netip.AddrPort]*sender
}

// sender is one who sends to a published UDP port.
type sender struct {
	address netip.AddrPort
	inner   *net.UDPConn // the socket in the lab
	raw     syscall.RawConn
	used    time.Time
}

func (s *sender) touch() {
	s.used = time.Now()
	_ = s.inner.SetReadDeadline(s.used.Add(udpIdle))
}

func (p *Published) startUDP(ctx context.Context, at netip.AddrPort) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	p.address = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	r := &udpRelay{Published: p, outer: conn, ctx: ctx, senders: map[netip.AddrPort]*sender{}}
	r.buffers.New = func() any { return new([maxPacket]byte) }
	context.AfterFunc(ctx, r.end)
	p.serving.Go(r.read)
	return nil
}

// end closes all sockets; who waits for a packet returns.
func (r *udpRelay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.outer.Close()
	for _, s := range r.senders {
		_ = s.inner.Close()
	}
}

func (r *udpRelay) read() {
	packet := make([]byte, maxPacket)
	for {
		n, from, err := r.outer.ReadFromUDPAddrPort(packet)
		if r.ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if s := r.sender(from); s != nil {
			_, _ = s.inner.Write(packet[:n]) // as lost as any packet
		}
	}
}

// sender returns the socket of one who sends; nil where there is nobody to
// send to.
func (r *udpRelay) sender(from netip.AddrPort) *sender {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.senders[from]
	if s == nil {
		s = r.add(from)
	}
	if s != nil {
		s.touch()
	}
	return s
}

// add opens a socket in the lab. Where there are too many, the one that was
// idle for longest makes room.
func (r *udpRelay) add(from netip.AddrPort) *sender {
	if r.ctx.Err() != nil {
		return nil
	}
	conn, err := r.dial(r.ctx, "udp") // does not wait: UDP connects at once
	if err != nil {
		return nil
	}
	s := &sender{address: from, inner: conn.(*net.UDPConn)}
	if s.raw, err = s.inner.SyscallConn(); err != nil {
		_ = conn.Close()
		return nil
	}
	if len(r.senders) >= maxSenders {
		r.drop(slices.MinFunc(slices.Collect(maps.Values(r.senders)),
			func(a, b *sender) int { return a.used.Compare(b.used) }))
	}
	r.senders[from] = s
	r.serving.Go(func() { r.back(s) })
	return s
}

// drop forgets a sender, unless another socket has its place already.
func (r *udpRelay) drop(s *sender) {
	if r.senders[s.address] == s {
		delete(r.senders, s.address)
	}
	_ = s.inner.Close()
}

// back passes on what is answered to a sender, until its packets are refused
// (the container has no such port any more), or nothing came for long.
func (r *udpRelay) back(s *sender) {
	for r.backOne(s) == nil {
		r.mu.Lock()
		s.touch()
		r.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(s)
}

func (r *udpRelay) backOne(s *sender) error {
	var failure error
	err := s.raw.Read(func(fd uintptr) bool {
		packet := r.buffers.Get().(*[maxPacket]byte)
		defer r.buffers.Put(packet)
		n, err := unix.Read(int(fd), packet[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if failure = err; err == nil {
			_, _ = r.outer.WriteToUDPAddrPort(packet[:n], s.address)
		}
		return true
	})
	return errors.Join(err, failure)
}
