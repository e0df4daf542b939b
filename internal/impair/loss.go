package impair

// losses is a loss model at work.
type losses struct {
	random  chance
	states  *chain
	gilbert *gilbert
}

func newLosses(l Loss) losses {
	switch {
	case l.States != nil:
		return losses{states: newChain(*l.States)}
	case l.Gilbert != nil:
		return losses{gilbert: newGilbert(*l.Gilbert)}
	}
	return losses{random: newChance(l.Chance)}
}

func (l *losses) happens(d *draw) bool {
	switch {
	case l.states != nil:
		return l.states.next(d)
	case l.gilbert != nil:
		return l.gilbert.next(d)
	}
	return l.random.happens(d)
}

// state is one of the 4-state model's, by its number there.
type state uint8

const (
	good        state = 1
	goodInBurst state = 2
	lostInBurst state = 3
	lostAlone   state = 4
)

// chain is the 4-state model, in probabilities.
type chain struct {
	p13, p31, p32, p23, p14 float64
	at                      state
}

func newChain(s States) *chain {
	return &chain{s.P13 / 100, s.P31 / 100, s.P32 / 100, s.P23 / 100, s.P14 / 100, good}
}

// next goes to the next packet's state, and tells whether that is a loss.
func (c *chain) next(d *draw) bool {
	u := d.uniform()
	switch c.at {
	case good:
		c.at = pick(u, c.p14, lostAlone, c.p13, lostInBurst, good)
	case goodInBurst:
		c.at = pick(u, c.p23, lostInBurst, 0, good, goodInBurst)
	case lostInBurst:
		c.at = pick(u, c.p32, goodInBurst, c.p31, good, lostInBurst)
	case lostAlone:
		c.at = good
	}
	return c.at == lostInBurst || c.at == lostAlone
}

// pick returns first with probability p, second with q, otherwise stay.
func pick(u, p float64, first state, q float64, second, stay state) state {
	switch {
	case u < p:
		return first
	case u < p+q:
		return second
	}
	return stay
}

// gilbert is the Gilbert–Elliott model, in probabilities.
type gilbert struct {
	p, r, whenBad, whenGood float64
	bad                     bool
}

func newGilbert(g Gilbert) *gilbert {
	return &gilbert{p: g.P / 100, r: g.R / 100, whenBad: g.Bad / 100, whenGood: g.Good / 100}
}

// next tells whether the packet is lost in the state it finds, and goes to the
// one for the next, as netem does.
func (g *gilbert) next(d *draw) bool {
	leave, loss := g.p, g.whenGood
	if g.bad {
		leave, loss = g.r, g.whenBad
	}
	if d.uniform() < leave {
		g.bad = !g.bad
	}
	return loss > 0 && d.uniform() < loss
}

// Any tells whether l may lose anything.
func (l Loss) Any() bool { return l.Percent > 0 || l.States != nil || l.Gilbert != nil }

// Expected returns the share of packets that are lost in the long run, 0 to 1:
// the stationary probability of the model.
func (l Loss) Expected() float64 {
	switch {
	case l.States != nil:
		return l.States.expected()
	case l.Gilbert != nil:
		return l.Gilbert.expected()
	}
	return l.Percent / 100
}

// Full returns s with what is 0 as tc has it where it is left out
// (tc-netem(8)): where neither way out of a burst's losses is given, P31 is
// 100-P13; P23 is 100. The model itself takes 0 for 0.
func (s States) Full() States {
	if s.P31 == 0 && s.P32 == 0 {
		s.P31 = 100 - s.P13
	}
	if s.P23 == 0 {
		s.P23 = 100
	}
	return s
}

// expected solves the balance of the chain's states: what leaves 1 for 3 comes
// back from 3, 2 is entered from 3 and left for it, each 4 follows a 1.
func (s States) expected() float64 {
	switch {
	case s.P13 == 0: // never in a burst
		return s.P14 / (100 + s.P14)
	case s.P32 > 0 && s.P23 == 0: // one ends with good reception for ever
		return 0
	case s.P31 == 0 && s.P32 == 0: // or with losses
		return 1
	case s.P31 == 0: // never out of one
		return s.P23 / (s.P23 + s.P32)
	}
	alone := s.P14 / 100
	burst := s.P13 / s.P31
	within := 0.0
	if s.P32 > 0 {
		within = burst * s.P32 / s.P23
	}
	return (burst + alone) / (1 + within + burst + alone)
}

// Full returns g with what is 0 as tc has it where it is left out
// (tc-netem(8)): R is 100-P, Bad is 100. The model itself takes 0 for 0.
func (g Gilbert) Full() Gilbert {
	if g.R == 0 {
		g.R = 100 - g.P
	}
	if g.Bad == 0 {
		g.Bad = 100
	}
	return g
}

func (g Gilbert) expected() float64 {
	if g.P == 0 { // where it starts
		return g.Good / 100
	}
	return (g.P*g.Bad + g.R*g.Good) / (g.P + g.R) / 100
}
