package op

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
)

// foreignTrees are roots that people put there, as tc makes them.
var foreignTrees = map[string][]string{
	"noqueue":           {"qdisc add dev eth0 root handle 7: noqueue"},
	"pfifo":             {"qdisc add dev eth0 root handle 7: pfifo limit 123"},
	"bfifo":             {"qdisc add dev eth0 root handle 7: bfifo limit 123456"},
	"tbf":               {"qdisc add dev eth0 root handle 10: tbf rate 10mbit burst 32kbit latency 400ms overhead 14"},
	"tbf of one packet": {"qdisc add dev eth0 root handle 10: tbf rate 10gbit burst 1514 limit 100000"},
	"tbf with a child": {
		"qdisc add dev eth0 root handle 10: tbf rate 10mbit burst 32kbit peakrate 20mbit mtu 1540 limit 100000",
		"qdisc add dev eth0 parent 10:1 handle 20: pfifo limit 50",
	},
	"htb": {
		"qdisc add dev eth0 root handle 1: htb default 30 r2q 7",
		"class add dev eth0 parent 1: classid 1:1 htb rate 100mbit burst 15k",
		"class add dev eth0 parent 1:1 classid 1:10 htb rate 50mbit ceil 90mbit burst 15k prio 1",
		"class add dev eth0 parent 1:1 classid 1:30 htb rate 10mbit ceil 100mbit quantum 3000 cburst 9k",
		"qdisc add dev eth0 parent 1:10 handle 100: pfifo limit 77",
		"qdisc add dev eth0 parent 1:30 handle 300: htb default 1",
		"class add dev eth0 parent 300: classid 300:1 htb rate 5mbit",
		"filter add dev eth0 parent 1: protocol ip prio 5 u32 match ip dst 10.9.0.2/32 match ip dport 80 0xffff flowid 1:10",
		"filter add dev eth0 parent 1: protocol ip prio 5 u32 match ip src 10.9.0.0/24 flowid 1:30",
		"filter add dev eth0 parent 1: protocol ipv6 prio 2 u32 match ip6 dst fd00::/8 flowid 1:10",
		"filter add dev eth0 parent 1:1 protocol ip prio 9 u32 match u32 0 0 flowid 1:30",
	},
	"u32 tables": {
		"qdisc add dev eth0 root handle 1: htb default 1",
		"class add dev eth0 parent 1: classid 1:1 htb rate 100mbit",
		"filter add dev eth0 parent 1: prio 5 protocol ip u32",
		"filter add dev eth0 parent 1: prio 5 handle 2: protocol ip u32 divisor 256",
		"filter add dev eth0 parent 1: protocol ip prio 5 u32 ht 2:7b: match ip src 1.2.0.123 flowid 1:1",
		"filter add dev eth0 parent 1: protocol ip prio 5 u32 ht 800:: match ip src 1.2.0.0/16 hashkey mask 0x000000ff at 12 link 2:",
	},
	"prio": {
		"qdisc add dev eth0 root handle 5: prio bands 4 priomap 0 1 2 3 0 1 2 3 0 1 2 3 0 1 2 3",
		"qdisc add dev eth0 parent 5:2 handle 50: sfq perturb 10 limit 99",
		"filter add dev eth0 parent 5: protocol ip prio 1 u32 match ip dport 80 0xffff flowid 5:3",
	},
	"sfq":       {"qdisc add dev eth0 root handle 6: sfq perturb 10 quantum 3000 divisor 256 limit 100 headdrop"},
	"fq_codel":  {"qdisc add dev eth0 root handle 8: fq_codel limit 500 target 5ms interval 100ms quantum 300 flows 64 noecn"},
	"netem":     {"qdisc add dev eth0 root handle 9: netem delay 20ms loss 1% 25% duplicate 2% limit 777 rate 10mbit 18"},
	"netem gi":  {"qdisc add dev eth0 root handle 9: netem loss state 5 40 10 60 1"},
	"netem ge":  {"qdisc add dev eth0 root handle 9: netem delay 1s loss gemodel 5 45 80 1 reorder 25% 50% gap 3"},
	"netem tbf": {"qdisc add dev eth0 root handle 9: netem delay 20ms", "qdisc add dev eth0 parent 9:1 handle 10: tbf rate 1mbit burst 3000 limit 30000"},
}

// TestQdiscRestore replaces each foreign tree and puts it back: by the data of
// a journal, half way too. A pfifo stands in for netem where there is none.
func TestQdiscRestore(t *testing.T) {
	t.Parallel()
	for name, commands := range foreignTrees {
		t.Run(name, func(t *testing.T) {
			w := newPairNet(t)
			for _, c := range commands {
				w.tc(t, strings.Fields(c)...)
			}
			before, shown := w.state(t), shownBy(t, w)
			var s *Snapshot
			w.do(t, func(c *tcConn) (err error) {
				s, err = takeSnapshot(c, w.link.Index)
				return err
			})
			must(t, s.rehearse())
			replace := layer{kind: "pfifo", parent: handleRoot, handle: 0x2222 << 16, options: native.AppendUint32(nil, 99)}
			w.do(t, func(c *tcConn) error {
				return errors.Join(s.stands(c, w.link.Index), c.add(w.link.Index, replace, createOver))
			})
			for _, times := range []string{"once", "twice"} {
				w.do(t, func(c *tcConn) error { return s.restore(c, w.link.Index) })
				if diff := cmp.Diff(before, w.state(t)); diff != "" {
					t.Error(times, diff)
				}
			}
			if diff := cmp.Diff(shown, shownBy(t, w)); diff != "" {
				t.Error("as tc shows it:", diff)
			}
			w.halfWay(t, s, replace, before)
		})
	}
}

// halfWay restores after a restore that made the root and no more.
func (w *pairNet) halfWay(t *testing.T, s *Snapshot, replace layer, before string) {
	t.Helper()
	read, err := s.read()
	must(t, err)
	root, err := read.qdiscs[0].remake(w.link.Index)
	must(t, err)
	w.do(t, func(c *tcConn) error {
		return errors.Join(c.add(w.link.Index, replace, createOver), c.make(36, createOver, root), s.restore(c, w.link.Index))
	})
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error("half way:", diff)
	}
}

// shownBy is tc's own view, without what it counts.
func shownBy(t testing.TB, w *pairNet) string {
	return regexp.MustCompile(`direct_packets_stat \d+`).ReplaceAllString(
		w.tc(t, "-d", "qdisc", "show", "dev", "eth0")+w.tc(t, "-d", "class", "show", "dev", "eth0")+
			w.tc(t, "filter", "show", "dev", "eth0"), "")
}

// do runs fn with a socket of the target's namespace.
func (w *pairNet) do(t testing.TB, fn func(c *tcConn) error) {
	t.Helper()
	must(t, insideNet(w.host, w.net, fn))
}

// TestQdiscForeign plans on a link that somebody has shaped.
func TestQdiscForeign(t *testing.T) {
	t.Parallel()
	w := newPairNet(t)
	delay := QdiscPlan{Impair: impair.Config{Delay: time.Millisecond}}
	if step := w.plan(t, delay); step.Do.(*Qdisc).Was.Kind != "noqueue" {
		t.Errorf("a link that nobody has touched: %+v", step.Do)
	}
	for _, c := range foreignTrees["htb"] {
		w.tc(t, strings.Fields(c)...)
	}
	before := w.state(t)
	_, err := PlanQdisc(w.host, w.fill(delay))
	want := "eth0 has a root qdisc already: htb 1: (2 qdiscs below, 4 classes, 4 filters): busy: take it away, say onExisting: replace, or backend: queue, which leaves it alone"
	if !errors.Is(err, experiment.ErrBusy) || err.Error() != want {
		t.Errorf("it gives %v", err)
	}
	delay.Replace = true
	step := w.plan(t, delay)
	if got := step.Do.(*Qdisc).Was.Tree.String(); got != "htb 1: (2 qdiscs below, 4 classes, 4 filters)" {
		t.Error(got)
	}
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error("planned:", diff)
	}
	w.tc(t, strings.Fields("class change dev eth0 parent 1:1 classid 1:30 htb rate 11mbit ceil 100mbit quantum 3000")...)
	if err := step.Do.Apply(t.Context()); !errors.Is(err, experiment.ErrBusy) {
		t.Errorf("changed since it was planned: %v", err)
	}
}

// TestQdiscInexact plans to replace what the kernel does not tell all of.
func TestQdiscInexact(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		commands []string
		want     string
	}{
		"an action": {[]string{
			"qdisc add dev eth0 root handle 1: htb",
			"filter add dev eth0 parent 1: protocol ip u32 match u32 0 0 action mirred egress redirect dev lo",
		}, "u32 800::800 can't be put back exactly: it has an action: unsupported"},
		"jitter": {
			[]string{"qdisc add dev eth0 root handle 1: netem delay 10ms 1ms distribution normal"},
			"netem 1: can't be put back exactly: the kernel does not tell the distribution of its jitter: unsupported",
		},
		"another kind": {
			[]string{"qdisc add dev eth0 root handle 1: fq"},
			"fq 1: can't be put back exactly: nobody has made sure that the kernel tells all of a fq: unsupported",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newPairNet(t)
			for _, c := range tt.commands {
				w.tc(t, strings.Fields(c)...)
			}
			_, err := PlanQdisc(w.host, w.fill(QdiscPlan{Replace: true}))
			if !errors.Is(err, experiment.ErrUnsupported) || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("it gives %v", err)
			}
		})
	}
}

// TestQdiscGone plans for a link that is another by now, or none.
func TestQdiscGone(t *testing.T) {
	t.Parallel()
	w := newPairNet(t)
	renamed := w.link
	renamed.Name = "eth1"
	for name, link := range map[string]filter.Link{"no link": {Name: "eth9", Index: 999}, "another name": renamed} {
		do := &Qdisc{Net: w.net, Link: link, Handle: 0x2000, Limit: 1000, host: w.host}
		if err := do.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s: %v, want ErrGone", name, err)
		}
		if _, err := PlanQdisc(w.host, QdiscPlan{Net: w.net, Link: link}); !errors.Is(err, experiment.ErrGone) {
			t.Errorf("%s, planned: %v, want ErrGone", name, err)
		}
	}
	w.gone()
	step := &Qdisc{Net: w.net, Link: w.link, Handle: 0x2000, Limit: 1000, Remove: true, host: w.host}
	if err := step.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("no namespace: %v, want ErrGone", err)
	}
}

// TestQdiscCan logs what this kernel has, and what it costs to ask.
func TestQdiscCan(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace can be made by root only")
	}
	for name, can := range map[string]func(*Host) error{"netem": CanNetem, "prio": CanPrio, "tbf": CanTbf, "ifb": CanIfb} {
		start := time.Now()
		h := NewHost(host)
		err := can(h)
		once := time.Now()
		again := can(h)
		t.Logf("%s: %v, %v; again %v", name, err, once.Sub(start), time.Since(once))
		if !errors.Is(again, err) {
			t.Errorf("%s, again: %v", name, again)
		}
		if err != nil && !errors.Is(err, experiment.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
