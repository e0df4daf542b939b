package op

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/impair"
)

// TestQdiscConformance runs the suite for each form of the tree.
func TestQdiscConformance(t *testing.T) {
	ms := time.Millisecond
	for name, tt := range map[string]struct {
		plan    QdiscPlan
		foreign []string
	}{
		"root":    {QdiscPlan{Impair: impair.Config{Delay: ms, Jitter: ms / 2, Distribution: impair.Normal}}, nil},
		"banded":  {QdiscPlan{Impair: impair.Config{Delay: ms}, Banded: true}, nil},
		"burst":   {QdiscPlan{Impair: impair.Config{Delay: ms, Rate: 8e6, Burst: 15000, Overhead: 4}, Banded: true}, nil},
		"replace": {QdiscPlan{Impair: impair.Config{Delay: ms}, Banded: true, Replace: true}, foreignTrees["htb"]},
	} {
		t.Run(name, func(t *testing.T) {
			var w *pairNet
			current := NewHost(host)
			experimenttest.Op(t, experimenttest.OpCase{
				Ops: experiment.Catalog[experiment.Op]{"qdisc": func() experiment.Op { return &Qdisc{host: current} }},
				Step: func(t testing.TB) experiment.Step {
					needNetem(t, CanPrio)
					w = newPairNet(t)
					w.host = current
					for _, c := range tt.foreign {
						w.tc(t, strings.Fields(c)...)
					}
					return w.plan(t, tt.plan)
				},
				Snapshot: func() string { return w.state(t) },
				Gone:     func(testing.TB) { w.gone() },
			})
		})
	}
}

// TestQdiscReadBack has the kernel take each field, and tc show it.
func TestQdiscReadBack(t *testing.T) {
	needNetem(t, CanPrio)
	w := newPairNet(t)
	for name, c := range netemConfigs() {
		for _, banded := range []bool{false, true} {
			step := w.plan(t, QdiscPlan{Impair: c, Banded: banded})
			start := time.Now()
			must(t, step.Do.Apply(t.Context()))
			took := time.Since(start)
			inForce(t, step.Do)
			t.Logf("%s in %v: %s", name, took, strings.TrimSpace(w.tc(t, "qdisc", "show", "dev", "eth0")))
			must(t, step.Undo.Apply(t.Context()))
			inForce(t, step.Undo)
		}
	}
}

// TestQdiscSuperseded has somebody else change what was made.
func TestQdiscSuperseded(t *testing.T) {
	needNetem(t)
	for name, tt := range map[string]struct{ command, present string }{
		"parameters": {"qdisc change dev eth0 root handle 2ae4: netem delay 7ms", "netem 2ae4: delay 7ms, limit 1000"},
		"another":    {"qdisc replace dev eth0 root handle 5: pfifo limit 5", "pfifo 5:"},
		"a child":    {"qdisc add dev eth0 parent 2ae4:1 handle 6: pfifo limit 5", "pfifo 6: below ours"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPairNet(t)
			p := w.fill(QdiscPlan{Impair: impair.Config{Delay: time.Millisecond}})
			p.Handle = 0x2ae4
			step, err := PlanQdisc(w.host, p)
			must(t, err)
			must(t, step.Do.Apply(t.Context()))
			w.tc(t, strings.Fields(tt.command)...)
			before := w.state(t)
			if ev, err := step.Do.(*Qdisc).Verify(t.Context()); err != nil || ev.InForce != (name == "a child") {
				t.Errorf("in force: %+v, %v", ev, err)
			}
			got := new(experiment.SupersededError)
			if err := step.Undo.Apply(t.Context()); !errors.As(err, &got) {
				t.Fatalf("it gives %v", err)
			}
			want := &experiment.SupersededError{Object: "the root qdisc of eth0", Read: "noqueue", Wrote: "netem 2ae4: delay 1ms, limit 1000", Present: tt.present}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, w.state(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestQdiscTxQueueLen puts netem on a link that has no queue at all.
func TestQdiscTxQueueLen(t *testing.T) {
	needNetem(t)
	w := newPairNet(t)
	set := func(n int) {
		w.in(t, func(h *netlink.Handle) error {
			l, err := h.LinkByName("eth0")
			return errors.Join(err, h.LinkSetTxQLen(l, n))
		})
	}
	length := func() (n int) {
		w.do(t, func(c *tcConn) error {
			a, err := c.attrsOf(w.link.Index)
			n = a.TxQLen
			return err
		})
		return n
	}
	set(0)
	step := w.plan(t, QdiscPlan{Impair: impair.Config{Delay: time.Millisecond}})
	must(t, step.Do.Apply(t.Context()))
	if n := length(); n != defaultQueueLen {
		t.Errorf("this kernel makes it %d", n)
	}
	must(t, step.Undo.Apply(t.Context()))
	if n := length(); n != 0 {
		t.Errorf("it is %d", n)
	}
	must(t, step.Do.Apply(t.Context()))
	set(55)
	if err := step.Undo.Apply(t.Context()); !errors.As(err, new(*experiment.SupersededError)) {
		t.Errorf("changed by somebody else: %v", err)
	}
	if n := length(); n != 55 {
		t.Errorf("it is %d", n)
	}
}

// TestQdiscPartly applies to what an op that was killed half way has left.
func TestQdiscPartly(t *testing.T) {
	needNetem(t, CanPrio)
	w := newPairNet(t)
	before := w.state(t)
	step := w.plan(t, QdiscPlan{Impair: impair.Config{Delay: time.Millisecond}, Banded: true})
	do := step.Do.(*Qdisc)
	root := func(c *tcConn) error { return c.add(w.link.Index, do.layers()[0], createNew) }
	w.do(t, root)
	must(t, do.Apply(t.Context()))
	inForce(t, do)
	must(t, step.Undo.Apply(t.Context()))
	w.do(t, root)
	must(t, step.Undo.Apply(t.Context()))
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error(diff)
	}
}

// TestQdiscOverflow sends more than the limit holds.
func TestQdiscOverflow(t *testing.T) {
	needNetem(t)
	w := newPairNet(t)
	step := w.plan(t, QdiscPlan{Impair: impair.Config{Delay: 300 * time.Millisecond}})
	do := step.Do.(*Qdisc)
	do.Limit = 50
	must(t, do.Apply(t.Context()))
	if ev, err := do.Verify(t.Context()); err != nil || ev.Felt != experiment.FeltNothing || ev.Hint != "no packet left by eth0" {
		t.Errorf("%+v, %v", ev, err)
	}
	w.send(t, 200, 100, 0)
	ev, err := do.Verify(t.Context())
	must(t, err)
	if !ev.InForce || ev.Felt != experiment.FeltYes || !strings.Contains(ev.What, "because the queue was full") || ev.Hint == "" {
		t.Errorf("%+v", ev)
	}
	t.Log(ev.What, ";", ev.Hint)
}

// TestQdiscNoqueue puts netem on a link from which somebody has taken its queue.
func TestQdiscNoqueue(t *testing.T) {
	needNetem(t, CanIfb)
	w := newPairNet(t)
	link, err := PlanLink(w.host, w.net, "abcd23", 0)
	must(t, err)
	must(t, link.Do.Apply(t.Context()))
	w.tc(t, "qdisc", "add", "dev", "smabcd230", "root", "noqueue")
	before := w.state(t)
	step := w.plan(t, QdiscPlan{Link: link.Do.(*Link).Link, Replace: true})
	must(t, step.Do.Apply(t.Context()))
	must(t, step.Undo.Apply(t.Context()))
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error(diff)
	}
}

// TestQdiscBand sends packets of the band's priority, and others.
func TestQdiscBand(t *testing.T) {
	needNetem(t, CanPrio)
	w := newPairNet(t)
	w.echo(t)
	step := w.plan(t, QdiscPlan{Impair: impair.Config{Delay: 50 * time.Millisecond}, Banded: true})
	do := step.Do.(*Qdisc)
	must(t, do.Apply(t.Context()))
	w.roundTrips(t, 20)
	ev, err := do.Verify(t.Context())
	if err != nil || ev.Felt != experiment.FeltNothing || ev.Hint == "" {
		t.Errorf("%+v, %v", ev, err)
	}
	t.Log(ev.What, ";", ev.Hint)
	conn := udpSocket(t, w.net, "10.9.0.1:0")
	raw, err := conn.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, int(do.Priority()))
	}))
	must(t, err)
	start := time.Now()
	_, err = conn.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 7})
	must(t, err)
	_, _, err = conn.ReadFromUDP(make([]byte, 8))
	must(t, err)
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("not delayed: %v", took)
	}
	if ev, err := do.Verify(t.Context()); err != nil || ev.Felt != experiment.FeltYes {
		t.Errorf("%+v, %v", ev, err)
	}
}

// TestQdiscOnIfb puts netem on a link that is planned with it.
func TestQdiscOnIfb(t *testing.T) {
	needNetem(t, CanIfb)
	w := newPairNet(t)
	before := w.state(t)
	link, err := PlanLink(w.host, w.net, "abcd23", 0)
	must(t, err)
	netem := w.plan(t, QdiscPlan{Link: link.Do.(*Link).Link, New: true, Impair: impair.Config{Delay: time.Millisecond}})
	steps := []experiment.Step{link, netem}
	for _, s := range steps {
		must(t, s.Do.Apply(t.Context()))
		inForce(t, s.Do)
	}
	for _, s := range []experiment.Step{netem, link} {
		must(t, s.Undo.Apply(t.Context()))
		inForce(t, s.Undo)
	}
	if diff := cmp.Diff(before, w.state(t)); diff != "" {
		t.Error(diff)
	}
	if err := netem.Undo.Apply(t.Context()); !errors.Is(err, experiment.ErrGone) {
		t.Errorf("the link is gone: %v", err)
	}
}
