package op

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// defaultQueueLen is what the kernel makes of a length of 0 when a link that
// has no queue of its own is given one (qdisc_create of net/sched/sch_api.c).
const defaultQueueLen = 1000

// takeBack removes what put made, or replaces it by what stood there. Packets
// that netem holds go with it. The link is known by its index: one that was
// renamed is still the same.
func (q *Qdisc) takeBack(c *tcConn) error {
	if _, err := c.attrsOf(q.Link.Index); err != nil {
		return fmt.Errorf("look at link %s: %w", q.Link.Name, err)
	}
	present, err := c.root(q.Link.Index)
	if err != nil {
		return err
	}
	switch {
	case present.Handle == q.major():
		err = q.removeOwn(c)
	case q.Was.Tree != nil:
		err = q.finish(c, present)
	case present.Handle != 0:
		err = q.superseded(present.String())
	}
	return errors.Join(err, q.restoreQueueLen(c))
}

// removeOwn removes a root that has our handle, if it is what we made.
func (q *Qdisc) removeOwn(c *tcConn) error {
	list, err := c.qdiscs(q.Link.Index)
	if err != nil {
		return err
	}
	if other := q.notOurs(list); other != "" {
		return q.superseded(other)
	}
	if q.Was.Tree != nil {
		return q.Was.Tree.restore(c, q.Link.Index)
	}
	if err := c.removeRoot(q.Link.Index, q.major()); err != nil {
		return err
	}
	return q.restoreNoqueue(c)
}

// finish puts back what a restore that was killed half way has left out.
func (q *Qdisc) finish(c *tcConn, present tcMessage) error {
	if !q.Was.Tree.begun(present) {
		return q.superseded(rootString(present))
	}
	return q.Was.Tree.restore(c, q.Link.Index)
}

// restoreNoqueue puts noqueue back where somebody had put it on a link that
// has a queue by default, on a kernel that gives it no handle to be told by.
func (q *Qdisc) restoreNoqueue(c *tcConn) error {
	if q.Was.Kind != "noqueue" {
		return nil
	}
	present, err := c.root(q.Link.Index)
	if err != nil || present.Handle != 0 || present.kind() == "noqueue" || present.kind() == "" {
		return err
	}
	return c.add(q.Link.Index, layer{kind: "noqueue", parent: handleRoot}, createNew)
}

// restoreQueueLen puts the link's txqueuelen back where the kernel has changed
// it.
func (q *Qdisc) restoreQueueLen(c *tcConn) error {
	if q.Was.Kind == "" || q.Was.TxQueueLen != 0 {
		return nil
	}
	l, err := c.linkAt(q.Link.Index)
	if err != nil || l.Attrs().TxQLen == 0 {
		return err
	}
	if now := l.Attrs().TxQLen; now != defaultQueueLen {
		return &experiment.SupersededError{
			Object: "txqueuelen of " + q.Link.Name, Read: "0", Wrote: fmt.Sprint(defaultQueueLen), Present: fmt.Sprint(now),
		}
	}
	body := appendUint32(ifinfo(q.Link.Index, 0), unix.IFLA_TXQLEN, 0)
	if _, err := c.request(unix.RTM_SETLINK, unix.NLM_F_ACK, 0, body); err != nil {
		return fmt.Errorf("set txqueuelen of %s back to 0: %w", q.Link.Name, err)
	}
	return nil
}

func (q *Qdisc) superseded(present string) error {
	read := q.Was.Kind
	if q.Was.Tree != nil {
		read = q.Was.Tree.String()
	}
	return &experiment.SupersededError{
		Object: "the root qdisc of " + q.Link.Name, Read: read,
		Wrote: q.wrote(), Present: present,
	}
}

// wrote tells what put made: "netem 2ae4: delay 20ms, limit 1000".
func (q *Qdisc) wrote() string {
	s := fmt.Sprintf("netem %s %s", handleString(q.netemHandle()), netemOf(q.Impair, q.Limit))
	if q.Banded {
		s = fmt.Sprintf("prio %s with %s", handleString(q.major()), s)
	}
	return s
}

// rootString names a root; the kernel's own has no handle.
func rootString(m tcMessage) string {
	if m.Handle == 0 {
		return "the kernel's own (" + m.kind() + ")"
	}
	return m.String()
}
