package queue

import (
	"math/rand/v2"
	"testing"
)

// Slots that are taken are apart, and all memory can be had again in any size
// once it was given back.
func TestArena(t *testing.T) {
	t.Parallel()
	a, err := newArena(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	taken := map[slot]byte{}
	for step := range 20_000 {
		if rnd.IntN(100) < 45 {
			for s, mark := range taken {
				for _, b := range []byte{a.bytes(s)[0], a.bytes(s)[len(a.bytes(s))-1]} {
					if b != mark {
						t.Fatalf("step %d: slot %d was overwritten", step, s)
					}
				}
				a.give(s)
				delete(taken, s)
				break
			}
			continue
		}
		if s := a.take(class(rnd.IntN(int(classes)))); s != none {
			mark := byte(step)
			a.bytes(s)[0], a.bytes(s)[len(a.bytes(s))-1] = mark, mark
			taken[s] = mark
		}
	}
	for s := range taken {
		a.give(s)
	}
	for c := range classes {
		var all []slot
		for s := a.take(c); s != none; s = a.take(c) {
			all = append(all, s)
		}
		if want := (1 << 20) / c.bytes(); len(all) != want {
			t.Errorf("class %d: %d slots, want %d", c, len(all), want)
		}
		for _, s := range all {
			a.give(s)
		}
	}
}
