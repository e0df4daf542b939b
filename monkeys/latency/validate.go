package latency

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/impair"
)

// What a packet can bear.
const (
	longestDelay = 5 * time.Minute
	mostOverhead = 1500    // bytes, either way
	mostBurst    = 1 << 30 // bytes
	leastLimit   = 1 << 20 // bytes
	mostLimit    = 1 << 40 // bytes
	mostGap      = 1_000_000
)

var distributions = []string{string(impair.Uniform), string(impair.Normal), string(impair.Pareto), string(impair.ParetoNormal)}

// Validate implements experiment.Validator.
func (f *Fault) Validate() error {
	for _, check := range []func() error{f.checkDelay, f.checkChances, f.checkRate, f.checkWays} {
		if err := check(); err != nil {
			return err
		}
	}
	if f.config() == (impair.Config{}) {
		return errors.New("say what becomes of the packets: delay, loss, duplicate, corrupt, reorder or rate" +
			"\n        for example {type: latency, delay: 100ms, jitter: 10ms}  (simian list latency)")
	}
	return nil
}

func (f *Fault) checkDelay() error {
	switch {
	case f.Delay.D() > longestDelay:
		return experiment.Fieldf("delay", "%s is longer than %s: partition keeps packets away altogether", f.Delay, longestDelay)
	case f.Jitter > 0 && f.Delay == 0:
		return experiment.Fieldf("jitter", "jitter is around a delay, and there is none: say delay, %s or more", f.Jitter)
	case f.Jitter > f.Delay:
		return experiment.Fieldf("jitter", "%s is more than the delay of %s: no packet comes before it was sent", f.Jitter, f.Delay)
	case f.Distribution != "" && !slices.Contains(distributions, string(f.Distribution)):
		return experiment.Fieldf("distribution", "unknown distribution %q\n        distributions: %s", string(f.Distribution), strings.Join(distributions, " "))
	case f.Distribution != "" && f.Jitter == 0:
		return experiment.Fieldf("distribution", "is of the jitter, and there is none")
	case f.Correlation > 0 && f.Jitter == 0:
		return experiment.Fieldf("correlation", "is of the jitter, and there is none (loss, duplicate, corrupt and reorder have their own)")
	case f.Reorder != nil && f.Delay == 0:
		return experiment.Fieldf("reorder", "packets overtake those that are delayed, and none is: say delay")
	}
	return nil
}

func (f *Fault) checkChances() error {
	never := func(c *Chance) bool { return c != nil && c.Percent == 0 }
	switch {
	case never(f.Duplicate):
		return experiment.Fieldf("duplicate", "0 %% never happens: leave it out, or give more")
	case never(f.Corrupt):
		return experiment.Fieldf("corrupt", "0 %% never happens: leave it out, or give more")
	case f.Reorder != nil && (f.Reorder.Percent == 0 || f.Reorder.Gap < 0 || f.Reorder.Gap > mostGap):
		return experiment.Fieldf("reorder", "want a percent above 0, and a gap of 1 to %d", mostGap)
	}
	return f.checkLoss()
}

func (f *Fault) checkLoss() error {
	l := f.Loss
	if l == nil {
		return nil
	}
	models := 0
	for _, given := range []bool{l.Percent != 0 || l.Correlation != 0, l.States != nil, l.Gilbert != nil} {
		if given {
			models++
		}
	}
	switch {
	case models > 1:
		return experiment.Fieldf("loss", "want one model: percent (with correlation), states or gilbert")
	case l.States != nil:
		return l.States.check()
	case l.Gilbert != nil:
		return l.Gilbert.check()
	case l.Percent == 0:
		return experiment.Fieldf("loss", "0 %% never happens: leave it out, or give more")
	}
	return nil
}

func (s *States) check() error {
	switch {
	case s.P13 == 0 && s.P14 == 0:
		return experiment.Fieldf("loss/states", "never loses a packet: say p13 or p14")
	case s.P13+s.P14 > 100:
		return experiment.Fieldf("loss/states", "p13 and p14 leave the same state: together they are no more than 100")
	case s.P31+s.P32 > 100:
		return experiment.Fieldf("loss/states", "p31 and p32 leave the same state: together they are no more than 100")
	case s.P32 > 0 && s.P31 == 0:
		return experiment.Fieldf("loss/states", "p32 without p31: a burst would never end; say p31")
	}
	return nil
}

func (g *Gilbert) check() error {
	switch {
	case g.P == 0 && g.Good == 0:
		return experiment.Fieldf("loss/gilbert", "never leaves the good state: say p")
	case g.Bad != nil && *g.Bad == 0 && g.Good == 0:
		return experiment.Fieldf("loss/gilbert", "never loses a packet, in neither state: say bad or good")
	}
	return nil
}

func (f *Fault) checkRate() error {
	switch r := f.Rate; {
	case r == nil:
	case r.Rate == 0:
		return experiment.Fieldf("rate", "a rate is missing, such as 10mbit")
	case r.Overhead < -mostOverhead || r.Overhead > mostOverhead:
		return experiment.Fieldf("rate/overhead", "%d is no overhead of a packet (-%d to %d bytes)", r.Overhead, mostOverhead, mostOverhead)
	case r.Burst > mostBurst:
		return experiment.Fieldf("rate/burst", "%s is more than a burst can be (1GiB)", r.Burst)
	}
	return nil
}

// checkWays checks how it is to be done.
func (f *Fault) checkWays() error {
	switch {
	case !slices.Contains([]string{"", backendNetem, backendQueue}, f.Backend):
		return experiment.Fieldf("backend", "unknown backend %q\n        backends: netem queue", f.Backend)
	case !slices.Contains([]string{"", "refuse", "replace"}, f.OnExisting):
		return experiment.Fieldf("onExisting", "unknown word %q\n        words: refuse replace", f.OnExisting)
	case f.OnExisting == "replace" && f.Backend == backendQueue:
		return experiment.Fieldf("onExisting", "the queue leaves a link's qdisc alone: there is nothing to replace")
	case f.Limit != 0 && f.Limit < leastLimit:
		return experiment.Fieldf("limit", "%s holds next to nothing: want 1MiB or more", f.Limit)
	case f.Limit > mostLimit:
		return experiment.Fieldf("limit", "%s is more than any machine has: want 1TiB or less", f.Limit)
	}
	return nil
}
