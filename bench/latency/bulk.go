package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of the far end.
const (
	echoPort = 7002 // sends back what it gets
	bulkPort = 7003 // swallows it
)

// bulk is one TCP flow from the target to the far end, as fast as it goes.
type bulk struct {
	warm, length time.Duration // not counted, counted
	congestion   string        // the algorithm; tcp(7)
}

// rate returns gigabits in a second, by what was read at the far end, and how
// many segments were sent again.
func (l *lab) rate(ctx context.Context, by running, b bulk) (gbit float64, again int, err error) {
	listener, err := l.listen(bulkPort)
	if err != nil {
		return 0, 0, err
	}
	defer listener.Close()
	var read atomic.Int64
	go swallow(listener, &read)
	conn, err := l.dial(by, bulkPort, b.congestion)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	go pour(conn)
	if err := pause(ctx, b.warm); err != nil {
		return 0, 0, err
	}
	from, start := read.Load(), time.Now()
	if err := pause(ctx, b.length); err != nil {
		return 0, 0, err
	}
	gbit = float64(read.Load()-from) * 8 / time.Since(start).Seconds() / 1e9
	return gbit, retransmitted(conn), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// swallow reads one connection to its end.
func swallow(l net.Listener, read *atomic.Int64) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	for b := make([]byte, 256<<10); ; {
		n, err := conn.Read(b)
		read.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// pour writes until the connection is closed.
func pour(conn net.Conn) {
	for b := make([]byte, 256<<10); ; {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

func (l *lab) listen(port int) (listener net.Listener, err error) {
	err = l.far.do(func() error {
		listener, err = net.Listen("tcp4", direct{}.at(port).String())
		return err
	})
	return listener, err
}

// dial connects from the target, so that the fault is met.
func (l *lab) dial(by running, port int, congestion string) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if congestion == "" {
			return nil
		}
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion)
		})
		return errors.Join(err, failed)
	}}
	err = l.target.do(func() error {
		conn, err = d.Dial("tcp4", by.at(port).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect through the fault: %w", err)
	}
	return conn, nil
}

func retransmitted(conn net.Conn) int {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0
	}
	var again int
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			again = int(info.Total_retrans)
		}
	})
	return again
}

// chat is the same as ping over one TCP connection: a message of 16 bytes, sent
// back by a process. What it takes the two processes to wake up is in it, as it
// is in the baseline.
func (l *lab) chat(ctx context.Context, by running, p pings) ([]float64, error) {
	listener, err := l.listen(echoPort)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, 4096))
	}()
	conn, err := l.dial(by, echoPort, "")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	go func() { // what is sent too late to be answered ends the series
		_ = talk(ctx, conn, p)
	}()
	return hear(conn, p)
}

func talk(ctx context.Context, conn net.Conn, p pings) error {
	message := make([]byte, 16)
	for due := now(); ctx.Err() == nil; due += p.every.Nanoseconds()/2 + rand.Int64N(p.every.Nanoseconds()+1) {
		sleepUntil(due)
		binary.LittleEndian.PutUint64(message, uint64(now()))
		if _, err := conn.Write(message); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func hear(conn net.Conn, p pings) ([]float64, error) {
	const first = 5
	var trips []float64
	message := make([]byte, 16)
	for i := range p.n + first {
		if err := conn.SetReadDeadline(time.Now().Add(2*p.every + p.wait)); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, message); err != nil {
			return nil, fmt.Errorf("read what was sent back: %w", err)
		}
		if i >= first {
			trips = append(trips, float64(now()-int64(binary.LittleEndian.Uint64(message)))/1e6)
		}
	}
	return trips, nil
}
