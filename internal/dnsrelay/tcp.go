package dnsrelay

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// ServeTCP serves the connections that come to a listener, until that is
// closed.
func (r *Relay) ServeTCP(l *net.TCPListener) error {
	for {
		conn, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // no descriptor is left for now, or the asker has gone
			time.Sleep(time.Millisecond)
		case !r.enter():
			_ = conn.Close()
		default:
			go func() {
				defer r.leave()
				(&stream{relay: r, asker: conn}).serve()
			}()
		}
	}
}

// stream is a connection of an asker's, and that to the server that was meant,
// from the first lookup on that is passed on. Each message has its length
// before it (RFC 1035, 4.2.2); answers may come in any order (RFC 7766, 7).
type stream struct {
	relay *Relay
	asker *net.TCPConn

	toAsker  sync.Mutex // one message at a time
	toServer sync.Mutex // held while it is dialled, too
	server   net.Conn   // nil before the first
	broken   bool       // it could not be reached, or is gone
	held     sync.WaitGroup
	copying  sync.WaitGroup
}

// serve ends when both sides have said all.
func (s *stream) serve() {
	defer s.asker.Close()
	defer context.AfterFunc(s.relay.ending, func() { _ = s.asker.SetReadDeadline(time.Now()) })()
	for {
		message, err := s.next()
		if err != nil {
			break
		}
		f, answer := s.relay.judge(message[2:], true)
		switch f {
		case tell:
			s.answer(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer)
		case pass:
			s.pass(message)
		case hold:
			s.held.Go(func() {
				s.relay.wait(f)
				s.pass(message)
			})
		}
	}
	s.held.Wait()
	s.finish()
}

// next waits for a message of the asker's, until the relay ends.
func (s *stream) next() ([]byte, error) {
	_ = s.asker.SetReadDeadline(time.Now().Add(idleTime))
	if err := s.relay.ending.Err(); err != nil {
		return nil, err
	}
	return readMessage(s.asker)
}

// finish lets the server say what it has yet to say.
func (s *stream) finish() {
	s.toServer.Lock()
	server, _ := s.server.(*net.TCPConn)
	s.toServer.Unlock()
	if server == nil {
		return
	}
	_ = server.CloseWrite()
	_ = server.SetReadDeadline(time.Now().Add(serverTime))
	s.copying.Wait()
	_ = server.Close()
}

// readMessage returns a message with its length before it.
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	message := append(head[:], make([]byte, binary.BigEndian.Uint16(head[:]))...)
	_, err := io.ReadFull(r, message[2:])
	return message, err
}

// answer gives the asker a message.
func (s *stream) answer(parts ...[]byte) {
	s.toAsker.Lock()
	defer s.toAsker.Unlock()
	_ = s.asker.SetWriteDeadline(time.Now().Add(serverTime))
	buffers := net.Buffers(parts)
	_, _ = buffers.WriteTo(s.asker)
}

// pass gives the server a message.
func (s *stream) pass(message []byte) {
	s.toServer.Lock()
	defer s.toServer.Unlock()
	if s.server == nil && !s.broken {
		s.connect()
	}
	if s.broken {
		_ = s.asker.Close() // as the server did
		return
	}
	s.relay.note(func(s *Stats) { s.Passed++ })
	_ = s.server.SetWriteDeadline(time.Now().Add(serverTime))
	_, err := s.server.Write(message)
	s.broken = err != nil
}

// connect dials the server. The asker learns of it where nobody is there.
func (s *stream) connect() {
	local, remote := addressOf(s.asker.LocalAddr()), addressOf(s.asker.RemoteAddr())
	server, err := s.relay.dial("tcp", local, remote)
	if err != nil {
		s.relay.note(func(s *Stats) { s.Failed++ })
		s.broken = true
		_ = s.asker.SetLinger(0) // it is reset
		_ = s.asker.Close()
		return
	}
	s.server = server
	s.copying.Go(func() { s.copyBack(server) })
}

func addressOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// copyBack gives the asker what the server says, until that has ended.
func (s *stream) copyBack(server net.Conn) {
	for {
		message, err := readMessage(server)
		if err != nil {
			s.hangUp(err)
			return
		}
		s.relay.note(func(s *Stats) { s.Answered++ })
		s.answer(message)
	}
}

// hangUp tells the asker how the server ended.
func (s *stream) hangUp(err error) {
	s.toAsker.Lock()
	defer s.toAsker.Unlock()
	if errors.Is(err, syscall.ECONNRESET) {
		_ = s.asker.SetLinger(0)
		_ = s.asker.Close()
		return
	}
	_ = s.asker.CloseWrite()
	_ = s.asker.SetReadDeadline(time.Now().Add(serverTime)) // who does not end now is not waited for
}
