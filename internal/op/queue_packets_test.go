package op

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/internal/queue"
)

// count sends n packets to a port of far, and returns how many arrived, with
// those that came twice, and how many were not as they were sent.
func (w *wire) count(t testing.TB, port, n int) (arrived, spoilt int) {
	t.Helper()
	sink := w.far.socket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	defer unix.Close(sink)
	must(t, unix.SetsockoptInt(sink, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	must(t, unix.SetsockoptInt(sink, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
	must(t, unix.Bind(sink, &unix.SockaddrInet4{Port: port}))
	source := w.near.socket(t, unix.AF_INET, unix.SOCK_DGRAM, 0)
	defer unix.Close(source)
	must(t, unix.Connect(source, &unix.SockaddrInet4{Port: port, Addr: [4]byte(net.ParseIP(farIP).To4())}))
	payload := make([]byte, 600)
	for i := range n {
		_, err := unix.Write(source, payload)
		must(t, err)
		if i%20 == 0 { // a veth takes a thousand at once
			time.Sleep(time.Millisecond)
		}
	}
	timeout := unix.NsecToTimeval(int64(500 * time.Millisecond))
	must(t, unix.SetsockoptTimeval(sink, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	for b := make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(sink, b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return arrived, spoilt
		}
		arrived++
		if !slices.Equal(b[:n], payload) {
			spoilt++
		}
	}
}

func TestQueueChances(t *testing.T) {
	const n = 5000
	for _, c := range []struct {
		name     string
		cfg      impair.Config
		min, max int
	}{
		{"loss", impair.Config{Loss: impair.Loss{Chance: impair.Chance{Percent: 20}}}, n * 76 / 100, n * 84 / 100},
		{"duplicate", impair.Config{Delay: time.Millisecond, Duplicate: impair.Chance{Percent: 20}}, n * 116 / 100, n * 124 / 100},
		{"jitter", impair.Config{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond}, n, n},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t)
			w.pinger(t, farIP).pings(t, 2, 0)
			q := w.apply(t, w.queue(w.match(filter.Egress), c.cfg))
			arrived, spoilt := w.count(t, 9003, n)
			t.Logf("%d of %d arrived; %s", arrived, n, verify(t, q).What)
			var list []queue.Stats
			err := q.held().client.Report(&list)
			must(t, err)
			refused := int(list[0].Refused) // where a machine is slow, much goes at once
			if arrived+refused < c.min || arrived > c.max || spoilt != 0 {
				t.Errorf("%d arrived, %d spoilt; want %d to %d, none", arrived, spoilt, c.min, c.max)
			}
		})
	}
}

// A bit that is flipped shows in a checksum, of the link's header apart.
func TestQueueCorrupts(t *testing.T) {
	w := newWire(t)
	w.pinger(t, farIP).pings(t, 2, 0)
	q := w.apply(t, w.queue(w.match(filter.Egress), impair.Config{Corrupt: impair.Chance{Percent: 30}}))
	const n = 3000
	arrived, spoilt := w.count(t, 9004, n)
	var list []queue.Stats
	err := q.held().client.Report(&list)
	must(t, err)
	t.Logf("%d of %d arrived, %d spoilt; %+v", arrived, n, spoilt, list[0])
	if c := list[0].Corrupted; c < n*25/100 || c > n*35/100 {
		t.Errorf("%d of %d were corrupted", c, n)
	}
	if arrived < n*65/100 || arrived > n*75/100+spoilt {
		t.Errorf("%d of %d arrived", arrived, n)
	}
}

func TestQueueFilter(t *testing.T) {
	w := newWire(t)
	p := w.pinger(t, farIP)
	p.pings(t, 2, 0)
	m := w.match(filter.Egress)
	m.Protocols, m.Ports = []uint8{unix.IPPROTO_UDP}, []filter.PortRange{{First: 9005, Last: 9005}}
	q := w.apply(t, w.queue(m, impair.Config{Loss: impair.Loss{Chance: impair.Chance{Percent: 100}}}))
	if arrived, _ := w.count(t, 9006, 200); arrived != 200 {
		t.Errorf("%d of 200 to another port arrived", arrived)
	}
	if e := verify(t, q); !e.InForce || e.Felt != experiment.FeltNothing || e.Hint == "" {
		t.Errorf("before anything matched: %+v", e)
	}
	if arrived, _ := w.count(t, 9005, 200); arrived != 0 {
		t.Errorf("%d of 200 that match arrived", arrived)
	}
	if e := verify(t, q); e.Felt != experiment.FeltYes || !strings.Contains(e.What, "200 lost") {
		t.Errorf("after all matched: %+v", e)
	}
	p.pings(t, 1, 0)
}

func TestQueueLimit(t *testing.T) {
	w := newWire(t)
	w.pinger(t, farIP).pings(t, 2, 0)
	q := w.queue(w.match(filter.Egress), delayed(300*time.Millisecond))
	q.Limit = 256 << 10
	w.apply(t, q)
	arrived, _ := w.count(t, 9007, 1000)
	e := verify(t, q)
	t.Logf("%d arrived; %s; %s", arrived, e.What, e.Hint)
	if arrived < 100 || arrived > 500 || !strings.Contains(e.Hint, "raise limit") {
		t.Errorf("%d of 1000 arrived: %+v", arrived, e)
	}
}

// Datagrams that go at the same time may be sent as one: each arrives as it
// was.
func TestQueueDatagrams(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, d := range []filter.Direction{filter.Egress, filter.Ingress} {
			t.Run(fmt.Sprintf("%s v6 %t", d, v6), func(t *testing.T) {
				w := newWire(t)
				from, to := w.near, w.far
				address := map[bool]string{false: farIP, true: farIP6}[v6]
				if w.pinger(t, address).pings(t, 2, 0); d == filter.Ingress {
					from, to, address = w.far, w.near, map[bool]string{false: nearIP, true: nearIP6}[v6]
				}
				q := w.apply(t, w.queue(w.match(d), delayed(20*time.Millisecond)))
				datagrams(t, from, to, address)
				t.Log(verify(t, q).What)
			})
		}
	}
}

func datagrams(t *testing.T, from, to *sleeper, address string) {
	ip := net.ParseIP(address)
	domain, peer := unix.AF_INET6, func(port int) unix.Sockaddr { return &unix.SockaddrInet6{Port: port, Addr: [16]byte(ip)} }
	if v4 := ip.To4(); v4 != nil {
		domain, peer = unix.AF_INET, func(port int) unix.Sockaddr { return &unix.SockaddrInet4{Port: port, Addr: [4]byte(v4)} }
	}
	var sinks [2]int
	for i := range sinks {
		sinks[i] = to.socket(t, domain, unix.SOCK_DGRAM, 0)
		defer unix.Close(sinks[i])
		must(t, unix.SetsockoptInt(sinks[i], unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
		timeout := unix.NsecToTimeval(int64(5 * time.Second))
		must(t, unix.SetsockoptTimeval(sinks[i], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
		must(t, unix.Bind(sinks[i], peer(9010+i)))
	}
	source := from.socket(t, domain, unix.SOCK_DGRAM, 0)
	defer unix.Close(source)
	payload := func(i int) []byte { // runs of one size, now and then another, an empty one, another port
		sizes := []int{1200, 1200, 1200, 700, 1200, 1, 1448, 0, 1200, 1200}
		return bytes.Repeat([]byte{byte(i), byte(i >> 8), byte(i % 7)}, 500)[:sizes[i/3%len(sizes)]]
	}
	const n = 1000
	port := func(i int) int { return i / 40 % 2 }
	for i := range n {
		must(t, unix.Sendto(source, payload(i), 0, peer(9010+port(i))))
		if i%50 == 0 { // a veth takes a thousand at once
			time.Sleep(time.Millisecond)
		}
	}
	want := [2]map[string]int{{}, {}} // how often
	for i := range n {
		want[port(i)][string(payload(i))]++
	}
	late, b := 0, make([]byte, 4096)
	for i := range n {
		size, _, err := unix.Recvfrom(sinks[port(i)], b, 0)
		must(t, err)
		got := string(b[:size])
		if want[port(i)][got]--; want[port(i)][got] < 0 {
			t.Fatalf("datagram %d: %d bytes that were not sent, or came twice", i, size)
		}
		if got != string(payload(i)) {
			late++
		}
	}
	t.Logf("%d not in order", late) // the stack does not promise one when the helper moves to another processor
}

// TCP goes through whole, and its large packets too.
func TestQueueTCP(t *testing.T) {
	for _, d := range []filter.Direction{filter.Egress, filter.Ingress, filter.Both} {
		for _, cfg := range []impair.Config{delayed(2 * time.Millisecond), {Delay: 2 * time.Millisecond, Rate: 1e9}} {
			t.Run(fmt.Sprintf("%s %s", d, cfg), func(t *testing.T) {
				w := newWire(t)
				q := w.apply(t, w.queue(w.match(d), cfg))
				var got atomic.Int64
				w.transfer(t, 4<<20, &got)
				if got.Load() != 4<<20 {
					t.Errorf("%d bytes arrived", got.Load())
				}
				t.Log(verify(t, q).What)
			})
		}
	}
}

// transfer sends n bytes by TCP from near to far.
func (w *wire) transfer(t testing.TB, n int, got *atomic.Int64) {
	t.Helper()
	address := &unix.SockaddrInet4{Port: 9008, Addr: [4]byte(net.ParseIP(farIP).To4())}
	listener := w.far.socket(t, unix.AF_INET, unix.SOCK_STREAM, 0)
	defer unix.Close(listener)
	must(t, unix.Bind(listener, address))
	must(t, unix.Listen(listener, 1))
	source := w.near.socket(t, unix.AF_INET, unix.SOCK_STREAM, 0)
	timeout := unix.NsecToTimeval(int64(20 * time.Second))
	must(t, unix.SetsockoptTimeval(source, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout))
	must(t, unix.Connect(source, address))
	sink, _, err := unix.Accept(listener)
	must(t, err)
	defer unix.Close(sink)
	must(t, unix.SetsockoptTimeval(sink, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	go func() {
		defer unix.Close(source)
		for left := n; left > 0; {
			sent, err := unix.Write(source, make([]byte, left))
			if err != nil && err != unix.EINTR {
				return
			}
			left -= max(sent, 0)
		}
	}()
	for b := make([]byte, 1<<16); ; {
		n, err := unix.Read(sink, b)
		if n > 0 {
			got.Add(int64(n))
		} else if err != unix.EINTR {
			return
		}
	}
}

// Frames of a link without headers, such as a tunnel, are bare IP.
func TestQueueBareLink(t *testing.T) {
	w := newWire(t)
	var tun *os.File
	var m filter.Match
	must(t, proc.Do(w.near.path(), func() (err error) {
		if tun, err = openTAP("tun0", true); err != nil {
			return err
		}
		index, err := setUp("tun0", "10.98.0.1/24")
		m = filter.Match{Links: []filter.Link{{Name: "tun0", Index: index}}, Egress: true, Ingress: true}
		return err
	}))
	defer tun.Close()
	go reflect(tun)
	p := w.pinger(t, "10.98.0.2")
	p.pings(t, 2, 0)
	q := w.apply(t, w.queue(m, delayed(10*time.Millisecond)))
	if list := p.pings(t, 5, 0); list[0] < 20*time.Millisecond {
		t.Errorf("a round trip of %s", list[0])
	}
	undo(t, q)
}

// reflect answers each ping that leaves by a TUN device.
func reflect(tun *os.File) {
	b := make([]byte, 2048)
	for {
		n, err := tun.Read(b)
		if err != nil {
			return
		}
		if ip := b[10:n]; len(ip) >= 28 && ip[0]>>4 == 4 && ip[9] == 1 && ip[20] == 8 {
			var was [4]byte
			copy(was[:], ip[12:16])
			copy(ip[12:16], ip[16:20])
			copy(ip[16:20], was[:])
			ip[20] = 0
			sum := binary.BigEndian.Uint16(ip[22:]) // of ICMP: type 8 less
			next := uint32(sum) + 0x0800
			binary.BigEndian.PutUint16(ip[22:], uint16(next+next>>16))
			_, _ = tun.Write(b[:n])
		}
	}
}
