package gauge

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

// TestArrivalIsBehindTheIngressQueue: where packets that come are held by a
// queue of an ifb device, as faults do, that time is part of what is measured,
// though the kernel has stamped them before.
//
//	v ─ingress─▶ mirred ─▶ ifb0: a qdisc ─▶ the socket
func TestArrivalIsBehindTheIngressQueue(t *testing.T) {
	t.Parallel()
	// 16 answers of 98 bytes at 8000 bytes a second: the last one waits for all
	// before it, less what it was asked for later.
	const pings = 16
	for name, test := range map[string]struct {
		qdisc string
		least time.Duration
	}{
		"tbf":   {"tbf rate 64kbit burst 200 limit 100000", time.Second * (pings*98 - 200) / 8000 / 2},
		"netem": {"netem delay 20ms", 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			s := p.open(t, far["IPv4"], 0)
			if _, err := s.Ping(t.Context()); err != nil { // neighbours know each other now
				t.Fatal(err)
			}
			p.holdIngress(t, test.qdisc)
			if longest := longestOf(t, s, pings); longest < test.least {
				t.Errorf("the longest of %d round trips is %v, less than %v", pings, longest, test.least)
			}
		})
	}
}

// longestOf measures n round trips at a time.
func longestOf(t *testing.T, s *Session, n int) (longest time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			rtt, err := s.Ping(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			longest = max(longest, rtt)
		})
	}
	all.Wait()
	return longest
}

// holdIngress has all that comes held by a qdisc.
func (p pair) holdIngress(t *testing.T, qdisc string) {
	t.Helper()
	run(t, p.near, "ip", "link", "add", "ifb0", "type", "ifb")
	run(t, p.near, "ip", "link", "set", "ifb0", "up")
	var out []byte
	err := proc.Host().InNetwork(p.near, func() (err error) {
		out, err = exec.Command("tc", append(strings.Fields("qdisc add dev ifb0 root"), strings.Fields(qdisc)...)...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Skipf("add %s: %v: %s", qdisc, err, out)
	}
	run(t, p.near, "tc", "qdisc", "add", "dev", "v", "ingress")
	run(t, p.near, "tc", strings.Fields("filter add dev v parent ffff: protocol ip u32 match u32 0 0 action mirred egress redirect dev ifb0")...)
}
