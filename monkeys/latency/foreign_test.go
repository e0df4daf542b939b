package latency

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
)

// tc runs tc(8) for the target, and skips where there is none, or this kernel
// has not what is asked for.
func (w *wire) tc(line string) string {
	w.t.Helper()
	path, err := exec.LookPath("tc")
	if err != nil {
		w.t.Skip("needs tc: ", err)
	}
	var out []byte
	w.target.do(func() error { out, err = exec.Command(path, strings.Fields(line)...).CombinedOutput(); return nil })
	if strings.Contains(string(out), "qdisc kind is unknown") {
		w.t.Skipf("tc %s: %s", line, out)
	}
	if err != nil {
		w.t.Fatalf("tc %s: %v: %s", line, err, out)
	}
	return string(out)
}

// foreign are qdiscs that somebody else has put at the root of eth0.
var foreign = map[string][]string{
	"tbf": {"qdisc add dev eth0 root handle 10: tbf rate 1gbit burst 64kb latency 400ms"},
	"htb": {
		"qdisc add dev eth0 root handle 1: htb default 30",
		"class add dev eth0 parent 1: classid 1:1 htb rate 1gbit burst 15k",
		"class add dev eth0 parent 1:1 classid 1:10 htb rate 500mbit ceil 900mbit prio 1",
		"class add dev eth0 parent 1:1 classid 1:30 htb rate 100mbit ceil 1gbit",
		"qdisc add dev eth0 parent 1:10 handle 100: pfifo limit 77",
		"filter add dev eth0 parent 1: protocol ip prio 5 u32 match ip dst 10.81.0.1/32 match ip dport 80 0xffff flowid 1:10",
		"filter add dev eth0 parent 1: protocol ipv6 prio 6 u32 match ip6 dst fd81::/64 flowid 1:10",
	},
	"netem": {"qdisc add dev eth0 root handle 7: netem delay 3ms loss 1% limit 777"},
}

// TestForeignRefused meets a root qdisc of somebody else's, and says the way
// out; backend queue is one, and leaves it alone.
func TestForeignRefused(t *testing.T) {
	for name, lines := range foreign {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t)
			for _, line := range lines {
				w.tc(line)
			}
			before := w.snapshot(w.target.Target)
			for _, fields := range []string{"delay: 1ms, backend: netem", "delay: 1ms, ports: 80, backend: netem", "delay: 1ms, direction: both, backend: netem"} {
				_, err := w.fault(fields).planNetem(t.Context(), run, w.target.Target)
				if !errors.Is(err, experiment.ErrBusy) || !strings.Contains(err.Error(), "eth0 has a root qdisc already: "+name) ||
					!strings.Contains(err.Error(), "onExisting: replace") || !strings.Contains(err.Error(), "backend: queue") {
					t.Errorf("%s: %v", fields, err)
				}
			}
			need(t, backendQueue)
			steps := w.strike("delay: 20ms, backend: queue, direction: both")
			passed := w.tc("-s qdisc show dev eth0")
			if list := w.roundTrips(5, peerIP["IPv4"]); list[0] < 40*time.Millisecond {
				t.Error(told(list))
			}
			if after := w.tc("-s qdisc show dev eth0"); after == passed {
				t.Error("packets do not pass the foreign qdisc: ", after)
			}
			w.heal(steps, before)
		})
	}
}

// TestForeignIngress needs nothing of what is at the root of the link.
func TestForeignIngress(t *testing.T) {
	need(t, backendNetem)
	w := newWire(t)
	for _, line := range foreign["htb"] {
		w.tc(line)
	}
	before := w.snapshot(w.target.Target)
	steps := w.strike("delay: 20ms, backend: netem, direction: ingress")
	if list := w.roundTrips(5, peerIP["IPv4"]); list[0] < 20*time.Millisecond {
		t.Error(told(list))
	}
	w.heal(steps, before)
}

// TestReplace puts back exactly what it replaced, as the kernel tells it, and
// as tc does.
func TestReplace(t *testing.T) {
	for name, lines := range foreign {
		for _, fields := range []string{"delay: 20ms", "delay: 20ms, protocol: udp", "delay: 20ms, rate: {rate: 1gbit, burst: 64KiB}, direction: both"} {
			t.Run(name+" "+fields, func(t *testing.T) {
				t.Parallel()
				need(t, backendNetem)
				w := newWire(t)
				for _, line := range lines {
					w.tc(line)
				}
				before, shown := w.snapshot(w.target.Target), w.shown()
				steps := w.strike(fields + ", backend: netem, onExisting: replace")
				if list := w.roundTrips(5, peerIP["IPv4"]); list[0] < 20*time.Millisecond {
					t.Error(told(list))
				}
				w.felt(steps)
				w.heal(steps, before)
				if diff := cmp.Diff(shown, w.shown()); diff != "" {
					t.Error("as tc shows it:", diff)
				}
			})
		}
	}
}

// shown is tc's own view of eth0.
func (w *wire) shown() string {
	text := w.tc("-d qdisc show dev eth0") + w.tc("-d class show dev eth0") + w.tc("filter show dev eth0")
	var lines []string
	for line := range strings.Lines(text) {
		before, _, _ := strings.Cut(line, " direct_packets_stat") // it counts
		lines = append(lines, strings.TrimSpace(before))
	}
	slices.Sort(lines) // classes come in any order
	return strings.Join(lines, "\n")
}
