package latency

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/op"
	"github.com/simianhq/simian/internal/proc"
)

// TestHostRefused never touches the network of the host itself.
func TestHostRefused(t *testing.T) {
	target, err := proc.Host().Target(os.Getpid())
	must(t, err)
	target.Name = "self"
	for _, fields := range []string{"delay: 1ms", "loss: 1", "delay: 1ms, backend: queue", "delay: 1ms, interfaces: [lo]"} {
		f := readFault(t, loader(op.NewHost(proc.Host()), new([]experiment.Target)), fields)
		_, err := f.Plan(t.Context(), run, target)
		if !errors.Is(err, experiment.ErrProtected) || !strings.Contains(err.Error(), "allowHost: true") {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

// TestSharedNetwork plans for two targets in one namespace before it strikes
// either: what is done twice is there once.
func TestSharedNetwork(t *testing.T) {
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			need(t, form.backend)
			w := newWire(t)
			before := w.snapshot(w.target.Target)
			f := w.fault(forced(form.backend, form.fields))
			var all []experiment.Step
			for _, target := range []experiment.Target{w.target.Target, w.target.beside("sidecar").Target} {
				steps, err := f.Plan(t.Context(), run, target)
				must(t, err)
				all = append(all, steps...)
			}
			w.apply(all)
			for _, s := range all {
				w.inForce(s.Do)
			}
			once := w.snapshot(w.target.Target)
			for _, s := range all {
				must(t, s.Do.Apply(t.Context()))
			}
			w.same(once)
			w.heal(all, before)
		})
	}
}

// TestSeveralNetworks strikes three targets, each in a network of its own, and
// takes one back at a time.
func TestSeveralNetworks(t *testing.T) {
	for _, form := range []struct{ backend, fields string }{
		{"", "loss: 100"},
		{backendNetem, "loss: 100"},
		{backendNetem, "loss: 100, protocol: udp, direction: both"},
		{backendQueue, "loss: 100"},
		{backendQueue, "loss: 100, protocol: udp, direction: both"},
	} {
		t.Run(forced(form.backend, form.fields), func(t *testing.T) {
			t.Parallel()
			need(t, form.backend)
			host := op.NewHost(proc.Host())
			wires := []*wire{newWireFor(t, host), newWireFor(t, host), newWireFor(t, host)}
			f := wires[0].fault(forced(form.backend, form.fields))
			before, steps := make([]string, 3), make([][]experiment.Step, 3)
			for i, w := range wires {
				var err error
				before[i] = w.snapshot(w.target.Target)
				steps[i], err = f.Plan(t.Context(), run, w.target.Target)
				must(t, err)
			}
			for i, w := range wires {
				w.apply(steps[i])
			}
			p := probe{kind: "udp", to: peerIP["IPv4"], port: 7001}
			for i, w := range wires {
				for j, other := range wires {
					if hit := j >= i; other.answers(p, map[bool]time.Duration{true: 200 * time.Millisecond, false: 20 * time.Second}[hit]) == hit {
						t.Errorf("%d taken back: wire %d is hit: %t", i, j, !hit)
					}
				}
				w.heal(steps[i], before[i])
			}
		})
	}
}

// TestOneFamily strikes a target that has no address of one family.
func TestOneFamily(t *testing.T) {
	for _, backend := range through("", backendNetem, backendQueue) {
		for has, hasNot := range map[string]string{"IPv6": "IPv4", "IPv4": "IPv6"} {
			t.Run(backend+" "+has, func(t *testing.T) {
				t.Parallel()
				need(t, backend)
				w := newWire(t, has)
				before := w.snapshot(w.target.Target)
				steps := w.strike(forced(backend, fmt.Sprintf("loss: 100, direction: both, cidrs: ['%s', '%s']", peerIP["IPv4"], peerIP["IPv6"])))
				if w.answers(probe{to: peerIP[has], port: 7001}, 300*time.Millisecond) || !w.answers(probe{to: otherIP[has], port: 7001}, 20*time.Second) {
					t.Error("another host is hit than the one meant")
				}
				w.heal(steps, before)
				_, err := w.fault(forced(backend, fmt.Sprintf("loss: 100, cidrs: ['%s']", peerIP[hasNot]))).Plan(t.Context(), run, w.target.Target)
				if want := "the target has no " + hasNot + " address"; err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %s", err, want)
				}
			})
		}
	}
}

// TestRefused plans what could do nothing, and what is not there.
func TestRefused(t *testing.T) {
	w := newWire(t)
	w.join("down0", 9, "peer9")
	before := w.snapshot(w.target.Target)
	for fields, want := range map[string]string{
		"interfaces: [eth9]":          `no interface "eth9"; there are lo, eth0, down0`,
		"interfaces: [down0]":         "down0 is down",
		"hosts: [db.invalid]":         "db.invalid",
		"cidrs: [10.81.0.2]":          "packets to it go over lo",
		"to: {type: peer}, cidrs: []": "",
	} {
		for _, backend := range []string{"", backendQueue} {
			_, err := w.fault(forced(backend, "loss: 1, "+fields)).Plan(t.Context(), run, w.target.Target)
			if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", fields, err, want)
			}
		}
	}
	w.same(before)
}

// TestLo strikes what a target says to itself, where the file names lo.
func TestLo(t *testing.T) {
	for _, backend := range through("", backendNetem, backendQueue) {
		t.Run("backend "+backend, func(t *testing.T) {
			need(t, backend)
			w := newWire(t)
			w.target.answer()
			before := w.snapshot(w.target.Target)
			steps := w.strike(forced(backend, "loss: 100, interfaces: [lo], protocol: udp, ports: 7001"))
			own := probe{kind: "udp", to: netip.MustParseAddr("127.0.0.1"), port: 7001}
			if w.answers(own, 300*time.Millisecond) || !w.answers(probe{kind: "udp", to: own.to, port: 7002}, 20*time.Second) ||
				!w.answers(probe{kind: "udp", to: peerIP["IPv4"], port: 7001}, 20*time.Second) {
				t.Error("another packet is hit than the one meant")
			}
			w.felt(steps)
			w.heal(steps, before)
		})
	}
}

// TestTargetGone ends the target while a fault is in force: nothing is left to
// take back, and what took part ends.
func TestTargetGone(t *testing.T) {
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			need(t, form.backend)
			w := newWire(t)
			steps := w.strike(forced(form.backend, form.fields))
			w.target.end()
			takeBack(t, steps)
			await(t, "the helper's end", func() bool { return w.snapshot(w.target.Target) == "" })
			if _, err := w.fault("delay: 1ms").Plan(context.Background(), run, w.target.Target); !errors.Is(err, experiment.ErrGone) {
				t.Errorf("planned again: %v", err)
			}
		})
	}
}

// TestAnotherUndoes takes back as the guardian does, which has read the
// journal, after the process that struck is dead.
func TestAnotherUndoes(t *testing.T) {
	need(t, backendQueue)
	w := newWire(t)
	before := w.snapshot(w.target.Target)
	steps := w.strike("delay: 20ms, backend: queue, direction: " + string(filter.Both))
	theirs := readBack(t, op.NewHost(proc.Host()), steps)
	takeBack(t, theirs)
	w.same(before)
	takeBack(t, steps)
}

// readBack gives steps as another process reads them in the journal.
func readBack(t testing.TB, host *op.Host, steps []experiment.Step) (theirs []experiment.Step) {
	t.Helper()
	e := experiment.Event{Kind: experiment.EventAnnounce}
	for i, s := range steps {
		e.Steps = append(e.Steps, experiment.PlannedStep{N: i + 1, Target: "t", Step: s})
	}
	codec := experiment.Codec{Ops: host.Ops()}
	line, err := codec.Marshal(&e)
	must(t, err)
	var again experiment.Event
	must(t, codec.Decoder()(line, &again))
	for _, s := range again.Steps {
		theirs = append(theirs, s.Step)
	}
	return theirs
}
