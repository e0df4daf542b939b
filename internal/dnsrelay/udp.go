package dnsrelay

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// maxPacket is the largest that UDP carries, in bytes.
const maxPacket = 1 << 16

// ServeUDP serves what comes to a socket, until that is closed.
func (r *Relay) ServeUDP(conn *net.UDPConn) error {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	b := make([]byte, maxPacket)
	for {
		n, remote, err := conn.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // of what was sent before: nobody is there any more
			continue
		}
		f, answer := r.judge(b[:n], false)
		switch f {
		case tell:
			_, _ = conn.WriteToUDPAddrPort(answer, remote)
		case pass, hold:
			if r.enter() {
				lookup := bytes.Clone(b[:n])
				go func() {
					defer r.leave()
					r.wait(f)
					r.passUDP(conn, local, remote, lookup)
				}()
			}
		}
	}
}

// passUDP gives a packet to the server that was meant, and back what that
// answers. An asker learns at once where nobody is there, though as of a
// server that failed.
func (r *Relay) passUDP(conn *net.UDPConn, local, remote netip.AddrPort, lookup []byte) {
	server, err := r.dial("udp", local, remote)
	if err == nil {
		defer server.Close()
		r.note(func(s *Stats) { s.Passed++ })
		err = r.exchange(conn, remote, server, lookup)
	}
	switch {
	case err == nil:
		r.note(func(s *Stats) { s.Answered++ })
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.note(func(s *Stats) { s.Silent++ })
	default:
		r.note(func(s *Stats) { s.Failed++ })
		if q, ok := parse(lookup); ok {
			if answer, err := q.reply(dnsmessage.RCodeServerFailure); err == nil {
				_, _ = conn.WriteToUDPAddrPort(answer, remote)
			}
		}
	}
}

// exchange sends a lookup, and gives back all that comes until one packet is
// its answer: whether another is a forgery is for the asker to tell.
func (r *Relay) exchange(conn *net.UDPConn, remote netip.AddrPort, server net.Conn, lookup []byte) error {
	_ = server.SetDeadline(time.Now().Add(serverTime))
	if _, err := server.Write(lookup); err != nil {
		return err
	}
	b := make([]byte, maxPacket)
	for {
		n, err := server.Read(b)
		if err != nil {
			return err
		}
		_, _ = conn.WriteToUDPAddrPort(b[:n], remote)
		if settles(lookup, b[:n]) {
			return nil
		}
	}
}
