package op

import (
	"context"
	"errors"
	"fmt"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
)

// Qdisc puts netem (tc-netem(8)) at the root of a link, or takes it away and
// puts back what was there.
//
//	not banded            banded: all packets but those of priority H:2 pass
//	root  netem H:        root  prio H: ─┬─ H:1  untouched
//	                                     └─ H:2  netem H+1:
//
// Where bytes may go in a burst, a tbf (tc-tbf(8)) is below netem.
type Qdisc struct {
	Net    experiment.Namespace `json:"net"`
	Link   filter.Link          `json:"link"`
	Handle uint16               `json:"handle"` // the root's major number; those below it have the next ones
	Banded bool                 `json:"banded,omitzero"`
	Impair impair.Config        `json:"impair"`
	Limit  int                  `json:"limit"`           // packets that may be held at once
	Was    Root                 `json:"was,omitzero"`    // what stood there
	Remove bool                 `json:"remove,omitzero"` // take it away
	Noted  []string             `json:"notes,omitempty"` // of the filter, where no table tells them

	host *Host
}

// Root is what stood at the root of a link, and what else putting something
// there changes.
type Root struct {
	Kind       string    `json:"kind,omitempty"`      // "" where nobody has looked: a link that is yet to be made
	TxQueueLen int       `json:"txQueueLen,omitzero"` // packets; the kernel turns 0 into 1000 on links such as veth
	Tree       *Snapshot `json:"tree,omitempty"`      // where somebody has put it there
}

// QdiscPlan says what is to be at a link's root.
type QdiscPlan struct {
	Net     experiment.Namespace
	Link    filter.Link
	Handle  uint16 // of HandleOf
	Banded  bool
	Impair  impair.Config
	Replace bool // what somebody has put there gives way, and is put back
	Notes   []string
	New     bool // the link is yet to be made: by Link, in a step before
}

// PlanQdisc returns the step that does p. It gives ErrBusy where somebody has
// put something there, unless it is to be replaced, and ErrUnsupported where
// that could not be put back exactly, or netem cannot do what is asked.
func PlanQdisc(h *Host, p QdiscPlan) (experiment.Step, error) {
	do := &Qdisc{Net: p.Net, Link: p.Link, Handle: p.Handle, Banded: p.Banded, Impair: p.Impair, Noted: p.Notes, host: h}
	l := linkFacts{mtu: 1500, txQueueLen: ifbQueueLen}
	if p.Link.Index <= 0 {
		return experiment.Step{}, fmt.Errorf("plan netem on %q: it has no index", p.Link.Name)
	}
	if !p.New {
		err := do.inside(func(c *tcConn) (err error) {
			if l, err = c.link(p.Link); err != nil {
				return err
			}
			do.Was, err = readRoot(c, p.Link, p.Replace)
			do.Was.TxQueueLen = l.txQueueLen
			return err
		})
		if err != nil {
			return experiment.Step{}, err
		}
	}
	if do.Impair.Burst < l.mtu+maxLinkHeader { // not even one packet; tbf would drop it
		do.Impair.Burst = 0
	}
	if err := CheckNetem(do.Impair); err != nil {
		return experiment.Step{}, err
	}
	if err := do.checkHandles(); err != nil {
		return experiment.Step{}, err
	}
	do.Limit = LimitPackets(do.Impair, l.speed)
	undo := *do
	undo.Remove = true
	return experiment.Step{Do: do, Undo: &undo}, nil
}

// maxLinkHeader is what a packet has besides the link's MTU: Ethernet with two
// VLAN tags, in bytes.
const maxLinkHeader = 14 + 2*4

// readRoot reads what is at a link's root, and what of it must be put back.
func readRoot(c *tcConn, link filter.Link, replace bool) (Root, error) {
	root, err := c.root(link.Index)
	if err != nil || root.Handle == 0 { // the kernel's own
		return Root{Kind: root.kind()}, err
	}
	tree, err := takeSnapshot(c, link.Index)
	if err != nil {
		return Root{}, err
	}
	if !replace {
		return Root{}, fmt.Errorf("%s has a root qdisc already: %s: %w: take it away, say onExisting: replace, or backend: queue, which leaves it alone",
			link.Name, tree, experiment.ErrBusy)
	}
	if err := tree.rehearse(); err != nil {
		return Root{}, fmt.Errorf("replace %s of %s: %w", tree, link.Name, err)
	}
	return Root{Kind: root.kind(), Tree: tree}, nil
}

// String implements experiment.Op.
func (q *Qdisc) String() string {
	if q.Remove {
		s := fmt.Sprintf("take %s %s from %s", q.layers()[0].kind, handleString(q.major()), q.Link.Name)
		if q.Was.Tree != nil {
			s += ", put " + q.Was.Tree.String() + " back"
		}
		return s
	}
	s := fmt.Sprintf("put netem %s on %s: %s, limit %d packets", handleString(q.netemHandle()), q.Link.Name, q.Impair, q.Limit)
	if q.Banded {
		s += fmt.Sprintf(", for packets of priority %s", handleString(q.major()|netemBand))
	}
	if q.Was.Tree != nil {
		s += ", in place of " + q.Was.Tree.String()
	}
	return s
}

// Backend implements experiment.Backed.
func (q *Qdisc) Backend() string { return "netem" }

// Handles implements experiment.Handled. A link that the run makes goes by its
// name, as Link has it: others are given its index once it is gone.
func (q *Qdisc) Handles() []string {
	if q.Link.Index >= firstOwnIndex {
		return []string{fmt.Sprintf("%s:link:%s:root", q.Net.Handle(), q.Link.Name)}
	}
	return []string{fmt.Sprintf("%s:link:%d:root", q.Net.Handle(), q.Link.Index)}
}

// Priority is the priority of packets (skb->priority, tc-prio(8)) that get into
// netem where it is banded.
func (q *Qdisc) Priority() uint32 { return q.major() | netemBand }

// Apply implements experiment.Op.
func (q *Qdisc) Apply(context.Context) error {
	return q.inside(func(c *tcConn) error {
		if q.Remove {
			return q.takeBack(c)
		}
		if _, err := c.link(q.Link); err != nil {
			return err
		}
		return q.put(c)
	})
}

// inside runs fn with a netlink socket of the link's namespace.
func (q *Qdisc) inside(fn func(c *tcConn) error) error { return insideNet(q.host, q.Net, fn) }

func insideNet(h *Host, ns experiment.Namespace, fn func(c *tcConn) error) error {
	return h.FS.InNetwork(ns, func() error {
		c, err := openTC()
		if err != nil {
			return err
		}
		defer c.close()
		return fn(c)
	})
}

// put makes the tree, unless it stands. What there is of it is made anew.
func (q *Qdisc) put(c *tcConn) error {
	present, err := c.root(q.Link.Index)
	if err != nil {
		return err
	}
	flags := createNew
	switch {
	case present.Handle == q.major():
		list, err := c.qdiscs(q.Link.Index)
		if err != nil || q.differs(list) == "" {
			return err
		}
		if other := q.notOurs(list); other != "" {
			return fmt.Errorf("%s has a root qdisc with this run's handle: %s: %w", q.Link.Name, other, experiment.ErrBusy)
		}
		if err := c.removeRoot(q.Link.Index, q.major()); err != nil {
			return err
		}
	case present.Handle == 0:
	case q.Was.Tree == nil:
		return fmt.Errorf("%s has a root qdisc now that was not there: %s: %w", q.Link.Name, &present, experiment.ErrBusy)
	default:
		if err := q.Was.Tree.stands(c, q.Link.Index); err != nil {
			return fmt.Errorf("replace the root qdisc of %s: %w", q.Link.Name, err)
		}
		flags = createOver
	}
	return q.make(c, flags)
}

// make makes the tree from its root on, and takes back what it made where one
// part fails.
func (q *Qdisc) make(c *tcConn, flags int) error {
	for i, l := range q.layers() {
		err := c.add(q.Link.Index, l, flags)
		if err == nil {
			flags = createNew
			continue
		}
		if i > 0 {
			err = errors.Join(err, q.takeBack(c))
		}
		return fmt.Errorf("put %s on %s: %w", l.kind, q.Link.Name, err)
	}
	return nil
}
