package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const flowPort = 7001

// flow is UDP packets from the target to the far end at a fixed pace.
type flow struct {
	n     int
	size  int           // of the payload in bytes, 24 at least
	every time.Duration // between two packets
	batch int           // sent by one system call, where a call for each is too slow
	wait  time.Duration // for the last of them
}

// flown is what became of a flow.
type flown struct {
	sent     int
	refused  int       // by the sender's own kernel, with an error
	received int       // each once
	again    int       // copies
	overtook int       // that came before one that was sent earlier
	full     int       // lost at the receiver's socket, so by this program
	seconds  float64   // that sending took
	began    []int64   // when each was sent
	delays   []float64 // one way, in milliseconds, by number; 0: it didn't come
}

// lost is what never came, this program's own losses left out.
func (f *flown) lost() int { return f.sent + f.refused - f.received - f.full }

// arrived are the delays of those that came.
func (f *flown) arrived() []float64 {
	var got []float64
	for _, d := range f.delays {
		if d != 0 {
			got = append(got, d)
		}
	}
	return got
}

// stream is a flow under way.
type stream struct {
	flow
	flown
	id     uint64
	tx, rx int
	end    atomic.Int64 // when to give up; 0 while packets are sent
	newest int
}

// flow sends and receives.
func (l *lab) flow(ctx context.Context, f flow) (*flown, error) {
	s := &stream{flow: f, id: rand.Uint64(), tx: -1, rx: -1}
	s.began, s.delays = make([]int64, f.n), make([]float64, f.n)
	defer func() { unix.Close(s.tx); unix.Close(s.rx) }()
	if err := errors.Join(l.far.do(s.openReceiver), l.target.do(s.openSender)); err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		err := s.send(ctx)
		s.end.Store(now() + f.wait.Nanoseconds())
		done <- err
	}()
	err := s.receive()
	err = errors.Join(err, <-done)
	s.full = dropped(s.rx)
	return &s.flown, err
}

func (s *stream) openReceiver() (err error) {
	if s.rx, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(s.rx, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20),
		unix.Bind(s.rx, &unix.SockaddrInet4{Port: flowPort, Addr: farAddr.As4()}),
		stamped(s.rx), impatient(s.rx))
}

// openSender leaves the send buffer as it is: a backend that holds packets in
// it must be seen to.
func (s *stream) openSender() (err error) {
	if s.tx, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	return unix.Connect(s.tx, &unix.SockaddrInet4{Port: flowPort, Addr: farAddr.As4()})
}

// send sends batch after batch, each when its first packet is due. One that is
// late doesn't move the later ones.
func (s *stream) send(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	precise()
	m := newMessages(max(s.batch, 1), s.size)
	start := now()
	for seq := 0; seq < s.n && ctx.Err() == nil; {
		sleepUntil(start + int64(seq)*s.every.Nanoseconds())
		count := min(len(m.heads), s.n-seq)
		for i := range count {
			s.began[seq+i] = now()
			binary.LittleEndian.PutUint64(m.bodies[i], s.id)
			binary.LittleEndian.PutUint64(m.bodies[i][8:], uint64(seq+i))
			binary.LittleEndian.PutUint64(m.bodies[i][16:], uint64(s.began[seq+i]))
		}
		if err := s.sendAll(m, count); err != nil {
			return err
		}
		seq += count
	}
	s.seconds = float64(now()-start) / 1e9
	return ctx.Err()
}

// sendAll sends the first messages of m. One that is refused is not tried again.
func (s *stream) sendAll(m *messages, count int) error {
	for i := 0; i < count; {
		n, err := m.call(unix.SYS_SENDMMSG, s.tx, i, count, 0)
		switch {
		case err == nil:
			i += n
			s.sent += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EPERM), errors.Is(err, unix.ECONNREFUSED):
			i++
			s.refused++
		default:
			return fmt.Errorf("send UDP: %w", err)
		}
	}
	return nil
}

// receive takes packets until all are there, or no more are to come.
func (s *stream) receive() error {
	m := newMessages(64, 24) // the rest of each is cut off
	for s.received < s.n {
		if end := s.end.Load(); end > 0 && now() > end {
			return nil
		}
		m.reset()
		n, err := m.call(unix.SYS_RECVMMSG, s.rx, 0, len(m.heads), unix.MSG_WAITFORONE)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive UDP: %w", err)
		}
		for i := range n {
			s.note(m.bodies[i], stamp(m.controls[i]))
		}
	}
	return nil
}

// note takes down a packet that came.
func (s *stream) note(body []byte, at int64) {
	seq := int(binary.LittleEndian.Uint64(body[8:]))
	if binary.LittleEndian.Uint64(body) != s.id || seq < 0 || seq >= s.n {
		return
	}
	if s.delays[seq] != 0 {
		s.again++
		return
	}
	s.received++
	s.delays[seq] = float64(at-int64(binary.LittleEndian.Uint64(body[16:]))) / 1e6
	if seq < s.newest {
		s.overtook++
	}
	s.newest = max(s.newest, seq)
}

// messages are what sendmmsg(2) and recvmmsg(2) take.
type messages struct {
	heads    []message
	vectors  []unix.Iovec
	bodies   [][]byte
	controls [][]byte
}

// message is struct mmsghdr.
type message struct {
	unix.Msghdr
	length uint32
	_      [4]byte
}

func newMessages(n, size int) *messages {
	m := &messages{heads: make([]message, n), vectors: make([]unix.Iovec, n)}
	for i := range n {
		m.bodies = append(m.bodies, make([]byte, size))
		m.controls = append(m.controls, make([]byte, stampSpace))
		m.vectors[i].Base = &m.bodies[i][0]
		m.vectors[i].SetLen(size)
		m.heads[i].Iov = &m.vectors[i]
		m.heads[i].SetIovlen(1)
	}
	return m
}

// reset makes room for control messages: the kernel writes how much it used.
func (m *messages) reset() {
	for i := range m.heads {
		m.heads[i].Control = &m.controls[i][0]
		m.heads[i].SetControllen(len(m.controls[i]))
	}
}

func (m *messages) call(trap uintptr, fd, from, to, flags int) (int, error) {
	n, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&m.heads[from])), uintptr(to-from), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// dropped is how many packets a full socket has refused (sock_diag(7),
// SK_MEMINFO_DROPS).
func dropped(fd int) int {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return int(info[8])
}
