package latency

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
)

// zone is a DNS server that knows one name.
type zone struct {
	mu  sync.Mutex
	now netip.Addr // not valid: it has no address
}

func (z *zone) set(a netip.Addr) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.now = a
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	reply := new(dns.Msg).SetReply(q)
	kind := map[bool]uint16{true: dns.TypeA, false: dns.TypeAAAA}[z.now.Is4()]
	if z.now.IsValid() && q.Question[0].Qtype == kind {
		rr, err := dns.NewRR(fmt.Sprintf("%s 0 IN %s %s", q.Question[0].Name, dns.TypeToString[kind], z.now))
		if err != nil {
			reply.Rcode = dns.RcodeServerFailure
		}
		reply.Answer = []dns.RR{rr}
	}
	if !z.now.IsValid() {
		reply.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(reply)
}

// resolver has the peer serve z at an address of its own, and the target ask
// it.
func (w *wire) resolver(z *zone) {
	w.t.Helper()
	at := netip.MustParseAddr("10.81.0.53")
	w.peer.raise("peer0", 1, at)
	w.target.knows("eth0", 1, at)
	var udp net.PacketConn
	w.peer.do(func() (err error) { udp, err = net.ListenPacket("udp", at.String()+":53"); return err })
	started := make(chan struct{})
	server := &dns.Server{PacketConn: udp, Handler: z, NotifyStartedFunc: func() { close(started) }}
	go func() { _ = server.ActivateAndServe() }()
	<-started
	w.t.Cleanup(func() { _ = server.Shutdown() })
	w.target.file("etc/resolv.conf", "nameserver 10.81.0.53\n")
}

// TestNames changes what a name stands for while the fault is in force.
func TestNames(t *testing.T) {
	for _, backend := range []string{"", backendNetem, backendQueue} {
		for _, direction := range []filter.Direction{filter.Egress, filter.Both} {
			t.Run(fmt.Sprintf("%s %s", backend, direction), func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w, z := newWire(t), &zone{now: peerIP["IPv4"]}
				w.resolver(z)
				before := w.snapshot(w.target.Target)
				steps := w.strike(forced(backend, fmt.Sprintf("loss: 100, hosts: [db.example], direction: %s", direction)))
				stop := follow(t, steps)
				first, then := probe{kind: "udp", to: peerIP["IPv4"], port: 7001}, []probe{{kind: "udp", to: otherIP["IPv4"], port: 7001}, {kind: "udp", to: peerIP["IPv6"], port: 7001}}
				if w.answers(first, 300*time.Millisecond) || !w.answers(then[0], 20*time.Second) {
					t.Error("the first address is spared, or the second is not")
				}
				for _, next := range then {
					z.set(next.to)
					await(t, next.String(), func() bool { return !w.answers(next, 200*time.Millisecond) })
				}
				z.set(netip.Addr{}) // it is known no more: what it had stays
				time.Sleep(1500 * time.Millisecond)
				for _, p := range append(then, first) { // connections to it may go on
					if w.answers(p, 100*time.Millisecond) {
						t.Errorf("%s is spared again", p)
					}
				}
				if !w.answers(probe{kind: "udp", to: otherIP["IPv6"], port: 7001}, 20*time.Second) {
					t.Error("an address that the name never had is hit")
				}
				stop()
				w.felt(steps)
				w.heal(steps, before)
			})
		}
	}
}

// follow has ops follow the world, until the end is called for.
func follow(t testing.TB, steps []experiment.Step) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	for _, s := range steps {
		if f, ok := s.Do.(experiment.Follower); ok {
			following.Go(func() {
				if err := f.Follow(ctx); err != nil {
					t.Errorf("%s: %v", s.Do, err)
				}
			})
		}
	}
	return func() { cancel(); following.Wait() }
}
