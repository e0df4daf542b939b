package latency

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
)

// way is how packets go in a test: by a family of addresses, in a direction.
type way struct {
	family    string
	direction filter.Direction
}

var ways = []way{{"IPv4", filter.Egress}, {"IPv6", filter.Ingress}}

func (w *wire) floodBy(v way, n, size int, pause time.Duration) flood {
	w.t.Helper()
	if v.direction == filter.Ingress {
		return w.flood(w.peer, w.target, targetIP[v.family], n, size, pause)
	}
	return w.flood(w.target, w.peer, peerIP[v.family], n, size, pause)
}

// between wants got to be a share of n.
func between(t testing.TB, what string, got, n int, least, most float64) {
	t.Helper()
	if share := float64(got) / float64(n); share < least || share > most {
		t.Errorf("%d of %d packets %s: %.3f, want %.3f to %.3f", got, n, what, share, least, most)
	}
}

// lossy wants a share of packets to be lost: within six deviations, where one
// loss in a row makes others so much more likely.
func lossy(share, rowed float64) func(*testing.T, *wire, way) {
	return func(t *testing.T, w *wire, v way) {
		const n = 1000
		f := w.floodBy(v, n, 100, 0)
		bound := 6 * math.Sqrt(share*(1-share)/n*rowed)
		between(t, "are lost", n-f.arrived(), n, share-bound, share+bound)
		t.Logf("%d of %d are lost", n-f.arrived(), n)
		if f.twice() > 0 || f.overtook() > 0 {
			t.Errorf("%d came twice, %d out of order", f.twice(), f.overtook())
		}
	}
}

// late wants round trips of no less than least, whose standard deviation is sd
// at least.
func late(least, sd time.Duration) func(*testing.T, *wire, way) {
	return func(t *testing.T, w *wire, v way) {
		list := w.roundTrips(40, peerIP[v.family])
		t.Log(told(list))
		if list[0] < least {
			t.Errorf("a round trip of %s, want %s at least", list[0], least)
		}
		if got := deviation(list); got < sd {
			t.Errorf("they deviate by %s, want %s at least", got, sd)
		}
	}
}

func deviation(list []time.Duration) time.Duration {
	var sum, squares float64
	for _, d := range list {
		sum, squares = sum+float64(d), squares+float64(d)*float64(d)
	}
	mean := sum / float64(len(list))
	return time.Duration(math.Sqrt(max(squares/float64(len(list))-mean*mean, 0)))
}

// slow wants 100 packets of 1000 bytes to take so long at least.
func slow(least time.Duration) func(*testing.T, *wire, way) {
	return func(t *testing.T, w *wire, v way) {
		f := w.floodBy(v, 100, 1000, 0)
		t.Logf("%d packets in %s", f.arrived(), f.last())
		if f.arrived() != 100 || f.last() < least {
			t.Errorf("%d packets came in %s, want 100 in %s at least", f.arrived(), f.last(), least)
		}
	}
}

// fieldCases are the fields, each alone, and all of them together.
var fieldCases = []struct {
	name, fields string
	check        func(*testing.T, *wire, way)
}{
	{"delay", "delay: 20ms", late(20*time.Millisecond, 0)},
	{"uniform", "delay: 12ms, jitter: 6ms", late(6*time.Millisecond, time.Millisecond)},
	{"normal", "delay: 15ms, jitter: 4ms, distribution: normal", late(0, time.Millisecond)},
	{"pareto", "delay: 15ms, jitter: 4ms, distribution: pareto", late(0, 500*time.Microsecond)},
	{"paretonormal", "delay: 15ms, jitter: 4ms, distribution: paretonormal", late(0, 500*time.Microsecond)},
	{"loss", "loss: 30", lossy(.3, 1)},
	{"all is lost", "loss: 100", lossy(1, 1)},
	{"correlated loss", "loss: {percent: 30, correlation: 50}", lossy(.3, 3)},
	{"states", "loss: {states: {p13: 10, p31: 40, p32: 20, p23: 50, p14: 5}}", lossy(states().Expected(), 4)},
	{"gilbert", "loss: {gilbert: {p: 10, r: 30, bad: 90}}", lossy(.9*10/40, 4)},
	{"duplicate", "duplicate: 30", func(t *testing.T, w *wire, v way) {
		f := w.floodBy(v, 500, 100, 0)
		between(t, "arrived", f.arrived(), 500, 1, 1)
		between(t, "came twice", f.twice(), 500, .17, .43)
	}},
	{"corrupt", "corrupt: 30", func(t *testing.T, w *wire, v way) { // a checksum shows it, but that of the link's header
		f := w.floodBy(v, 500, 1000, 0)
		between(t, "arrived whole", f.arrived(), 500, .57, .87)
	}},
	{"reorder", "delay: 30ms, reorder: 25", func(t *testing.T, w *wire, v way) {
		f := w.floodBy(v, 400, 100, time.Millisecond)
		between(t, "arrived", f.arrived(), 400, 1, 1)
		between(t, "overtook", f.overtook(), 400, .12, .38)
	}},
	{"reorder each fifth", "delay: 30ms, reorder: {percent: 100, gap: 5}", func(t *testing.T, w *wire, v way) {
		f := w.floodBy(v, 400, 100, time.Millisecond)
		between(t, "overtook", f.overtook(), 400, .15, .22)
	}},
	{"rate", "rate: 8mbit", slow(99 * time.Millisecond)},
	{"rate with overhead", "rate: {rate: 8mbit, overhead: 1000}", slow(198 * time.Millisecond)},
	{"rate with burst", "rate: {rate: 8mbit, burst: 32KiB}", slow(60 * time.Millisecond)},
	{
		"all", "delay: 20ms, jitter: 5ms, distribution: normal, loss: 10, duplicate: 10, corrupt: 10, reorder: {percent: 10}, rate: {rate: 50mbit, overhead: 4}",
		func(t *testing.T, w *wire, v way) {
			f := w.floodBy(v, 500, 400, time.Millisecond)
			between(t, "arrived", f.arrived(), 500, .65, .97)
			between(t, "came twice", f.twice(), 500, .01, .2)
			between(t, "overtook", f.overtook(), 500, .05, 1)
			t.Logf("%d of 500 arrived, %d twice, %d overtook, in %s", f.arrived(), f.twice(), f.overtook(), f.last())
		},
	},
}

// TestFields feels each field, by each backend.
func TestFields(t *testing.T) {
	for _, backend := range through(backendNetem, backendQueue) {
		for _, v := range ways {
			t.Run(fmt.Sprintf("%s %s %s", backend, v.family, v.direction), func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t, v.family)
				before := w.snapshot(w.target.Target)
				for _, c := range fieldCases {
					t.Run(c.name, func(t *testing.T) {
						w.t, w.target.t, w.peer.t = t, t, t
						steps := w.strike(forced(backend, fmt.Sprintf("%s, direction: %s", c.fields, v.direction)))
						c.check(t, w, v)
						w.felt(steps)
						w.heal(steps, before)
						w.spared(v)
					})
				}
			})
		}
	}
}

// felt wants one of the ops to say that the target ran into it.
func (w *wire) felt(steps []experiment.Step) {
	w.t.Helper()
	felt := false
	for _, s := range steps {
		e := w.inForce(s.Do)
		w.t.Log(e.What, e.Hint)
		felt = felt || e.Felt == experiment.FeltYes
	}
	if !felt {
		w.t.Error("nobody says that it was felt")
	}
}

// spared wants all packets to come once and in order.
func (w *wire) spared(v way) {
	w.t.Helper()
	if f := w.floodBy(v, 50, 100, 0); f.arrived() != 50 || f.twice() > 0 || f.overtook() > 0 {
		w.t.Errorf("when it is over, %d of 50 arrive, %d twice, %d out of order", f.arrived(), f.twice(), f.overtook())
	}
}

// TestLossAlone loses packets by nftables.
func TestLossAlone(t *testing.T) {
	for _, family := range []string{"IPv4", "IPv6"} {
		for _, direction := range []filter.Direction{filter.Egress, filter.Ingress} {
			t.Run(fmt.Sprintf("%s %s", family, direction), func(t *testing.T) {
				t.Parallel()
				w, v := newWire(t, family), way{family, direction}
				before := w.snapshot(w.target.Target)
				for _, percent := range []float64{2.5, 30, 100} {
					steps := w.strike(fmt.Sprintf("loss: %v, direction: %s", percent, direction))
					lossy(percent/100, 1)(t, w, v)
					w.felt(steps)
					w.heal(steps, before)
				}
				w.spared(v)
			})
		}
	}
}

// TestDirections delays what goes, what comes, and both.
func TestDirections(t *testing.T) {
	for _, backend := range []string{backendNetem, backendQueue} {
		for direction, times := range map[filter.Direction]time.Duration{filter.Egress: 1, filter.Ingress: 1, filter.Both: 2} {
			t.Run(fmt.Sprintf("%s %s", backend, direction), func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t)
				before := w.snapshot(w.target.Target)
				steps := w.strike(forced(backend, fmt.Sprintf("delay: 20ms, direction: %s", direction)))
				for _, at := range peerIP {
					list := w.roundTrips(20, at)
					t.Log(at, told(list))
					if list[0] < times*20*time.Millisecond {
						t.Errorf("%s: a round trip of %s", at, list[0])
					}
				}
				w.felt(steps)
				w.heal(steps, before)
			})
		}
	}
}

// TestTCP sends a stream through, by both families.
func TestTCP(t *testing.T) {
	for _, backend := range through(backendNetem, backendQueue) {
		for _, fields := range []string{"delay: 5ms", "delay: 5ms, loss: 0.5, reorder: 1", "delay: 1ms, rate: {rate: 400mbit, burst: 64KiB}"} {
			t.Run(backend+" "+fields, func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t)
				before := w.snapshot(w.target.Target)
				steps := w.strike(forced(backend, fields+", direction: both, protocol: tcp"))
				for _, at := range peerIP {
					w.stream(at, 512<<10)
				}
				w.felt(steps)
				w.heal(steps, before)
			})
		}
	}
}

// stream sends n bytes by TCP from the target, and wants the same to come.
func (w *wire) stream(at netip.Addr, n int) {
	w.t.Helper()
	var listener net.Listener
	w.peer.do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(at, 7200).String())
		return err
	})
	defer listener.Close()
	sent := bytes.Repeat([]byte("a stream of bytes; "), n/19)
	sums := make(chan [32]byte, 1)
	go func() {
		defer close(sums)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		got, _ := io.ReadAll(conn)
		sums <- sha256.Sum256(got)
	}()
	conn, err := w.target.dial(probe{kind: "tcp", to: at, port: 7200}, time.Minute)
	must(w.t, err)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	begun := time.Now()
	_, err = conn.Write(sent)
	must(w.t, err)
	must(w.t, conn.Close())
	if <-sums != sha256.Sum256(sent) {
		w.t.Errorf("%s: another stream came", at)
	}
	w.t.Logf("%s: %d bytes in %s", at, len(sent), time.Since(begun))
}

func states() impair.Loss {
	return impair.Loss{States: &impair.States{P13: 10, P31: 40, P32: 20, P23: 50, P14: 5}}
}
