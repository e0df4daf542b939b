package labnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkJoin100 is the network of a lab of 100 containers, by one and by
// eight at a time.
func BenchmarkJoin100(b *testing.B) {
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprintf("by%d", workers), func(b *testing.B) {
			for b.Loop() {
				n := newNet(b, Config{Networks: []Network{{Name: "front"}}})
				ports := joinMany(b, n, 100, workers)
				b.StopTimer()
				for _, p := range ports {
					p.Close()
				}
				must(b, n.Close())
				time.Sleep(500 * time.Millisecond) // the kernel takes 100 namespaces apart meanwhile
				b.StartTimer()
			}
		})
	}
}

func joinMany(b *testing.B, n *Net, count, workers int) []*Port {
	ports := make([]*Port, count)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < count; i += workers {
				e := Endpoint{Name: fmt.Sprint("c", i), On: []Attachment{{Network: "front"}}}
				var err error
				if ports[i], err = n.Join(b.Context(), e); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	return ports
}

func BenchmarkNewClose(b *testing.B) {
	for b.Loop() {
		n := newNet(b, Config{Networks: []Network{{Name: "front"}}})
		must(b, n.Close())
	}
}

// BenchmarkDial compares a connection made and closed from inside the lab with
// one on the host's loopback.
func BenchmarkDial(b *testing.B) {
	n := newNet(b, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(b, n, "web", "", "front")
	listenIn(b, p.NetNS(), ":80", "")
	l := listenIn(b, hostNS(b), "127.0.0.1:0", "")
	via := dialers(n)["DialVia"]
	for name, tt := range map[string]struct {
		dial    dialFunc
		address string
	}{
		"host": {new(net.Dialer).DialContext, l.Addr().String()},
		"lab":  {n.Dial, at(p, 80)}, "labByName": {n.Dial, "web:80"},
		"via": {via, at(p, 80)}, "viaByName": {via, "web:80"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				conn, err := tt.dial(b.Context(), "tcp", tt.address)
				must(b, err)
				_, _ = conn.Read(make([]byte, 1)) // until it is closed there
				must(b, conn.Close())
			}
		})
	}
}

func hostNS(b *testing.B) *os.File {
	f, err := os.Open("/proc/self/ns/net")
	must(b, err)
	b.Cleanup(func() { _ = f.Close() })
	return f
}

// BenchmarkResolver asks from a container, by UDP, over one socket.
func BenchmarkResolver(b *testing.B) {
	n := newNet(b, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(b, n, "web", "", "front")
	conn, err := from(p).connect(b.Context(), "udp", netip.AddrPortFrom(p.Resolver(), 53).String())
	must(b, err)
	defer conn.Close()
	c := &dns.Conn{Conn: conn}
	q := new(dns.Msg).SetQuestion("web.", dns.TypeA)
	for b.Loop() {
		must(b, c.WriteMsg(q))
		if _, err := c.ReadMsg(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRelay measures a published port's throughput.
func BenchmarkRelay(b *testing.B) {
	n := newNet(b, Config{Networks: []Network{{Name: "front"}}})
	p := joinOn(b, n, "sink", "", "front")
	var l net.Listener
	must(b, inNamespace(p.NetNS(), func() (err error) {
		l, err = net.Listen("tcp4", ":80")
		return err
	}))
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buffer := make([]byte, 1<<18)
		for err == nil {
			_, err = conn.Read(buffer)
		}
	}()
	pub := publish(b, n, Publish{To: to(p, 80)})
	conn, err := net.Dial("tcp", pub.Address().String())
	must(b, err)
	defer conn.Close()
	chunk := make([]byte, 1<<18)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		_, err := conn.Write(chunk)
		must(b, err)
	}
}
