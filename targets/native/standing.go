package native

import (
	"slices"
	"strings"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/box"
	"github.com/simianhq/simian/internal/op"
)

// restartGrace is the most that a container is given to end where it is started
// anew at once: what is broken is put back within seconds.
const restartGrace = 3 * time.Second

// errand is an order that a container has.
type errand struct {
	op.Order
	name   string
	taken  time.Time
	until  time.Time // of a stop with RestartAfter, once it has ended
	wiped  bool      // of a removal
	back   bool      // it is to be taken back
	answer op.Answer
	told   op.Answer
}

// settings are what orders change of how a container is started.
type settings struct {
	drop   string // capabilities, with a space after each
	clocks box.Clocks
}

// order takes an order for the process that runs now.
func (c *container) order(name string, o op.Order) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	s := &errand{Order: o, name: name, taken: time.Now()}
	if c.process == nil || c.process.Workload() != o.Process {
		s.answer.Refused = "it has another process by now"
	}
	c.standing = append(c.standing, s)
	c.mu.Unlock()
	c.answer()
	c.wake()
}

// forget takes an order back. False says that there is no such order.
func (c *container) forget(name string) bool {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	at := slices.IndexFunc(c.standing, func(s *errand) bool { return s.name == name })
	if at >= 0 {
		c.standing[at].back = true
	}
	c.mu.Unlock()
	c.answer()
	c.wake()
	return at >= 0
}

// wake has keep look at the orders.
func (c *container) wake() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// inForce returns the orders that stand. The caller holds mu.
func (c *container) inForce() []*errand {
	var list []*errand
	for _, s := range c.standing {
		if !s.back && s.answer.Refused == "" {
			list = append(list, s)
		}
	}
	return list
}

// held returns the order by which it is not to run, and until when: the zero
// time is until that is taken back. The caller holds mu.
func (c *container) held() (by *errand, until time.Time) {
	for _, s := range c.inForce() {
		switch {
		case !s.Holds() || s.over():
		case s.until.IsZero():
			return s, time.Time{}
		case by == nil || s.until.After(until):
			by, until = s, s.until
		}
	}
	return by, until
}

// over tells whether it is to run again, by the order itself.
func (s *errand) over() bool {
	return s.answer.Again || !s.until.IsZero() && !time.Now().Before(s.until)
}

// wanted returns the settings that it is to run with. The caller holds mu.
func (c *container) wanted() (want settings) {
	var drop []string
	for _, s := range c.inForce() {
		drop = append(drop, s.Drop...)
		want.clocks.Monotonic += time.Duration(s.MonotonicNs)
		want.clocks.Boottime += time.Duration(s.BoottimeNs)
	}
	slices.Sort(drop)
	for _, name := range slices.Compact(drop) {
		want.drop += name + " "
	}
	return want
}

// reason names the order by which it ends, or is started anew: the one that
// holds it, or else the latest. The caller holds mu.
func (c *container) reason() string {
	by, _ := c.held()
	if by == nil && len(c.standing) > 0 {
		by = c.standing[len(c.standing)-1]
	}
	if by == nil {
		return ""
	}
	return by.By()
}

// due tells whether an order wants the process that runs to end.
func (c *container) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	by, _ := c.held()
	return by != nil || c.worn != c.wanted()
}

// dress returns what is launched: the container's own spec, but for what orders
// change of it.
func (c *container) dress() (*box.Spec, error) {
	c.mu.Lock()
	want := c.wanted()
	c.owed = c.owed || c.worn != want
	changed := c.worn != want
	if changed {
		c.by = c.reason()
	}
	c.worn, c.tried = want, false
	c.mu.Unlock()
	spec := c.spec
	var err error
	if want != (settings{}) {
		spec.Clocks = want.clocks
		spec.Caps = op.DropCaps(spec.Caps, strings.Fields(want.drop))
		if spec.Seccomp, err = c.lab.filter(c.service, spec.Caps); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.wears = &spec
	c.mu.Unlock()
	if changed {
		err = c.writeExec()
	}
	return &spec, err
}

// answer tells those who have left orders what has become of them. The caller
// holds telling.
func (c *container) answer() {
	c.mu.Lock()
	var news, settled []*errand
	for _, s := range c.standing {
		if s.back && c.settled(s) {
			settled = append(settled, s)
			continue
		}
		if s.answer.Refused == "" {
			c.tellOf(s)
		}
		if s.told != s.answer || s.told == (op.Answer{}) {
			s.told = s.answer
			news = append(news, s)
		}
	}
	c.standing = slices.DeleteFunc(c.standing, func(s *errand) bool { return slices.Contains(settled, s) })
	c.mu.Unlock()
	for _, s := range news {
		c.lab.book.answer(s.name, s.told)
	}
	for _, s := range settled {
		c.lab.book.remove(s.name)
	}
}

// settled tells whether nothing is left to do to take an order back. The
// caller holds mu.
func (c *container) settled(s *errand) bool {
	by, _ := c.held()
	return s.answer.Refused != "" || by != nil || !c.owed && c.worn == c.wanted()
}

// tellOf brings the answer to an order up to date. The caller holds mu.
func (c *container) tellOf(s *errand) {
	a := &s.answer
	a.Process, a.State, a.Why = experiment.ProcessID{}, string(c.state), c.why
	if c.process != nil {
		a.Process = c.process.Workload()
	}
	switch {
	case s.Holds() && !a.Done && c.process == nil && (s.What == op.OrderStop || s.wiped):
		a.Ended = c.last.String()
		s.done()
	case s.Holds() && a.Done && c.process != nil && !s.back:
		a.Again = true
	case !s.Holds() && !a.Done && !s.back && c.worn == c.wanted() && !c.ending && c.tried:
		s.done()
	}
}

// done notes that all is as ordered.
func (s *errand) done() {
	s.answer.Done, s.answer.Took = true, experiment.Duration(time.Since(s.taken))
	if s.RestartAfter > 0 {
		s.until = time.Now().Add(s.RestartAfter.D())
	}
}

// exitedBy notes in the orders that its process has ended by itself. The caller
// holds mu.
func (c *container) exitedBy(exit string) {
	for _, s := range c.inForce() {
		if !s.Holds() && s.answer.Done {
			s.answer.Exits++
			s.answer.Exit = exit
		}
	}
}
