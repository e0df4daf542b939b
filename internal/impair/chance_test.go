package impair

import (
	"fmt"
	"testing"
	"time"
)

// TestChances holds the share and the correlation of each chance against what
// was asked for, over more packets than a run has.
func TestChances(t *testing.T) {
	t.Parallel()
	const n = 150_000
	kinds := []struct {
		name string
		set  func(*Config, Chance)
		is   func(Fate) bool
	}{
		{"loss", func(c *Config, x Chance) { c.Loss.Chance = x }, isLost},
		{"duplicate", func(c *Config, x Chance) { c.Duplicate = x }, func(f Fate) bool { return f.Copies == 1 }},
		{"corrupt", func(c *Config, x Chance) { c.Corrupt = x }, func(f Fate) bool { return f.Corrupt }},
		{"reorder", func(c *Config, x Chance) { c.Reorder = x }, func(f Fate) bool { return f.Reordered }},
	}
	for _, kind := range kinds {
		for _, x := range []Chance{{0.1, 0}, {1, 0}, {1, 25}, {5, 50}, {25, 25}, {25, 90}, {99, 30}} {
			t.Run(fmt.Sprintf("%s/%v", kind.name, x), func(t *testing.T) {
				t.Parallel()
				cfg := Config{Delay: time.Millisecond}
				kind.set(&cfg, x)
				share, _, next := moments(flags(fates(cfg, n), kind.is))
				p, r := x.Percent/100, x.Correlation/100
				within(t, "share", share, p, binomial(p, r, n))
				within(t, "correlation", next, r, 0.03)
			})
		}
	}
}

func TestAlwaysAndNever(t *testing.T) {
	t.Parallel()
	for _, correlation := range []float64{0, 50, 100} {
		cfg := Config{
			Loss:    Loss{Chance: Chance{0, correlation}},
			Corrupt: Chance{100, correlation},
		}
		for i, f := range fates(cfg, 1000) {
			if f.Lost || !f.Corrupt {
				t.Fatalf("packet %d: %+v", i, f)
			}
		}
	}
}

func TestLossAndDuplicate(t *testing.T) {
	t.Parallel()
	cfg := Config{Duplicate: Chance{Percent: 100}, Loss: Loss{Chance: Chance{Percent: 30}}}
	const n = 100_000
	copies, _, _ := moments(flags(fates(cfg, n), func(f Fate) bool { return f.Copies == 1 }))
	within(t, "share of packets that come twice", copies, 0.7, binomial(0.7, 0, n))
	lost, _, _ := moments(flags(fates(cfg, n), isLost))
	within(t, "share of packets that don't come at all", lost, 0, 0)
}

func TestCopyHasItsOwnDelay(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond,
		Duplicate: Chance{Percent: 100}, Corrupt: Chance{Percent: 50},
	}
	same, bad := 0, 0
	for _, f := range fates(cfg, 1000) {
		if f.Due == f.CopyDue {
			same++
		}
		if f.Corrupt != f.CopyBad {
			bad++
		}
	}
	if same > 1 || bad < 400 || bad > 600 {
		t.Errorf("%d of 1000 copies are due with their packet, %d differ in corruption", same, bad)
	}
}

// TestReorderGap reads the pattern: gap-1 packets are delayed, then each is
// tried until one overtakes.
func TestReorderGap(t *testing.T) {
	t.Parallel()
	for _, gap := range []int{0, 1, 2, 5} {
		every := max(gap, 1)
		for i, f := range fates(Config{Delay: time.Second, Reorder: Chance{Percent: 100}, Gap: gap}, 100) {
			want := (i+1)%every == 0
			if f.Reordered != want || want != (f.Due == int64(i)*1e6) {
				t.Fatalf("gap %d, packet %d: %+v", gap, i, f)
			}
		}
	}
}

func TestReorderGapWithChance(t *testing.T) {
	t.Parallel()
	const n, gap = 200_000, 5
	list := fates(Config{Delay: time.Second, Reorder: Chance{Percent: 25}, Gap: gap}, n)
	last := -1
	for i, f := range list {
		if f.Reordered {
			if i-last < gap {
				t.Fatalf("packets %d and %d overtake", last, i)
			}
			last = i
		}
	}
	share, _, _ := moments(flags(list, func(f Fate) bool { return f.Reordered }))
	within(t, "share", share, 1.0/(gap-1+4), 0.002) // gap-1, and 4 tries of 25 %
}

func TestBit(t *testing.T) {
	t.Parallel()
	m := newTestModel(Config{})
	seen := map[[2]int]int{}
	for range 16_000 {
		offset, mask := m.Bit(2)
		seen[[2]int{offset, int(mask)}]++
	}
	for offset := range 2 {
		for bit := range 8 {
			if n := seen[[2]int{offset, 1 << bit}]; n < 850 || n > 1150 {
				t.Errorf("byte %d bit %d: %d times of 16000", offset, bit, n)
			}
		}
	}
	if len(seen) != 16 {
		t.Errorf("%d kinds of bits", len(seen))
	}
	if offset, mask := m.Bit(0); offset != 0 || mask != 0 {
		t.Errorf("of nothing: %d %d", offset, mask)
	}
}
