package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pings are round trips to be measured. They don't wait for each other: those
// of 200 ms take no longer than those of 1 ms.
type pings struct {
	to    netip.Addr
	n     int
	every time.Duration // on the average: half of it at least, so that no timer is in step with them
	wait  time.Duration // for the last answer
}

// pinger is one series. The kernel of the far end answers, without waking up
// any process; the kernel of the target stamps the answers.
type pinger struct {
	pings
	fd    int
	id    uint16
	trips []float64 // milliseconds, by number; 0: no answer
}

// ping returns the round trips in milliseconds of those that were answered.
func (l *lab) ping(ctx context.Context, p pings) ([]float64, error) {
	const first = 5 // for warming up
	p.n += first
	s := &pinger{pings: p, fd: -1, id: uint16(os.Getpid()), trips: make([]float64, p.n)}
	if err := l.target.do(s.open); err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	defer unix.Close(s.fd)
	done := make(chan error, 1)
	go func() { done <- s.send(ctx) }()
	err := s.receive(ctx)
	if err := errors.Join(err, <-done); err != nil {
		return nil, err
	}
	var trips []float64
	for _, ms := range s.trips[first:] {
		if ms > 0 {
			trips = append(trips, ms)
		}
	}
	return trips, nil
}

func (s *pinger) open() (err error) {
	s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	const answers = ^1 // all but echo replies, which are number 0, are filtered: raw(7)
	return errors.Join(
		unix.SetsockoptInt(s.fd, unix.SOL_RAW, unix.ICMP_FILTER, answers),
		unix.Connect(s.fd, &unix.SockaddrInet4{Addr: s.to.As4()}),
		stamped(s.fd), impatient(s.fd))
}

func (s *pinger) send(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	precise()
	due := now()
	for seq := range s.n {
		due += s.every.Nanoseconds()/2 + rand.Int64N(s.every.Nanoseconds()+1)
		sleepUntil(due)
		if _, err := unix.Write(s.fd, echo(s.id, uint16(seq), now())); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("send ping: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// receive takes answers until all are there, or no more are to come.
func (s *pinger) receive(ctx context.Context) error {
	packet, control := make([]byte, 128), make([]byte, stampSpace)
	end := time.Now().Add(time.Duration(s.n)*s.every*3/2 + s.wait)
	for left := s.n; left > 0 && ctx.Err() == nil && time.Now().Before(end); {
		n, oobn, _, _, err := unix.Recvmsg(s.fd, packet, control, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive ping: %w", err)
		}
		if seq, sent, ok := answer(packet[:n], s.id); ok && seq < s.n && s.trips[seq] == 0 {
			s.trips[seq] = float64(stamp(control[:oobn])-sent) / 1e6
			left--
		}
	}
	return ctx.Err()
}

// echo is an ICMP echo request with the 56 bytes of ping(8), which begin with
// the time; RFC 792.
func echo(id, seq uint16, at int64) []byte {
	p := make([]byte, 8+56)
	p[0] = 8
	binary.BigEndian.PutUint16(p[4:], id)
	binary.BigEndian.PutUint16(p[6:], seq)
	binary.BigEndian.PutUint64(p[8:], uint64(at))
	var sum uint32
	for i := 0; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(p[2:], ^uint16(sum+sum>>16))
	return p
}

// answer reads the number and time of an echo reply behind its IPv4 header.
func answer(p []byte, id uint16) (seq int, sent int64, ok bool) {
	if len(p) < 20 {
		return 0, 0, false
	}
	head := int(p[0]&15) * 4
	if len(p) < head+16 || p[head] != 0 || binary.BigEndian.Uint16(p[head+4:]) != id {
		return 0, 0, false
	}
	p = p[head:]
	return int(binary.BigEndian.Uint16(p[6:])), int64(binary.BigEndian.Uint64(p[8:])), true
}
