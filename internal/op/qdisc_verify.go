package op

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/vishvananda/netlink/nl"

	"github.com/simianhq/simian/experiment"
)

// Verify implements experiment.Verifier: the parameters are read back, and how
// many packets have passed since they were set.
func (q *Qdisc) Verify(context.Context) (experiment.Evidence, error) {
	var e experiment.Evidence
	err := q.inside(func(c *tcConn) error {
		_, err := c.attrsOf(q.Link.Index)
		if q.Remove && errors.Is(err, experiment.ErrGone) { // an ifb of this run, which was removed next
			e = experiment.Evidence{InForce: true, What: fmt.Sprintf("link %s is gone, with all that stood on it", q.Link.Name)}
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at link %s: %w", q.Link.Name, err)
		}
		check := q.inForce
		if q.Remove {
			check = q.takenBack
		}
		e, err = check(c)
		return err
	})
	return e, err
}

func (q *Qdisc) inForce(c *tcConn) (experiment.Evidence, error) {
	list, err := c.qdiscs(q.Link.Index)
	if err != nil {
		return experiment.Evidence{}, err
	}
	if why := q.differs(list); why != "" {
		return experiment.Evidence{
			What: fmt.Sprintf("%s: %s", q.Link.Name, why),
			Hint: "somebody has changed or removed it",
		}, nil
	}
	return q.evidence(list), nil
}

// evidence tells what netem has done so far.
func (q *Qdisc) evidence(list []tcMessage) experiment.Evidence {
	s := statsOf(list, q.netemHandle())
	e := experiment.Evidence{InForce: true, Felt: experiment.FeltYes}
	parts := []string{fmt.Sprintf("netem on %s: %d packets (%d bytes) passed, %d dropped, %d held", q.Link.Name, s.packets, s.bytes, s.drops, s.held)}
	if s.packets+s.drops+s.held == 0 {
		e.Felt = experiment.FeltNothing
		e.Hint = fmt.Sprintf("no packet left by %s", q.Link.Name)
		if q.Banded {
			all := statsOf(list, q.major())
			e.Hint = fmt.Sprintf("%d packets left by %s, none of priority %s", all.packets, q.Link.Name, handleString(q.Priority()))
		}
	}
	var below qdiscStats
	if q.Impair.Burst > 0 {
		below = statsOf(list, q.netemHandle()+1<<16)
	}
	if n := q.overflow(s, below); n > 0 {
		parts = append(parts, fmt.Sprintf("%d of those dropped because the queue was full", n))
		e.Hint = fmt.Sprintf("the queue's limit of %d packets was reached: what is lost there is no loss that was asked for; "+
			"less traffic, a shorter delay or a higher rate avoids it", q.Limit)
	}
	e.What = strings.Join(parts, "; ")
	return e
}

// overflow tells how many packets were dropped because the queue was full.
// netem counts them together with those that it loses. Without a loss all are;
// with a random one, what is more than six standard deviations above the share;
// otherwise those of tbf alone can be told.
func (q *Qdisc) overflow(s, below qdiscStats) uint64 {
	l := q.Impair.Loss
	switch {
	case !l.Any():
		return s.drops
	case l.States != nil || l.Gilbert != nil || l.Correlation > 0:
		return below.drops
	}
	n, p := float64(s.drops+s.packets), l.Expected()
	if above := float64(s.drops) - n*p - 6*math.Sqrt(n*p*(1-p)); above > 0 && s.drops > below.drops {
		return max(uint64(float64(s.drops)-n*p), below.drops)
	}
	return below.drops
}

// qdiscStats are what a qdisc has counted (TCA_STATS2).
type qdiscStats struct{ packets, bytes, held, drops uint64 }

func statsOf(list []tcMessage, handle uint32) (s qdiscStats) {
	for _, m := range list {
		if m.Handle != handle {
			continue
		}
		for _, a := range m.nested(nl.TCA_STATS2) {
			switch {
			case a.Type == nl.TCA_STATS_BASIC && len(a.Data) >= 12:
				s.bytes, s.packets = native.Uint64(a.Data), uint64(native.Uint32(a.Data[8:]))
			case a.Type == nl.TCA_STATS_QUEUE && len(a.Data) >= 12:
				s.held, s.drops = uint64(native.Uint32(a.Data)), uint64(native.Uint32(a.Data[8:]))
			case a.Type == nl.TCA_STATS_PKT64 && len(a.Data) == 8:
				s.packets = native.Uint64(a.Data)
			}
		}
	}
	return s
}

// takenBack tells whether what stood there stands there again, or what
// somebody else has put there since.
func (q *Qdisc) takenBack(c *tcConn) (experiment.Evidence, error) {
	present, err := c.root(q.Link.Index)
	if err != nil {
		return experiment.Evidence{}, err
	}
	e := experiment.Evidence{InForce: present.Handle != q.major(), What: "the root qdisc of " + q.Link.Name + " is " + rootString(present)}
	if !e.InForce {
		e.Hint = "it is still there: tc qdisc del dev " + q.Link.Name + " root"
		return e, nil
	}
	if q.Was.Tree == nil || !q.Was.Tree.begun(present) {
		return e, nil
	}
	now, err := takeSnapshot(c, q.Link.Index)
	if err != nil {
		return e, err
	}
	e.What = q.Link.Name + " has " + now.String()
	if diff := q.Was.Tree.diff(now); diff != "" {
		e.InForce, e.Hint = false, diff
	}
	return e, nil
}
