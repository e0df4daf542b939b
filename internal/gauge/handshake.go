package gauge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// handshake measures the time from a SYN to the SYN/ACK or RST that answers
// it. The connection is reset at once, so that it doesn't linger on either
// side.
func (s *Session) handshake(ctx context.Context) (time.Duration, error) {
	var fd int
	err := s.fs.InNetwork(s.gauge.Net, func() (err error) {
		fd, err = tcpSocket(s.gauge.Addr.Is6())
		return err
	})
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = unix.Connect(fd, s.address())
	file := os.NewFile(uintptr(fd), "tcp") // connected or connecting: only then can it be waited on
	defer file.Close()
	if err == unix.EINPROGRESS {
		err = finish(ctx, file)
	}
	took := time.Since(began)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) {
		return took, nil
	}
	if err != nil {
		return 0, err
	}
	return exact(file, took)
}

// tcpSocket opens a socket in the network namespace of this thread.
func tcpSocket(six bool) (int, error) {
	family := unix.AF_INET
	if six {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("open a socket for TCP: %w", err)
	}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("have the connection reset: %w", err)
	}
	return fd, nil
}

// finish waits for a connection under way, and returns what came of it.
func finish(ctx context.Context, file *os.File) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = file.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var outcome int
	err = conn.Write(func(fd uintptr) bool {
		if _, err := unix.Getpeername(int(fd)); err == nil {
			return true
		}
		outcome, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return outcome != 0
	})
	switch {
	case ctx.Err() != nil && err != nil:
		return fmt.Errorf("no answer: %w", ctx.Err())
	case outcome != 0:
		return fmt.Errorf("connect: %w", unix.Errno(outcome))
	}
	return err
}

// exact returns the kernel's own measure of a connection's handshake, the
// first sample of its round trip time (tcp(7), TCP_INFO), which knows nothing
// of how soon this process ran. A SYN that was sent again, a second later,
// leaves two cases: the first one was late, and its answer came after all; or
// it was lost, and then so was this measurement.
func exact(file *os.File, took time.Duration) (time.Duration, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var failed error
	if err := conn.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return 0, err
	}
	if failed != nil {
		return took, nil
	}
	rtt := time.Duration(info.Rtt) * time.Microsecond
	switch {
	case info.Total_retrans > 0 && took-rtt > 500*time.Millisecond:
		return 0, errors.New("no answer to the first SYN")
	case info.Total_retrans > 0 || rtt == 0:
		return took, nil
	}
	return min(rtt, took), nil
}
