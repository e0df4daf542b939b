package impair

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestRateIsExact sends more than the rate takes, with sizes whose times are
// no whole nanoseconds: not one nanosecond is gained or lost over them all.
func TestRateIsExact(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{800e3, 10e6, 1e9, 9.7e9, 100e9} {
		m := newTestModel(Config{Rate: rate, Overhead: 24})
		var bits float64
		var last int64
		for i := range 100_000 {
			size := 40 + i%1461
			bits += 8 * float64(size+24)
			last = m.Packet(0, size).Due
		}
		if want := bits / rate * 1e9; math.Abs(float64(last)-want) > 2 {
			t.Errorf("at %g bit/s the last packet is due at %d ns, want %.1f", rate, last, want)
		}
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	type packet struct{ at, due int64 }
	for _, test := range []struct {
		name string
		cfg  Config // a packet of 1000 bytes takes a millisecond
		want []packet
	}{
		{"one after the other", Config{Rate: 8e6}, []packet{{0, ms}, {0, 2 * ms}, {ms, 3 * ms}, {10 * ms, 11 * ms}}},
		{"then delayed", Config{Rate: 8e6, Delay: 5e6}, []packet{{0, 6 * ms}, {0, 7 * ms}}},
		{"overhead", Config{Rate: 8e6, Overhead: 1000}, []packet{{0, 2 * ms}, {0, 4 * ms}}},
		{"negative overhead", Config{Rate: 8e6, Overhead: -2000}, []packet{{0, 0}, {0, 0}}},
		{
			"burst",
			Config{Rate: 8e6, Burst: 3000},
			[]packet{{0, 0}, {0, 0}, {0, 0}, {0, ms}, {0, 2 * ms}, {10 * ms, 10 * ms}, {10 * ms, 10 * ms}, {10 * ms, 10 * ms}, {10 * ms, 11 * ms}},
		},
		{"burst refills at the rate", Config{Rate: 8e6, Burst: 2000}, []packet{{0, 0}, {0, 0}, {ms, ms}, {ms, 2 * ms}}},
		{"packet over the burst", Config{Rate: 8e6, Burst: 500}, []packet{{0, ms / 2}, {0, 3 * ms / 2}}},
		{"what overtakes keeps to the rate", Config{Rate: 8e6, Delay: 1e9, Reorder: Chance{Percent: 100}}, []packet{{0, ms}, {0, 2 * ms}}},
	} {
		m := newTestModel(test.cfg)
		const start = int64(time.Hour)
		for i, p := range test.want {
			if due := m.Packet(start+p.at, 1000).Due - start; due != p.due {
				t.Errorf("%s: packet %d is due at %d, want %d", test.name, i, due, p.due)
			}
		}
	}
}

// TestRateTakesCopiesAndNoLost: what is lost takes no time of the link, a copy
// does.
func TestRateTakesCopiesAndNoLost(t *testing.T) {
	t.Parallel()
	m := newTestModel(Config{Rate: 8e6, Duplicate: Chance{Percent: 100}})
	f := m.Packet(0, 1000)
	if f.Due != 1e6 || f.CopyDue != 2e6 {
		t.Errorf("due at %d, the copy at %d", f.Due, f.CopyDue)
	}
	m = newTestModel(Config{Rate: 8e6, Loss: Loss{Gilbert: &Gilbert{P: 100, R: 100, Bad: 100}}}) // every other one
	for i, want := range []int64{1e6, 0, 2e6, 0, 3e6} {
		if f := m.Packet(0, 1000); f.Due != want || f.Lost != (want == 0) {
			t.Errorf("packet %d: %+v, want it due at %d", i, f, want)
		}
	}
}

func TestSameSeedSameFates(t *testing.T) {
	t.Parallel()
	a, b := fates(everything, 1000), fates(everything, 1000)
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("packet %d: %+v and %+v", i, a[i], b[i])
		}
	}
}

// everything has all that a packet can meet.
var everything = Config{
	Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Correlation: 25, Distribution: ParetoNormal,
	Loss:      Loss{Chance: Chance{1, 25}},
	Duplicate: Chance{1, 25}, Corrupt: Chance{1, 25}, Reorder: Chance{5, 50}, Gap: 3,
	Rate: 1e9, Burst: 15000, Overhead: 24,
}

func TestPacketDoesNotAllocate(t *testing.T) {
	for name, cfg := range map[string]Config{
		"everything": everything,
		"states":     {Loss: Loss{States: &States{P13: 1, P31: 20, P32: 30}}},
		"gilbert":    {Loss: Loss{Gilbert: &Gilbert{P: 1, R: 10, Bad: 100}}},
	} {
		m := newTestModel(cfg)
		now := int64(0)
		if n := testing.AllocsPerRun(1000, func() { now += 1000; m.Packet(now, 1500); m.Bit(1500) }); n != 0 {
			t.Errorf("%s: %v allocations for a packet", name, n)
		}
	}
}

func BenchmarkPacket(b *testing.B) {
	for _, bench := range []struct {
		name string
		cfg  Config
	}{
		{"delay", Config{Delay: 10 * time.Millisecond}},
		{"normal", Config{Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Distribution: Normal}},
		{"correlated", Config{Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Distribution: Normal, Correlation: 25}},
		{"everything", everything},
	} {
		b.Run(bench.name, func(b *testing.B) {
			m := newTestModel(bench.cfg)
			b.ReportAllocs()
			now := int64(0)
			for b.Loop() {
				now += 1000
				m.Packet(now, 1500)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		New(everything, rand.NewPCG(1, 2))
	}
}
