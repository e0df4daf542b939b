package gauge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// echo sends ICMP echo requests and hands each answer to who waits for it.
type echo struct {
	file  *os.File
	conn  syscall.RawConn
	raw   bool // else a ping socket of icmp(7), which keeps its own identifier
	six   bool
	id    uint16
	ended chan struct{} // closed when nothing is read any more

	mu      sync.Mutex
	seq     uint16
	waiting map[uint16]chan<- time.Time // of when the answer came, by sequence number
}

// openEcho opens a socket to addr in the network namespace of this thread: a
// raw one, or where that is not allowed, a ping socket.
func openEcho(addr unix.Sockaddr, six bool) (*echo, error) {
	e, err := newEcho(addr, six, true)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return newEcho(addr, six, false)
	}
	return e, err
}

func newEcho(addr unix.Sockaddr, six, raw bool) (*echo, error) {
	fd, err := echoSocket(six, raw)
	if err != nil {
		return nil, fmt.Errorf("open a socket for ICMP: %w", err)
	}
	if err := prepareEcho(fd, addr, six, raw); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	e := &echo{
		file: os.NewFile(uintptr(fd), "icmp"), raw: raw, six: six, id: uint16(rand.Uint32()),
		ended: make(chan struct{}), waiting: map[uint16]chan<- time.Time{},
	}
	if e.conn, err = e.file.SyscallConn(); err != nil {
		_ = e.file.Close()
		return nil, fmt.Errorf("wait on a socket for ICMP: %w", err)
	}
	go e.read()
	return e, nil
}

func echoSocket(six, raw bool) (fd int, err error) {
	family, kind, protocol := unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP
	if six {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	if raw {
		kind = unix.SOCK_RAW
	}
	return unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
}

// prepareEcho has the kernel stamp what comes in with the time, and leave out
// all but answers of the far end.
func prepareEcho(fd int, addr unix.Sockaddr, six, raw bool) (err error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("ask for times of arrival: %w", err)
	}
	switch {
	case raw && six:
		var filter unix.ICMPv6Filter // a bit set keeps a type out
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		reply := ipv6.ICMPTypeEchoReply
		filter.Data[reply/32] &^= 1 << (reply % 32)
		err = unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &filter)
	case raw:
		const solRaw, icmpFilter = 255, 1 // linux/icmp.h; it is a set of types kept out
		err = unix.SetsockoptInt(fd, solRaw, icmpFilter, int(^uint32(1<<ipv4.ICMPTypeEchoReply)))
	}
	if err != nil {
		return fmt.Errorf("filter ICMP: %w", err)
	}
	if err := unix.Connect(fd, addr); err != nil {
		return fmt.Errorf("find a way: %w", err)
	}
	return nil
}

// close ends what waits and reads.
func (e *echo) close() error {
	err := e.file.Close()
	<-e.ended
	return err
}

// ping sends a request, and waits for the answer.
func (e *echo) ping(ctx context.Context) (time.Duration, error) {
	seq, came := e.expect()
	defer e.forget(seq)
	packet, err := e.request(seq)
	if err != nil {
		return 0, err
	}
	sent, err := e.send(packet)
	if err != nil {
		return 0, err
	}
	select {
	case at := <-came:
		return at.Sub(sent), nil
	case <-e.ended:
		return 0, os.ErrClosed
	case <-ctx.Done():
		return 0, fmt.Errorf("no answer: %w", ctx.Err())
	}
}

// expect makes a sequence number, and a place where the time of its answer
// comes.
func (e *echo) expect() (uint16, <-chan time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq++
	came := make(chan time.Time, 1)
	e.waiting[e.seq] = came
	return e.seq, came
}

func (e *echo) forget(seq uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.waiting, seq)
}

// request makes an echo request as large as ping(8)'s. The kernel fills in the
// checksum of ICMPv6, and a ping socket its identifier.
func (e *echo) request(seq uint16) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(e.id), Seq: int(seq), Data: make([]byte, 56)}}
	if e.six {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}

// send sends packet, and tells when. A send may tell of an error that an
// earlier packet met: that one is for nobody, and the packet goes once more.
func (e *echo) send(packet []byte) (sent time.Time, err error) {
	var failed error
	for range 2 {
		err = e.conn.Write(func(fd uintptr) bool {
			sent = time.Now()
			_, failed = unix.SendmsgN(int(fd), packet, nil, nil, 0)
			return failed != unix.EAGAIN
		})
		if failed != unix.EHOSTUNREACH && failed != unix.ENETUNREACH && failed != unix.ECONNREFUSED {
			break
		}
	}
	if err = errors.Join(err, failed); err != nil {
		return sent, fmt.Errorf("send: %w", err)
	}
	return sent, nil
}

// read hands out answers until the socket is closed.
func (e *echo) read() {
	defer close(e.ended)
	packet, control := make([]byte, 1500), make([]byte, 128)
	for {
		var n, nc int
		var failed error
		err := e.conn.Read(func(fd uintptr) bool {
			n, nc, _, _, failed = unix.Recvmsg(int(fd), packet, control, 0)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
		switch {
		case err != nil:
			return
		case failed == nil: // else an error that a packet met: nobody answers that one
			e.answer(packet[:n], arrival(control[:nc]))
		}
	}
}

// answer tells who waits for packet when it came.
func (e *echo) answer(packet []byte, at time.Time) {
	seq, ok := e.parse(packet)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if came, waits := e.waiting[seq]; waits {
		came <- at
		delete(e.waiting, seq) // of a packet that comes twice the first counts
	}
}

// parse returns the sequence number of an answer that is meant for e.
func (e *echo) parse(packet []byte) (uint16, bool) {
	if e.raw && !e.six { // its IP header comes first
		if len(packet) == 0 || len(packet) < int(packet[0]&15)*4 {
			return 0, false
		}
		packet = packet[int(packet[0]&15)*4:]
	}
	reply, protocol := icmp.Type(ipv4.ICMPTypeEchoReply), unix.IPPROTO_ICMP
	if e.six {
		reply, protocol = ipv6.ICMPTypeEchoReply, unix.IPPROTO_ICMPV6
	}
	m, err := icmp.ParseMessage(protocol, packet)
	if err != nil || m.Type != reply {
		return 0, false
	}
	body, ok := m.Body.(*icmp.Echo)
	if !ok || e.raw && body.ID != int(e.id) {
		return 0, false
	}
	return uint16(body.Seq), true
}

// arrival tells when a packet came that is read now: the kernel's time of it
// says how long it has lain, by the wall clock.
func arrival(control []byte) time.Time {
	now := time.Now()
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return now
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		lain := now.Sub(stamp(m.Data))
		if lain > 0 && lain < patience { // else the clock was set meanwhile
			return now.Add(-lain)
		}
	}
	return now
}

// stamp reads a timespec: two words, seconds and nanoseconds.
func stamp(data []byte) time.Time {
	switch len(data) {
	case 16:
		return time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
	case 8:
		return time.Unix(int64(binary.NativeEndian.Uint32(data)), int64(binary.NativeEndian.Uint32(data[4:])))
	}
	return time.Time{}
}
