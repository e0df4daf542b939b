package op

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/queue"
)

func delayed(d time.Duration) impair.Config { return impair.Config{Delay: d} }

// BenchmarkQueueRoundTrip measures how much later than asked packets are. The
// round trip without the queue, measured right before, is subtracted.
func BenchmarkQueueRoundTrip(b *testing.B) {
	for _, delay := range []time.Duration{1, 5, 20, 50, 100, 200} {
		for _, d := range []filter.Direction{filter.Egress, filter.Ingress} {
			b.Run(fmt.Sprintf("%s/%dms", d, delay), func(b *testing.B) {
				w := newWire(b)
				p := w.pinger(b, farIP)
				p.pings(b, 3, 0)
				base := p.pings(b, 100, 5*time.Millisecond)
				q := w.apply(b, w.queue(w.match(d), delayed(delay*time.Millisecond)))
				for b.Loop() {
					list := p.pings(b, 200, 5*time.Millisecond)
					off := func(t time.Duration) float64 {
						return float64(t-mean(base)-delay*time.Millisecond) / float64(time.Millisecond)
					}
					b.ReportMetric(off(mean(list)), "ms-mean-error")
					b.ReportMetric(off(percentile(list, 0.5)), "ms-p50-error")
					b.ReportMetric(off(percentile(list, 0.99)), "ms-p99-error")
					b.ReportMetric(float64(mean(base).Microseconds()), "us-base")
				}
				b.Log(q.stats(b))
			})
		}
	}
}

// stats says in one line what the helper has counted.
func (q *Queue) stats(t testing.TB) string {
	t.Helper()
	var list []queue.Stats
	err := q.held().client.Report(&list)
	must(t, err)
	return fmt.Sprintf("%+v", list)
}

// BenchmarkQueueApply measures how long it takes until packets are held, and
// until all is gone.
func BenchmarkQueueApply(b *testing.B) {
	for _, d := range []filter.Direction{filter.Egress, filter.Both} {
		b.Run(string(d), func(b *testing.B) {
			w := newWire(b)
			var on, off []time.Duration
			for b.Loop() {
				q := w.queue(w.match(d), delayed(time.Millisecond))
				start := time.Now()
				must(b, q.Apply(context.Background()))
				mid := time.Now()
				must(b, q.Gone().Apply(context.Background()))
				on, off = append(on, mid.Sub(start)), append(off, time.Since(mid))
			}
			slices.Sort(on)
			slices.Sort(off)
			b.ReportMetric(float64(percentile(on, 0.5).Microseconds()), "us-apply")
			b.ReportMetric(float64(percentile(off, 0.5).Microseconds()), "us-undo")
		})
	}
}

// BenchmarkQueueUDP sends packets of 1200 bytes at a rate, one way.
func BenchmarkQueueUDP(b *testing.B) {
	for _, c := range []struct {
		name  string
		delay time.Duration
		d     filter.Direction
	}{{"none", 0, ""}, {"egress-0ms", 1, filter.Egress}, {"egress-10ms", 10 * time.Millisecond, filter.Egress}, {"ingress-10ms", 10 * time.Millisecond, filter.Ingress}} {
		for _, rate := range []int{100_000, 206_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", c.name, rate), func(b *testing.B) { benchUDP(b, c.delay, c.d, rate) })
		}
	}
}

func benchUDP(b *testing.B, delay time.Duration, d filter.Direction, rate int) {
	w := newWire(b)
	var q *Queue
	if d != "" {
		q = w.apply(b, w.queue(w.match(d), delayed(delay)))
	}
	from, to, toIP := w.near, w.far, farIP
	if d == filter.Ingress {
		from, to, toIP = w.far, w.near, nearIP
	}
	sink := to.socket(b, unix.AF_INET, unix.SOCK_DGRAM, 0)
	defer unix.Close(sink)
	must(b, unix.SetsockoptInt(sink, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	must(b, unix.Bind(sink, &unix.SockaddrInet4{Port: 9000}))
	source := from.socket(b, unix.AF_INET, unix.SOCK_DGRAM, 0)
	defer unix.Close(source)
	must(b, unix.SetsockoptInt(source, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20))
	must(b, unix.Connect(source, &unix.SockaddrInet4{Port: 9000, Addr: [4]byte(net.ParseIP(toIP).To4())}))
	var got atomic.Int64
	done := make(chan struct{})
	go func() { defer close(done); drain(sink, &got) }()
	_ = flood(source, 1000, 50*time.Millisecond) // neighbours find each other
	time.Sleep(2*delay + 50*time.Millisecond)
	for b.Loop() {
		before, cpu, start := got.Load(), helperCPU(b, q), time.Now()
		sent := flood(source, rate, 2*time.Second)
		took := time.Since(start)
		time.Sleep(delay + 300*time.Millisecond)
		arrived := got.Load() - before
		b.ReportMetric(float64(sent)/took.Seconds(), "offered/s")
		b.ReportMetric(float64(arrived)/took.Seconds(), "arrived/s")
		b.ReportMetric(100*float64(sent-arrived)/float64(sent), "%lost")
		if q != nil {
			b.ReportMetric(float64((helperCPU(b, q)-cpu).Microseconds())/float64(sent), "us-cpu/packet")
		}
	}
	if q != nil {
		b.Log(q.stats(b))
		b.Log(linkDrops(w, q))
	}
	_ = unix.Shutdown(sink, unix.SHUT_RDWR)
	<-done
}

// helperCPU is the time that the helper has spent so far.
func helperCPU(b *testing.B, q *Queue) time.Duration {
	if q == nil {
		return 0
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", helperPID(b, q)))
	must(b, err)
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')'):]))
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

type testMessage struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// flood sends datagrams of 1200 bytes in bursts of 32, and returns how many.
func flood(fd, rate int, d time.Duration) (sent int64) {
	const burst = 32
	payload := make([]byte, 1200)
	iov := unix.Iovec{Base: &payload[0]}
	iov.SetLen(len(payload))
	var messages [burst]testMessage
	for i := range messages {
		messages[i].Iov, messages[i].Iovlen = &iov, 1
	}
	for start := time.Now(); ; {
		elapsed := time.Since(start)
		if elapsed > d {
			return sent
		}
		if float64(sent) > elapsed.Seconds()*float64(rate) {
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil)
			continue
		}
		n, _, _ := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages)), burst, 0, 0, 0)
		if int(n) > 0 {
			sent += int64(n)
		}
	}
}

// drain counts datagrams until the socket is shut.
func drain(fd int, got *atomic.Int64) {
	const burst = 64
	var messages [burst]testMessage
	var iov [burst]unix.Iovec
	b := make([]byte, 2048)
	for i := range messages {
		iov[i].Base = &b[0]
		iov[i].SetLen(len(b))
		messages[i].Iov, messages[i].Iovlen = &iov[i], 1
	}
	for {
		const waitForOne = 0x10000
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages)), burst, waitForOne, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 || messages[0].n == 0 {
			return
		}
		got.Add(int64(n))
	}
}

// linkDrops says what the TAPs dropped.
func linkDrops(w *wire, q *Queue) (text string) {
	_ = proc.Do(w.near.path(), func() error {
		for _, l := range q.lanes() {
			text += fmt.Sprint(l.device, " dropped ", deviceDrops(l.device), " ")
		}
		return nil
	})
	return text
}

// BenchmarkQueueTCP measures one flow.
func BenchmarkQueueTCP(b *testing.B) {
	for _, c := range []struct {
		name  string
		delay time.Duration
		d     filter.Direction
	}{
		{"none", 0, ""},
		{"egress-0ms", 1, filter.Egress},
		{"egress-1ms", time.Millisecond, filter.Egress},
		{"egress-10ms", 10 * time.Millisecond, filter.Egress},
		{"ingress-10ms", 10 * time.Millisecond, filter.Ingress},
		{"egress-100ms", 100 * time.Millisecond, filter.Egress},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWire(b)
			if c.d != "" {
				q := w.apply(b, w.queue(w.match(c.d), delayed(c.delay)))
				defer func() { b.Log(q.stats(b), linkDrops(w, q)) }()
			}
			benchTCP(b, w, c.d == filter.Ingress)
		})
	}
}

func benchTCP(b *testing.B, w *wire, ingress bool) {
	from, to, toIP := w.near, w.far, farIP
	if ingress {
		from, to, toIP = w.far, w.near, nearIP
	}
	address := &unix.SockaddrInet4{Port: 9001, Addr: [4]byte(net.ParseIP(toIP).To4())}
	listener := to.socket(b, unix.AF_INET, unix.SOCK_STREAM, 0)
	must(b, unix.Bind(listener, address))
	must(b, unix.Listen(listener, 1))
	source := from.socket(b, unix.AF_INET, unix.SOCK_STREAM, 0)
	if cc := os.Getenv("SIMIAN_TEST_CC"); cc != "" {
		must(b, unix.SetsockoptString(source, unix.IPPROTO_TCP, unix.TCP_CONGESTION, cc))
	}
	must(b, unix.Connect(source, address))
	sink, _, err := unix.Accept(listener)
	must(b, err)
	unix.Close(listener)
	var got atomic.Int64
	var done sync.WaitGroup
	done.Go(func() {
		for buf := make([]byte, 1<<20); ; {
			n, err := unix.Read(sink, buf)
			if n > 0 {
				got.Add(int64(n))
			} else if err != unix.EINTR {
				return
			}
		}
	})
	done.Go(func() {
		for buf := make([]byte, 1<<20); ; {
			if _, err := unix.Write(source, buf); err != nil && err != unix.EINTR {
				return
			}
		}
	})
	time.Sleep(time.Second) // its window opens
	for b.Loop() {
		before, start := got.Load(), time.Now()
		time.Sleep(2 * time.Second)
		b.ReportMetric(float64(got.Load()-before)*8/time.Since(start).Seconds()/1e9, "Gbit/s")
	}
	_ = unix.Shutdown(sink, unix.SHUT_RDWR)
	_ = unix.Shutdown(source, unix.SHUT_RDWR)
	done.Wait()
	unix.Close(sink)
	unix.Close(source)
}
