package main

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/proc"
	"github.com/simianhq/simian/monkeys"
	"github.com/simianhq/simian/targets"
	"github.com/simianhq/simian/targets/native"
)

// TestEveryFaultIsDrawn wants every fault of the catalogue to be drawn on
// something, and nothing else.
func TestEveryFaultIsDrawn(t *testing.T) {
	t.Parallel()
	all, have := draws(), monkeys.Faults(proc.Host())
	for _, name := range have.Names() {
		if all[name].on == 0 {
			t.Errorf("the fault %s is drawn on nothing: it needs a line in draws", name)
		}
	}
	for name := range all {
		if have[name] == nil {
			t.Errorf("there is no fault %s", name)
		}
	}
}

// TestDrawsAreRight wants all that may be drawn to be understood.
func TestDrawsAreRight(t *testing.T) {
	t.Parallel()
	host := proc.Host()
	l := experiment.Loader{Faults: monkeys.Faults(host), Targets: targets.All(host, native.NewCurrent(host))}
	d := dice{rand.New(rand.NewPCG(1, 2)), "/data", "7000"}
	for name := range draws() {
		for range 50 {
			text := section(name, d)
			file := "apiVersion: simian.dev/v1\nkind: Experiment\nmetadata: {name: soak}\nspec:\n  method:\n  - {" + text +
				", target: {type: process, pid: 77}, for: 1s, irreversible: true}\n"
			if _, err := l.Load("soak.yaml", []byte(file), nil); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}
}

// TestBeside: what ends or stands still is alone on its target, and two of a
// kind are not beside each other.
func TestBeside(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, there string
		want        bool
	}{
		{"kill", "", true},
		{"freeze", "", true},
		{"burn.cpu", "burn.io", true},
		{"latency", "burn.cpu burn.io", true},
		{"kill", "burn.cpu", false},
		{"burn.cpu", "kill", false},
		{"burn.cpu", "burn.cpu", false},
		{"burn.cpu", "freeze", false},
	} {
		if got := beside(c.name, strings.Fields(c.there)); got != c.want {
			t.Errorf("%s beside %q: %v", c.name, c.there, got)
		}
	}
}
