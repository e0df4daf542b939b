package impair

import (
	"testing"
	"time"
)

func TestString(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for want, cfg := range map[string]Config{
		"nothing":    {},
		"delay 20ms": {Delay: 20 * ms},
		"delay 20ms ±5ms normal, loss 1 %, rate 10mbit":            {Delay: 20 * ms, Jitter: 5 * ms, Distribution: Normal, Loss: Loss{Chance: Chance{1, 0}}, Rate: 10e6},
		"delay 20ms ±5ms uniform (25 % correlated)":                {Delay: 20 * ms, Jitter: 5 * ms, Correlation: 25},
		"loss 0.1 % (30 % correlated), duplicate 1 %, corrupt 2 %": {Loss: Loss{Chance: Chance{0.1, 30}}, Duplicate: Chance{1, 0}, Corrupt: Chance{2, 0}},
		"delay 10ms, reorder 25 % (50 % correlated) after each 4":  {Delay: 10 * ms, Reorder: Chance{25, 50}, Gap: 5},
		"rate 1.5gbit burst 15000 B overhead -14 B":                {Rate: 1.5e9, Burst: 15000, Overhead: -14},
		"rate 500bit": {Rate: 500},
		"rate 64kbit": {Rate: 64e3},
		"loss by Gilbert–Elliott (p 1, r 10, bad 100, good 0: 9.090909 % in all)":  {Loss: Loss{Gilbert: &Gilbert{P: 1, R: 10, Bad: 100}}},
		"loss by 4 states (p13 1, p31 20, p32 0, p23 0, p14 0: 4.761905 % in all)": {Loss: Loss{States: &States{P13: 1, P31: 20}}},
	} {
		if got := cfg.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhatBackendsAsk(t *testing.T) {
	t.Parallel()
	some := Chance{Percent: 1}
	for _, test := range []struct {
		name               string
		cfg                Config
		perPacket, reorder bool
	}{
		{"delay", Config{Delay: 1}, false, false},
		{"rate", Config{Rate: 1e6, Burst: 1, Overhead: 1}, false, false},
		{"jitter", Config{Delay: 2, Jitter: 1}, false, true},
		{"loss", Config{Loss: Loss{Chance: some}}, true, false},
		{"states", Config{Loss: Loss{States: &States{}}}, true, false},
		{"gilbert", Config{Loss: Loss{Gilbert: &Gilbert{}}}, true, false},
		{"duplicate", Config{Duplicate: some}, true, false},
		{"corrupt", Config{Corrupt: some}, true, false},
		{"reorder", Config{Delay: 1, Reorder: some}, true, true},
		{"reorder without delay", Config{Reorder: some}, true, false},
	} {
		if test.cfg.PerPacket() != test.perPacket || test.cfg.Reorders() != test.reorder {
			t.Errorf("%s: per packet %t, reorders %t", test.name, test.cfg.PerPacket(), test.cfg.Reorders())
		}
	}
}
