package impair

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// String says what c does in one line: "delay 20ms ±5ms normal, loss 1 %,
// rate 10mbit".
func (c Config) String() string {
	parts := []string{c.delayText(), c.Loss.String()}
	for _, each := range []struct {
		what string
		Chance
	}{{"duplicate", c.Duplicate}, {"corrupt", c.Corrupt}, {"reorder", c.Reorder}} {
		if each.Percent > 0 {
			parts = append(parts, each.what+" "+each.String())
		}
	}
	if c.Reorder.Percent > 0 && c.Gap > 1 {
		parts[len(parts)-1] += fmt.Sprintf(" after each %d", c.Gap-1)
	}
	parts = nonEmpty(append(parts, c.rateText()))
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func nonEmpty(list []string) (kept []string) {
	for _, s := range list {
		if s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

func (c Config) delayText() string {
	if c.Delay == 0 && c.Jitter == 0 {
		return ""
	}
	text := "delay " + c.Delay.String()
	if c.Jitter == 0 {
		return text
	}
	shape := c.Distribution
	if shape == "" {
		shape = Uniform
	}
	return text + fmt.Sprintf(" ±%s %s%s", c.Jitter, shape, correlated(c.Correlation))
}

func (c Config) rateText() string {
	if c.Rate == 0 {
		return ""
	}
	text := "rate " + rateText(c.Rate)
	if c.Burst != 0 {
		text += fmt.Sprintf(" burst %d B", c.Burst)
	}
	if c.Overhead != 0 {
		text += fmt.Sprintf(" overhead %d B", c.Overhead)
	}
	return text
}

// rateText writes a rate in tc's units.
func rateText(rate float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}} {
		if rate >= u.size {
			return number(rate/u.size) + u.name
		}
	}
	return number(rate) + "bit"
}

// String says how often: "1 %, 25 % correlated".
func (c Chance) String() string { return number(c.Percent) + " %" + correlated(c.Correlation) }

func correlated(percent float64) string {
	if percent == 0 {
		return ""
	}
	return " (" + number(percent) + " % correlated)"
}

// String says what l loses, "" where it is nothing.
func (l Loss) String() string {
	switch {
	case l.States != nil:
		s := l.States
		return fmt.Sprintf("loss by 4 states (p13 %s, p31 %s, p32 %s, p23 %s, p14 %s: %s %% in all)", number(s.P13), number(s.P31),
			number(s.P32), number(s.P23), number(s.P14), number(l.Expected()*100))
	case l.Gilbert != nil:
		g := l.Gilbert
		return fmt.Sprintf("loss by Gilbert–Elliott (p %s, r %s, bad %s, good %s: %s %% in all)", number(g.P), number(g.R),
			number(g.Bad), number(g.Good), number(l.Expected()*100))
	case l.Percent > 0:
		return "loss " + l.Chance.String()
	}
	return ""
}

// number writes x as short as it can be told within a millionth.
func number(x float64) string {
	return strconv.FormatFloat(math.Round(x*1e6)/1e6, 'f', -1, 64)
}

// PerPacket tells whether c must see each packet as it is on the wire, not
// several in one (generic segmentation offload): chances are told of packets.
func (c Config) PerPacket() bool {
	return c.Loss.Any() || c.Duplicate.Percent > 0 || c.Corrupt.Percent > 0 || c.Reorder.Percent > 0
}

// Reorders tells whether c may change the order of packets.
func (c Config) Reorders() bool {
	return c.Jitter > 0 || c.Reorder.Percent > 0 && c.Delay > 0
}

// Spread is what delays are like once none is below 0.
type Spread struct {
	Mean, SD time.Duration
	Cut      float64 // share of packets whose delay would be below 0, and is 0
}

// Spread returns what the delays of c are like, rate and reordering aside. A
// delay can't be below 0, so where Jitter is not small beside Delay their mean
// is greater than Delay, and their standard deviation less than it would be:
// for a normal Jitter as great as Delay, 16 % of packets are not delayed, and
// the mean is 1.08 times Delay.
func (c Config) Spread() Spread {
	j := newJitter(c)
	if j.shape == nil {
		return Spread{Mean: c.Delay}
	}
	const parts = 1 << 14
	var sum, squares, cut float64
	for i := range parts {
		x := j.mean + j.scale*j.shape.at((float64(i)+0.5)/parts)
		if x < 0 {
			x, cut = 0, cut+1
		}
		sum += x
		squares += (x - j.mean) * (x - j.mean)
	}
	mean := sum / parts
	sd := math.Sqrt(squares/parts - (mean-j.mean)*(mean-j.mean))
	return Spread{time.Duration(mean), time.Duration(sd), cut / parts}
}
