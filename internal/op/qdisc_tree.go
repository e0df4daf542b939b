package op

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/simianhq/simian/experiment"
)

// Handles of traffic control (include/uapi/linux/pkt_sched.h): the major
// number is the upper half.
const (
	handleRoot    = 0xffffffff
	handleIngress = 0xfffffff1 // of qdiscs ingress and clsact
	netemBand     = 2          // the class of prio that netem is in
	innerClass    = 1          // the class of netem that tbf is in
)

// HandleOf returns the major number for the n-th root qdisc of a run. It keeps
// away from those that people choose (1, 10, ffff), and from 8000 on, which the
// kernel gives out. Three in a row are taken: see Qdisc.
func HandleOf(run experiment.RunID, n int) uint16 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%d", run, n) // never fails
	const first, step, count = 0x2000, 4, 0x1400
	return uint16(first + step*(h.Sum32()%count))
}

// layer is one qdisc of ours.
type layer struct {
	kind           string
	parent, handle uint32
	options        []byte
	differs        func(options []byte) string // what the kernel says that it is, where that is something else
}

func (q *Qdisc) major() uint32 { return uint32(q.Handle) << 16 }

func (q *Qdisc) netemHandle() uint32 {
	if q.Banded {
		return q.major() + 1<<16
	}
	return q.major()
}

// layers are the qdiscs that q makes, from the root on.
func (q *Qdisc) layers() []layer {
	var all []layer
	parent := uint32(handleRoot)
	if q.Banded {
		all = append(all, layer{"prio", parent, q.major(), prioOptions(), differsFromPrio})
		parent = q.major() | netemBand
	}
	n := netemOf(q.Impair, q.Limit)
	all = append(all, layer{"netem", parent, q.netemHandle(), n.encode(tableOf(q.Impair)), n.differs})
	if q.Impair.Burst > 0 {
		t := tbfOf(q.Impair, q.Limit)
		all = append(all, layer{"tbf", q.netemHandle() | innerClass, q.netemHandle() + 1<<16, t.encode(), t.differs})
	}
	return all
}

// differs says what is not as q would make it, or nothing.
func (q *Qdisc) differs(list []tcMessage) string {
	for _, l := range q.layers() {
		m := find(list, l.parent, l.handle)
		if m == nil {
			return fmt.Sprintf("no %s %s", l.kind, handleString(l.handle))
		}
		if m.kind() != l.kind {
			return m.String()
		}
		if present := l.differs(m.attr(tcaOptions)); present != "" {
			return fmt.Sprintf("%s %s: %s", l.kind, handleString(l.handle), present)
		}
	}
	return ""
}

// notOurs names what is at a root of our handle, or below, and not made by put.
// A tree that lacks its lower part is ours: put was killed half way.
func (q *Qdisc) notOurs(list []tcMessage) string {
	layers := q.layers()
	for _, l := range layers {
		if m := find(list, l.parent, l.handle); m == nil {
			continue
		} else if present := l.differs(m.attr(tcaOptions)); m.kind() != l.kind || present != "" {
			return m.String() + " " + present
		}
	}
	for _, m := range list {
		ours := slices.ContainsFunc(layers, func(l layer) bool { return l.handle == m.Handle })
		below := slices.ContainsFunc(layers, func(l layer) bool { return l.handle>>16 == m.Parent>>16 })
		if below && !ours && m.Handle != 0 {
			return m.String() + " below ours"
		}
	}
	return ""
}

// checkHandles gives ErrBusy where what is to be replaced has one of ours.
func (q *Qdisc) checkHandles() error {
	if q.Was.Tree == nil {
		return nil
	}
	t, err := q.Was.Tree.read()
	if err != nil {
		return err
	}
	for _, m := range t.qdiscs {
		if major := uint16(m.Handle >> 16); major >= q.Handle && major < q.Handle+3 {
			return fmt.Errorf("%s has %s, whose handle this run was to have: %w: another run has another", q.Link.Name, &m, experiment.ErrBusy)
		}
	}
	return nil
}

func find(list []tcMessage, parent, handle uint32) *tcMessage {
	for i, m := range list {
		if m.Parent == parent && m.Handle == handle {
			return &list[i]
		}
	}
	return nil
}

// handleString writes a handle as tc(8) does: "1:" for a qdisc, "1:2a" for a
// class.
func handleString(h uint32) string {
	switch {
	case h == handleRoot:
		return "root"
	case h&0xffff == 0:
		return strconv.FormatUint(uint64(h>>16), 16) + ":"
	}
	return strconv.FormatUint(uint64(h>>16), 16) + ":" + strconv.FormatUint(uint64(h&0xffff), 16)
}

// What the kernel is to do where there is one already.
const (
	createNew  = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	createOver = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
)
