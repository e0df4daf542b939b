package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/queue"
)

// table is the nft table that gives packets to the devices.
func (q *Queue) table() *Table {
	act := TableAct{Kind: ActFwd, Mark: q.mark()}
	for _, l := range q.lanes() {
		f := Forward{Link: l.link.Index, Egress: filter.Link{Name: l.device}}
		if l.ingress {
			f = Forward{Link: l.link.Index, Ingress: filter.Link{Name: l.device}}
		}
		i := slices.IndexFunc(act.Forwards, func(g Forward) bool { return g.Link == f.Link })
		if i < 0 {
			act.Forwards = append(act.Forwards, f)
		} else {
			act.Forwards[i].Ingress = f.Ingress
		}
	}
	return NewTable(q.host, q.Net, q.Table(), q.Match, act)
}

// held returns the helper where this process has started it.
func (q *Queue) held() *heldHelper {
	h, _ := q.host.holds(q.Cgroup()).(*heldHelper)
	return h
}

// Verify implements experiment.Verifier: the helper answers, and the rules are
// there. Felt says whether a packet matched so far.
func (q *Queue) Verify(ctx context.Context) (experiment.Evidence, error) {
	if !q.Present {
		return q.verifyGone(ctx)
	}
	held := q.held()
	switch {
	case held == nil:
		return experiment.Evidence{What: "no helper of this process", Hint: "it was never started, or was ended"}, nil
	case !held.alive():
		if err := q.host.FS.InNetwork(q.Net, func() error { return nil }); errors.Is(err, experiment.ErrGone) {
			return experiment.Evidence{}, err // the target left, and took the devices along
		}
		return experiment.Evidence{What: "the helper has ended: " + held.state, Hint: "somebody killed it, or memory was short; packets flow as if it had never been"}, nil
	}
	var list []queue.Stats
	err := held.client.Report(&list)
	if err != nil {
		return experiment.Evidence{What: "the helper does not answer: " + err.Error(), Hint: "it is stopped, or in a frozen cgroup"}, nil
	}
	e, err := q.table().Verify(ctx)
	if err != nil || !e.InForce {
		return e, err
	}
	drops, err := q.drops()
	if err != nil {
		return experiment.Evidence{}, err
	}
	for i, s := range list {
		e.What += "; " + laneText(s, drops[i])
	}
	if hint := overfull(list, drops); hint != "" {
		e.Hint = strings.TrimPrefix(e.Hint+"; "+hint, "; ")
	}
	return e, nil
}

// drops returns how many packets each device had no room for.
func (q *Queue) drops() (list []int64, err error) {
	err = q.host.FS.InNetwork(q.Net, func() error {
		for _, l := range q.lanes() {
			list = append(list, deviceDrops(l.device))
		}
		return nil
	})
	return list, err
}

// laneText says what became of the packets of one lane.
func laneText(s queue.Stats, dropped int64) string {
	way := "egress"
	if s.Ingress {
		way = "ingress"
	}
	text := fmt.Sprintf("helper %s %s: %s packets (%s bytes) in, %s sent",
		way, s.Link, thousands(uint64(s.Packets)), thousands(uint64(s.Bytes)), thousands(uint64(s.Sent)))
	for _, each := range []struct {
		n    int64
		word string
	}{
		{s.Held, "held"},
		{s.Lost, "lost"},
		{s.Duplicated, "doubled"},
		{s.Corrupted, "corrupted"},
		{s.Reordered, "reordered"},
		{s.Overflow, "dropped at the limit"},
		{dropped, "dropped by the device's queue"},
		{s.Refused, "refused by the link"},
	} {
		if each.n > 0 {
			text += fmt.Sprintf(", %s %s", thousands(uint64(each.n)), each.word)
		}
	}
	if s.Sent > 0 {
		text += fmt.Sprintf(", late by %s at most", time.Duration(s.LateMax).Round(time.Microsecond))
	}
	return text
}

// overfull says why packets were lost that should not have been.
func overfull(list []queue.Stats, drops []int64) string {
	var limit, device int64
	for i, s := range list {
		limit += s.Overflow
		device += drops[i]
	}
	var hints []string
	if limit > 0 {
		hints = append(hints, fmt.Sprintf("%s packets were lost because the memory limit was reached: raise limit", thousands(uint64(limit))))
	}
	if device > 0 {
		hints = append(hints, fmt.Sprintf("%s packets were lost because they came faster than the helper could read: narrow the filter", thousands(uint64(device))))
	}
	return strings.Join(hints, "; ")
}

// verifyGone tells whether nothing of q is left.
func (q *Queue) verifyGone(ctx context.Context) (experiment.Evidence, error) {
	if e, err := q.process().verifyGone(q.host.FS); err != nil || !e.InForce {
		return e, err
	}
	var left []string
	err := q.host.FS.InNetwork(q.Net, func() error {
		for _, l := range q.lanes() {
			if _, err := linkIndex(l.device); err == nil {
				left = append(left, l.device)
			} else if !errors.Is(err, syscall.ENODEV) {
				return err
			}
		}
		return nil
	})
	if err != nil || len(left) > 0 {
		return experiment.Evidence{What: "devices " + strings.Join(left, ", ") + " are there"}, err
	}
	e, err := q.table().Gone().Verify(ctx)
	if e.InForce {
		e.What = "helper, devices and nft table gone"
	}
	return e, err
}
