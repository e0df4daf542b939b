package impair

// chance is a Chance that remembers. With the correlation's probability what
// happened to the packet before happens again, otherwise it is drawn anew. So
// the share stays what it is, whatever the correlation, and the correlation of
// one packet's outcome with the next one's is the one asked for. (netem
// compares the share with a mean of random numbers that keeps away from both
// ends: 1 % loss with 25 % correlation loses far less than 1 %.)
type chance struct {
	share   float64
	repeat  float64
	last    bool
	started bool
}

func newChance(c Chance) chance {
	return chance{share: c.Percent / 100, repeat: c.Correlation / 100}
}

func (c *chance) happens(d *draw) bool {
	if c.share == 0 {
		return false
	}
	if c.repeat > 0 && c.started && d.uniform() < c.repeat {
		return c.last
	}
	c.last, c.started = d.uniform() < c.share, true
	return c.last
}

// Gilbert returns the Gilbert–Elliott model that is the same as c: a kernel
// that has no correlation which keeps the share has that. (A correlation of
// 100 % is left at what it starts with, which is no loss.)
func (c Chance) Gilbert() Gilbert {
	if c.Percent >= 100 {
		return Gilbert{P: 100, Bad: 100, Good: 100}
	}
	fresh := 100 - c.Correlation
	return Gilbert{P: fresh * c.Percent / 100, R: fresh * (100 - c.Percent) / 100, Bad: 100}
}
