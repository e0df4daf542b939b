package queue

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHold(t *testing.T) {
	t.Parallel()
	for name, due := range map[string]func(i int, rnd *rand.Rand) int64{
		"in order":     func(i int, _ *rand.Rand) int64 { return int64(i) },
		"at once":      func(int, *rand.Rand) int64 { return 7 },
		"backwards":    func(i int, _ *rand.Rand) int64 { return int64(-i) },
		"in any order": func(_ int, rnd *rand.Rand) int64 { return rnd.Int64N(1000) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(1, 2))
			h := newHold()
			var want []packet
			for i := range 10_000 {
				p := packet{due: due(i, rnd), order: uint64(i)}
				h.add(p)
				want = append(want, p)
			}
			slices.SortFunc(want, func(a, b packet) int {
				return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.order, b.order))
			})
			for i, p := range want {
				if h.size() != len(want)-i {
					t.Fatalf("%d wait, want %d", h.size(), len(want)-i)
				}
				if got := h.take(); got != p {
					t.Fatalf("packet %d: %+v, want %+v", i, got, p)
				}
			}
			if h.next() != nil {
				t.Error("one is left")
			}
		})
	}
}
