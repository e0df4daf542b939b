package op

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Snapshot is all that traffic control has from the root of a link on, as the
// kernel tells it: messages of rtnetlink(7) without the link's index and
// statistics. The kernel's ingress side is not in it.
type Snapshot struct {
	Qdiscs  [][]byte `json:"qdiscs"` // the root is the first
	Classes [][]byte `json:"classes,omitempty"`
	Filters [][]byte `json:"filters,omitempty"`
}

// tree is a Snapshot read.
type tree struct {
	qdiscs, classes, filters []tcMessage
}

// takeSnapshot reads what is at the root of a link and below.
func takeSnapshot(c *tcConn, index int) (*Snapshot, error) {
	t, err := readTree(c, index)
	if err != nil {
		return nil, err
	}
	return &Snapshot{t.encode(t.qdiscs), t.encode(t.classes), t.encode(t.filters)}, nil
}

func readTree(c *tcConn, index int) (tree, error) {
	qdiscs, err := c.qdiscs(index)
	if err != nil {
		return tree{}, err
	}
	classes, err := c.classes(index)
	if err != nil {
		return tree{}, err
	}
	t := tree{qdiscs: slices.DeleteFunc(qdiscs, notOfRoot), classes: classes}
	slices.SortFunc(t.qdiscs, rootFirst)
	for _, parent := range t.filterParents() {
		list, err := c.filters(index, parent)
		if err != nil {
			return tree{}, err
		}
		t.filters = append(t.filters, list...)
	}
	return t, t.settle()
}

// notOfRoot tells of the ingress side, and of what the kernel made itself
// below a root of its own.
func notOfRoot(m tcMessage) bool {
	return m.Parent == handleIngress || m.Handle == 0 && m.Parent != handleRoot
}

func rootFirst(a, b tcMessage) int {
	if (a.Parent == handleRoot) != (b.Parent == handleRoot) {
		return cmp.Compare(b.Parent, a.Parent)
	}
	return cmp.Or(cmp.Compare(a.Handle, b.Handle), cmp.Compare(a.Parent, b.Parent))
}

// filterParents are the qdiscs and classes that filters may hang from.
func (t *tree) filterParents() []uint32 {
	var list []uint32
	for _, q := range t.qdiscs {
		if q.Handle != 0 {
			list = append(list, q.Handle)
		}
	}
	for _, class := range t.classes {
		if class.kind() == "htb" {
			list = append(list, class.Handle)
		}
	}
	return list
}

// settle takes out of the messages what changes by itself, and the link.
func (t *tree) settle() error {
	for _, list := range [][]tcMessage{t.qdiscs, t.classes, t.filters} {
		for i := range list {
			if err := list[i].settle(); err != nil {
				return err
			}
		}
	}
	for i := range t.qdiscs {
		t.qdiscs[i].Info = 0 // how many refer to it
	}
	slices.SortFunc(t.classes, func(a, b tcMessage) int { return cmp.Compare(a.Handle, b.Handle) })
	return nil
}

func (t *tree) encode(list []tcMessage) [][]byte {
	var all [][]byte
	for _, m := range list {
		all = append(all, m.encode())
	}
	return all
}

// read decodes s, which may come from a journal.
func (s *Snapshot) read() (t tree, err error) {
	for _, part := range []struct {
		from [][]byte
		to   *[]tcMessage
	}{{s.Qdiscs, &t.qdiscs}, {s.Classes, &t.classes}, {s.Filters, &t.filters}} {
		for _, b := range part.from {
			m, err := decodeTC(b)
			if err != nil {
				return t, err
			}
			*part.to = append(*part.to, m)
		}
	}
	if len(t.qdiscs) == 0 || t.qdiscs[0].Parent != handleRoot {
		return t, errors.New("read a snapshot of traffic control: it has no root")
	}
	return t, nil
}

// String gives "htb 1: (3 classes, 2 filters)".
func (s *Snapshot) String() string {
	t, err := s.read()
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, each := range []struct {
		n         int
		one, many string
	}{
		{len(t.qdiscs) - 1, "qdisc below", "qdiscs below"},
		{t.count(t.classes), "class", "classes"},
		{t.countFilters(), "filter", "filters"},
	} {
		switch each.n {
		case 0:
		case 1:
			parts = append(parts, "1 "+each.one)
		default:
			parts = append(parts, fmt.Sprint(each.n, " ", each.many))
		}
	}
	if parts == nil {
		return t.qdiscs[0].String()
	}
	return t.qdiscs[0].String() + " (" + strings.Join(parts, ", ") + ")"
}

// count leaves out the classes that a qdisc has by itself.
func (t *tree) count(classes []tcMessage) (n int) {
	for _, m := range classes {
		if m.kind() == "htb" || m.kind() == "hfsc" || m.kind() == "drr" || m.kind() == "qfq" {
			n++
		}
	}
	return n
}

// countFilters leaves out what u32 has besides: its hash tables.
func (t *tree) countFilters() (n int) {
	for _, m := range t.filters {
		if options, err := decodeAttrs(m.attr(tcaOptions)); err == nil && m.Handle != 0 && attrOf(options, u32Divisor) == nil {
			n++
		}
	}
	return n
}

// stands gives ErrBusy where the link does not have s.
func (s *Snapshot) stands(c *tcConn, index int) error {
	present, err := takeSnapshot(c, index)
	if err != nil {
		return err
	}
	if diff := s.diff(present); diff != "" {
		return fmt.Errorf("it has changed since it was read: %s: %w", diff, experiment.ErrBusy)
	}
	return nil
}

// diff names what differs, or nothing.
func (s *Snapshot) diff(other *Snapshot) string {
	for _, part := range []struct {
		what string
		a, b [][]byte
	}{{"qdisc", s.Qdiscs, other.Qdiscs}, {"class", s.Classes, other.Classes}, {"filter", s.Filters, other.Filters}} {
		for i := range max(len(part.a), len(part.b)) {
			switch {
			case i >= len(part.a):
				return part.what + " " + describe(part.b[i]) + " came"
			case i >= len(part.b):
				return part.what + " " + describe(part.a[i]) + " is missing"
			case !bytes.Equal(part.a[i], part.b[i]):
				return part.what + " " + describe(part.a[i]) + " is not the same"
			}
		}
	}
	return ""
}

func describe(message []byte) string {
	m, err := decodeTC(message)
	if err != nil {
		return err.Error()
	}
	return m.String()
}

// begun tells whether present may be the root that s puts back.
func (s *Snapshot) begun(present tcMessage) bool {
	t, err := s.read()
	if err != nil || present.settle() != nil {
		return false
	}
	present.Info = 0
	return bytes.Equal(present.encode(), t.qdiscs[0].encode())
}

// restore puts s back on a link: over another root, or what of it is missing
// where a restore before this one was killed half way.
func (s *Snapshot) restore(c *tcConn, index int) error {
	t, err := s.read()
	if err != nil {
		return err
	}
	if present, err := c.root(index); err != nil {
		return err
	} else if s.begun(present) {
		return t.complete(c, index)
	}
	root, err := t.qdiscs[0].remake(index)
	if err != nil {
		return err
	}
	if err := c.make(unix.RTM_NEWQDISC, createOver, root); err != nil {
		return fmt.Errorf("put back %s: %w", &t.qdiscs[0], err)
	}
	return t.complete(c, index)
}

// complete makes what is below the root, and is not there yet.
func (t *tree) complete(c *tcConn, index int) error {
	for _, step := range t.order() {
		m, err := step.tcMessage.remake(index)
		if err != nil {
			return err
		}
		err = c.make(step.kind, createNew, m)
		if errors.Is(err, unix.EEXIST) { // by a restore before
			continue
		}
		if err != nil {
			return fmt.Errorf("put back %s: %w", &step.tcMessage, err)
		}
	}
	return nil
}

func (c *tcConn) make(kind, flags int, m tcMessage) error {
	_, err := c.request(kind, flags|unix.NLM_F_ACK, 0, m.encode())
	return err
}

// rehearse puts s on a link in a network namespace that is made for it, reads
// it back, and gives ErrUnsupported where it is not the same.
func (s *Snapshot) rehearse() error {
	t, err := s.read()
	if err == nil {
		err = t.exact()
	}
	if err != nil {
		return err
	}
	return inScratch(func(c *tcConn) error {
		err := s.restore(c, loopback)
		if err == nil {
			var again *Snapshot
			if again, err = takeSnapshot(c, loopback); err == nil {
				if diff := s.diff(again); diff != "" {
					err = errors.New("put back in a rehearsal, " + diff)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("it can't be put back exactly: %w: %w", err, experiment.ErrUnsupported)
		}
		return nil
	})
}
