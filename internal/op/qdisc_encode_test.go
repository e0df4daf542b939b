package op

import (
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
)

// TestQdiscNetemBytes holds the encoding to bytes that were written down by
// hand from include/uapi/linux/pkt_sched.h, on a little-endian machine.
func TestQdiscNetemBytes(t *testing.T) {
	t.Parallel()
	c := impair.Config{
		Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: impair.Loss{Chance: impair.Chance{Percent: 100}},
		Reorder: impair.Chance{Percent: 50}, Gap: 5, Rate: 8e6, Overhead: -3,
	}
	got := hex.EncodeToString(netemOf(c, 1000).encode([]int16{-1, 2, 3}))
	want := "b4c40400" + "e8030000" + "ffffffff" + "05000000" + "00000000" + "2d310100" + // struct tc_netem_qopt
		"0c000a00" + "002d310100000000" + // latency64
		"0c000b00" + "404b4c0000000000" + // jitter64
		"10000100" + "000000000000000000000000" + // correlations
		"0c000300" + "00000080" + "00000000" + // reorder
		"0c000400" + "0000000000000000" + // corrupt
		"14000600" + "40420f00" + "fdffffff" + "0000000000000000" + // rate
		"0a000200" + "ffff02000300" + "0000" // table, padding
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestQdiscNetemRoundTrip decodes what was encoded.
func TestQdiscNetemRoundTrip(t *testing.T) {
	t.Parallel()
	for name, c := range netemConfigs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := netemOf(c, 4321)
			if why := n.differs(n.encode(tableOf(c))); why != "" {
				t.Errorf("%s became %s", n, why)
			}
			other := n
			other.limit++
			if other.differs(n.encode(nil)) == "" {
				t.Error("another limit is not told apart")
			}
		})
	}
}

// netemConfigs are one for each field, and one with many.
func netemConfigs() map[string]impair.Config {
	ms := time.Millisecond
	chance := impair.Chance{Percent: 12.5}
	return map[string]impair.Config{
		"nothing":      {},
		"delay":        {Delay: 20 * ms},
		"long delay":   {Delay: 300 * time.Second},
		"uniform":      {Delay: 20 * ms, Jitter: 5 * ms},
		"normal":       {Delay: 20 * ms, Jitter: 5 * ms, Distribution: impair.Normal},
		"pareto":       {Delay: 20 * ms, Jitter: 5 * ms, Distribution: impair.Pareto},
		"paretonormal": {Delay: 20 * ms, Jitter: 5 * ms, Distribution: impair.ParetoNormal},
		"loss":         {Loss: impair.Loss{Chance: chance}},
		"loss in runs": {Loss: impair.Loss{Chance: impair.Chance{Percent: 10, Correlation: 50}}},
		"states":       {Loss: impair.Loss{States: &impair.States{P13: 5, P31: 40, P32: 10, P23: 60, P14: 1}}},
		"gilbert":      {Loss: impair.Loss{Gilbert: &impair.Gilbert{P: 5, R: 45, Bad: 80, Good: 1}}},
		"duplicate":    {Duplicate: impair.Chance{Percent: 10, Correlation: 5}},
		"corrupt":      {Corrupt: chance},
		"reorder":      {Delay: 10 * ms, Reorder: chance},
		"gap":          {Delay: 10 * ms, Reorder: chance, Gap: 4},
		"rate":         {Rate: 1e6, Overhead: 18},
		"rate64":       {Rate: 100e9},
		"many": {
			Delay: 7 * ms, Jitter: 1 * ms, Distribution: impair.Normal, Loss: impair.Loss{Chance: chance},
			Duplicate: chance, Corrupt: chance, Reorder: chance, Gap: 2, Rate: 1e9, Overhead: -4,
		},
	}
}

// TestQdiscChance draws as the kernel does, and counts.
func TestQdiscChance(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []impair.Chance{{Percent: 10}, {Percent: 10, Correlation: 5}, {Percent: 1, Correlation: 25}, {Percent: 60, Correlation: 50}, {Percent: 25, Correlation: 90}} {
		threshold, rho := chanceOf(c)
		last, hits := random.Uint32(), 0
		const n = 2_000_000
		for range n {
			value := uint64(random.Uint32())
			if rho > 0 {
				r := uint64(rho) + 1
				last = uint32((value*(1<<32-r) + uint64(last)*r) >> 32)
				value = uint64(last)
			}
			if uint64(threshold) >= value {
				hits++
			}
		}
		if got := 100 * float64(hits) / n; math.Abs(got-c.Percent) > c.Percent/20 {
			t.Errorf("%s: %.3f %%", c, got)
		}
	}
}

func TestQdiscCheckNetem(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]impair.Config{
		"netem: a jitter of 3s: 2.147s is the most: unsupported":                                       {Delay: 10 * time.Second, Jitter: 3 * time.Second},
		"netem: a correlation of delays: it takes one, and its delays are not correlated: unsupported": {Delay: time.Second, Jitter: 1, Correlation: 1},
		"netem: a rate below 8 bits per second: unsupported":                                           {Rate: 7},
		"netem: an overhead of -1 bytes with a burst: that is tbf's, 0 to 65535: unsupported":          {Rate: 1e6, Burst: 3000, Overhead: -1},
	} {
		if err := CheckNetem(c); !errors.Is(err, experiment.ErrUnsupported) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for name, c := range netemConfigs() {
		if err := CheckNetem(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQdiscTbfBytes(t *testing.T) {
	t.Parallel()
	tb := tbfOf(impair.Config{Rate: 8e6, Burst: 15000, Overhead: 14}, 1000)
	got := hex.EncodeToString(tb.encode())
	want := "28000100" + "00010e0000000000" + "40420f00" + // rate
		"000000000000000000000000" + // no peak rate
		"101a1700" + "61940300" + "00000000" + // limit, burst in ticks, mtu
		"08000600" + "983a0000" // burst
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if why := tb.differs(tb.encode()); why != "" {
		t.Error(why)
	}
}

func TestQdiscLimit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		c     impair.Config
		speed float64
		want  int
	}{
		"nothing":       {impair.Config{}, 0, 1000},
		"unknown speed": {impair.Config{Delay: 100 * time.Millisecond}, 0, 83334},
		"a gigabit":     {impair.Config{Delay: 100 * time.Millisecond}, 1e9, 8334},
		"jitter":        {impair.Config{Delay: 100 * time.Millisecond, Jitter: 25 * time.Millisecond}, 1e9, 16667},
		"slower":        {impair.Config{Delay: time.Second, Rate: 100e6}, 1e9, 8334},
		"far":           {impair.Config{Delay: time.Minute}, 0, 500_000},
	} {
		if got := LimitPackets(tt.c, tt.speed); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestQdiscHandle(t *testing.T) {
	t.Parallel()
	seen := map[uint16]bool{}
	for n := range 2000 {
		h := HandleOf("abcd23", n)
		if h < 0x2000 || h+2 >= 0x8000 || h%4 != 0 {
			t.Errorf("%d: %x", n, h)
		}
		seen[h] = true
	}
	if len(seen) < 1000 {
		t.Error("not a hash:", len(seen))
	}
}

// FuzzQdiscDecode reads messages that no kernel wrote.
func FuzzQdiscDecode(f *testing.F) {
	m := tcMessage{Index: 2, Handle: 1 << 16, Parent: handleRoot, Attrs: []tcAttr{{tcaKind, []byte("netem\x00")}, {tcaOptions, netemOf(impair.Config{}, 1).encode(nil)}}}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeTC(b)
		if err != nil {
			return
		}
		_, _ = decodeNetem(m.attr(tcaOptions))
		_, _, _ = decodeTbf(m.attr(tcaOptions))
		if m.settle() != nil {
			return
		}
		_ = m.inexact()
		once := m.encode()
		again, err := decodeTC(once)
		if err != nil || string(again.encode()) != string(once) {
			t.Errorf("%x became %x, %v", once, again.encode(), err)
		}
		if again, err = again.remake(3); err == nil && again.Index != 3 {
			t.Error("another link's")
		}
	})
}
