package latency

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

// TestBeside has faults beside each other on one target, as actions in
// parallel: each has its effect, and either can end first.
func TestBeside(t *testing.T) {
	const delay = 20 * time.Millisecond
	for _, c := range []struct {
		name, first, second string
		needs               []string
		delays              time.Duration // of a round trip by UDP
	}{
		{"queue and loss", "loss: 1e-6, direction: both", "delay: 20ms, backend: queue, direction: both", []string{backendQueue}, 2},
		{"netem and queue", "delay: 20ms, backend: netem", "delay: 20ms, backend: queue", []string{backendNetem, backendQueue}, 2},
		{"netem and loss", "delay: 20ms, backend: netem, protocol: udp", "loss: 1e-6, direction: both", []string{backendNetem}, 1},
		{"netem in each direction", "delay: 20ms, backend: netem", "delay: 20ms, backend: netem, direction: ingress", []string{backendNetem}, 2},
	} {
		for _, firstEnds := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first ends first %t", c.name, firstEnds), func(t *testing.T) {
				t.Parallel()
				for _, backend := range c.needs {
					need(t, backend)
				}
				w := newWire(t)
				before := w.snapshot(w.target.Target)
				faults := [][]experiment.Step{w.strike(c.first), w.strike(c.second)}
				if !firstEnds {
					faults[0], faults[1] = faults[1], faults[0]
				}
				list := w.roundTrips(10, peerIP["IPv4"])
				t.Log(told(list))
				if list[0] < c.delays*delay {
					t.Errorf("a round trip of %s, want %s at least", list[0], c.delays*delay)
				}
				takeBack(t, faults[0])
				for _, s := range faults[1] {
					w.inForce(s.Do)
				}
				takeBack(t, faults[0])
				w.heal(faults[1], before)
			})
		}
	}
}

// TestBesideRefused plans a second fault where there can be one only.
func TestBesideRefused(t *testing.T) {
	for _, fields := range []string{"delay: 1ms, backend: queue", "delay: 1ms, backend: netem", "delay: 1ms, backend: netem, ports: 80"} {
		t.Run(fields, func(t *testing.T) {
			w := newWire(t, "IPv4")
			f := w.fault(fields)
			need(t, f.Backend)
			before := w.snapshot(w.target.Target)
			steps := w.strike(fields)
			during := w.snapshot(w.target.Target)
			if _, err := f.Plan(t.Context(), run, w.target.Target); !errors.Is(err, experiment.ErrBusy) {
				t.Errorf("a second one beside it: %v, want ErrBusy", err)
			}
			w.same(during)
			w.heal(steps, before)
			w.heal(w.strike(fields), before)
		})
	}
}
