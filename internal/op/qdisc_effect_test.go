package op

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
)

// send sends n packets of a size to the peer, a pause apart. Each has its
// number in it; their UDP checksum is left out, so that a flipped bit arrives.
func (w *pairNet) send(t testing.TB, n, size int, pause time.Duration) {
	t.Helper()
	conn := udpSocket(t, w.net, "10.9.0.1:0")
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) }))
	must(t, err)
	to := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 9}
	for i := range n {
		b := make([]byte, size)
		binary.BigEndian.PutUint32(b, uint32(i))
		binary.BigEndian.PutUint32(b[4:], uint32(i)) // once more, to tell a flipped bit
		if _, err := conn.WriteToUDP(b, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			t.Fatal(err)
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

// arrival is a packet that has come to the peer.
type arrival struct {
	number uint32
	at     time.Time
	whole  bool
}

// receive sends n packets and returns what arrives.
func (w *pairNet) receive(t testing.TB, n, size int, pause time.Duration) []arrival {
	t.Helper()
	conn := udpSocket(t, w.peerNet, "10.9.0.2:9")
	must(t, conn.SetReadBuffer(8<<20))
	var list []arrival
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			got, _, err := conn.ReadFromUDP(b)
			if err != nil {
				return
			}
			a := arrival{binary.BigEndian.Uint32(b), time.Now(), got == size && bytes.Equal(b[:4], b[4:8])}
			for _, x := range b[8:got] {
				a.whole = a.whole && x == 0
			}
			list = append(list, a)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		}
	}()
	w.send(t, n, size, pause)
	must(t, conn.SetReadDeadline(time.Now().Add(3*time.Second)))
	<-done
	return list
}

// put makes a pair of links, and applies c to it.
func put(t *testing.T, c impair.Config) (*pairNet, *Qdisc) {
	t.Helper()
	w := newPairNet(t)
	t.Cleanup(w.gone)
	w.echo(t)
	do := w.plan(t, QdiscPlan{Impair: c}).Do.(*Qdisc)
	must(t, do.Apply(t.Context()))
	return w, do
}

// felt returns what Verify read, where it was felt.
func felt(t *testing.T, do *Qdisc) string {
	t.Helper()
	ev, err := do.Verify(t.Context())
	if err != nil || !ev.InForce || ev.Felt != experiment.FeltYes {
		t.Errorf("%+v, %v", ev, err)
	}
	return ev.What
}

// TestQdiscRoundTrip logs how late packets are: nothing else may be asked of a
// machine that others use.
func TestQdiscRoundTrip(t *testing.T) {
	needNetem(t)
	for _, name := range []string{"nothing", "delay", "uniform", "normal", "pareto", "paretonormal"} {
		t.Run(name, func(t *testing.T) {
			c := netemConfigs()[name]
			w, do := put(t, c)
			mean, sd := meanSD(w.roundTrips(t, 200))
			t.Logf("round trip %v, sd %v; %s; %s", mean, sd, c, felt(t, do))
			if mean < c.Delay/2 {
				t.Error("not delayed")
			}
		})
	}
}

// TestQdiscOneWay counts what comes of 5000 packets.
func TestQdiscOneWay(t *testing.T) {
	needNetem(t)
	for _, name := range []string{"nothing", "loss", "loss in runs", "states", "gilbert", "duplicate", "corrupt", "reorder", "gap"} {
		t.Run(name, func(t *testing.T) {
			c := netemConfigs()[name]
			w, do := put(t, c)
			const n = 5000
			got := tallyOf(w.receive(t, n, 200, 20*time.Microsecond))
			t.Logf("of %d: %+v; %s; %s", n, got, c, felt(t, do))
			lost := 1 - float64(got.whole+got.broken)/n
			if want := c.Loss.Expected(); math.Abs(lost-want) > 0.05+want/2 {
				t.Errorf("lost %.3f, want %.3f", lost, want)
			}
			if c.Duplicate.Percent > 0 != (got.twice > 0) || c.Corrupt.Percent > 0 != (got.broken > 0) || c.Reorder.Percent > 0 != (got.overtaken > 0) {
				t.Error("it is not as it should be")
			}
		})
	}
}

// tally is what came of packets.
type tally struct{ whole, twice, broken, overtaken int }

func tallyOf(list []arrival) (n tally) {
	seen, last := map[uint32]bool{}, uint32(0)
	for _, a := range list {
		switch {
		case !a.whole:
			n.broken++
			continue
		case seen[a.number]:
			n.twice++
		default:
			n.whole++
			if a.number < last {
				n.overtaken++
			}
		}
		seen[a.number], last = true, max(last, a.number)
	}
	return n
}

// TestQdiscRate times 300 packets of 1000 bytes.
func TestQdiscRate(t *testing.T) {
	needNetem(t, CanTbf)
	for name, c := range map[string]impair.Config{
		"netem": {Rate: 8e6}, "overhead": {Rate: 8e6, Overhead: 1000},
		"tbf": {Rate: 8e6, Burst: 100_000}, "tbf, overhead": {Rate: 8e6, Burst: 100_000, Overhead: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			w, do := put(t, c)
			const n, size, headers = 300, 1000, 14 + 20 + 8
			start := time.Now()
			list := w.receive(t, n, size, 0)
			if len(list) != n {
				t.Fatalf("%d of %d arrived", len(list), n)
			}
			took := list[n-1].at.Sub(start)
			asked := time.Duration(float64(n*(size+headers+c.Overhead)-c.Burst) * 8 / c.Rate * 1e9)
			t.Logf("%v for %d packets, the first half in %v; %v by the rate; %s", took, n, list[n/2].at.Sub(start), asked, felt(t, do))
			if took < asked/2 {
				t.Error("too fast")
			}
		})
	}
}

// TestQdiscDelayCorrelation logs what comes of the correlation that tc gives
// to netem: see CheckNetem.
func TestQdiscDelayCorrelation(t *testing.T) {
	needNetem(t)
	for name, more := range map[string][]string{"uniform": nil, "normal": {"distribution", "normal"}} {
		w := newPairNet(t)
		w.echo(t)
		w.tc(t, append(strings.Fields("qdisc add dev eth0 root netem delay 60ms 15ms 90%"), more...)...)
		list := w.roundTrips(t, 150)
		mean, sd := meanSD(list)
		var lag float64
		for i := range list[1:] {
			lag += float64(list[i]-mean) * float64(list[i+1]-mean)
		}
		t.Logf("%s: sd %v, correlation of one with the next %.2f, asked for 0.9", name, sd, lag/float64(len(list)-1)/float64(sd)/float64(sd))
		w.gone()
	}
}

func meanSD(list []time.Duration) (mean, sd time.Duration) {
	var sum, squares float64
	for _, d := range list {
		sum += float64(d)
	}
	m := sum / float64(len(list))
	for _, d := range list {
		squares += (float64(d) - m) * (float64(d) - m)
	}
	return time.Duration(m), time.Duration(math.Sqrt(squares / float64(len(list))))
}
