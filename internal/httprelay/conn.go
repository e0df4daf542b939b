package httprelay

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"
)

// peeked is a connection of which the first bytes were looked at.
type peeked struct {
	net.Conn
	to netip.AddrPort // where it was to go
	r  *bufio.Reader
}

// Read implements net.Conn.
func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// longestMethod is as many letters as a method may have (RFC 9110 names none,
// but PROPPATCH, UPDATEREDIRECTREF and their like are registered).
const longestMethod = 20

// isHTTP tells whether a connection begins as a request of HTTP/1 does: a word
// in capital letters and a space. HTTP/2's "PRI *" is none.
func (p *peeked) isHTTP() bool {
	for n := 1; n <= longestMethod+1; n++ {
		b, err := p.r.Peek(n)
		if err != nil {
			return false
		}
		c := b[n-1]
		if c == ' ' {
			return n > 1 && !bytes.Equal(b, []byte("PRI "))
		}
		if (c < 'A' || c > 'Z') && c != '-' {
			return false
		}
	}
	return false
}

func closeWrite(c net.Conn) {
	if p, ok := c.(*peeked); ok {
		c = p.Conn
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// sorted is a listener of connections that were looked at.
type sorted struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newSorted(a net.Addr) *sorted {
	return &sorted{address: a, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// hand gives a connection to whoever accepts; false says that nobody does.
func (s *sorted) hand(c net.Conn) bool {
	select {
	case s.conns <- c:
		return true
	case <-s.closed:
		return false
	}
}

// Accept implements net.Listener.
func (s *sorted) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *sorted) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *sorted) Addr() net.Addr { return s.address }

const soOriginalDst = 80 // SO_ORIGINAL_DST of linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST

// OriginalDst asks the kernel where a redirected connection was to go
// (SO_ORIGINAL_DST).
func OriginalDst(c *net.TCPConn) (to netip.AddrPort, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return to, err
	}
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return to, fmt.Errorf("a connection of %T", c.LocalAddr())
	}
	level := uintptr(syscall.SOL_IP)
	if local.IP.To4() == nil {
		level = syscall.SOL_IPV6
	}
	var address syscall.RawSockaddrInet6 // longer than that of IPv4
	size := uint32(unsafe.Sizeof(address))
	bad := raw.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, level, soOriginalDst, uintptr(unsafe.Pointer(&address)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			err = fmt.Errorf("ask where a connection was to go: %w", errno)
		}
	})
	if bad != nil || err != nil {
		return to, fmt.Errorf("%w", firstOf(bad, err))
	}
	port := (*[2]byte)(unsafe.Pointer(&address.Port))
	at := netip.AddrFrom16(address.Addr)
	if level == syscall.SOL_IP {
		at = netip.AddrFrom4((*syscall.RawSockaddrInet4)(unsafe.Pointer(&address)).Addr)
	}
	return netip.AddrPortFrom(at.Unmap(), uint16(port[0])<<8|uint16(port[1])), nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
