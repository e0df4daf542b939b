package op

import (
	"context"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/impair"
)

// Queue makes the network of a target bad in user space, where the kernel has
// no netem: it starts a helper (internal/queue) that holds the packets which
// match, or ends it.
//
//	egress    stack ─▶ hook of the link ─▶ TAP ─▶ helper ─▶ link ─▶ far end
//	ingress   far end ─▶ hook of the link ─▶ TAP ─▶ helper ─▶ TAP ─▶ link ─▶ stack
//
// All that it makes in the target's namespace is held by the helper alone: when
// that ends, however it does, the kernel takes it away.
type Queue struct {
	Net     experiment.Namespace `json:"net"`
	Run     experiment.RunID     `json:"run"`
	Number  int                  `json:"number"` // among the queues of the run
	Match   filter.Match         `json:"match"`
	Impair  impair.Config        `json:"impair"`
	Limit   int                  `json:"limit"` // bytes of memory for packets that wait; one of up to 2 KiB takes 2 KiB
	Seed    uint64               `json:"seed"`  // of what is random, and of the mark
	Present bool                 `json:"present"`

	host *Host
}

// NewQueue returns the op that starts the helper. Its undo is Gone.
func NewQueue(h *Host, ns experiment.Namespace, run experiment.RunID, number int, m filter.Match, cfg impair.Config, limit int, seed uint64) *Queue {
	return &Queue{Net: ns, Run: run, Number: number, Match: m, Impair: cfg, Limit: limit, Seed: seed, Present: true, host: h}
}

// Gone returns the op that ends the helper that q starts.
func (q *Queue) Gone() *Queue {
	gone := *q
	gone.Present = false
	return &gone
}

// Table is the name of its nft table.
func (q *Queue) Table() string { return fmt.Sprintf("simian_%s_q%d", q.Run, q.Number) }

// Cgroup is the name of the helper's cgroup: no two targets have one helper.
func (q *Queue) Cgroup() string { return fmt.Sprintf("simian-%s-%d-q%d", q.Run, q.Net.Inode, q.Number) }

// lane is one link and one direction.
type lane struct {
	link    filter.Link
	ingress bool
	device  string // the name of its TAP
}

// lanes lists what q needs a TAP for. Names of links have 15 bytes at most
// (IFNAMSIZ): "sm", a run's 6, and two numbers of up to 3 digits.
func (q *Queue) lanes() []lane {
	var list []lane
	add := func(l filter.Link, ingress bool) {
		list = append(list, lane{l, ingress, fmt.Sprintf("sm%sq%d-%d", q.Run, q.Number, len(list))})
	}
	for _, l := range q.Match.Links {
		if q.Match.Egress {
			add(l, false)
		}
		if q.Match.Ingress {
			add(l, true)
		}
	}
	return list
}

// mark is on packets that the helper sends on. That of a run is unlikely to be
// used by anybody else.
func (q *Queue) mark() uint32 { return uint32(q.Seed>>32) ^ uint32(q.Seed) | 1 }

// String implements experiment.Op.
func (q *Queue) String() string {
	var links []string
	for _, l := range q.Match.Links {
		links = append(links, l.Name)
	}
	where := fmt.Sprintf("helper queue in netns %d for %s", q.Net.Inode, strings.Join(links, ", "))
	if !q.Present {
		return fmt.Sprintf("end %s (cgroup %s)", where, q.Cgroup())
	}
	return fmt.Sprintf("start %s %s: %s (cgroup %s)", where, q.direction(), q.Impair, q.Cgroup())
}

func (q *Queue) direction() filter.Direction {
	switch {
	case q.Match.Egress && q.Match.Ingress:
		return filter.Both
	case q.Match.Ingress:
		return filter.Ingress
	}
	return filter.Egress
}

// Backend implements experiment.Backed.
func (q *Queue) Backend() string { return "queue" }

// Handles implements experiment.Handled.
func (q *Queue) Handles() []string {
	var handles []string
	for _, l := range q.Match.Links {
		handles = append(handles, fmt.Sprintf("%s:%s:queue", q.Net.Handle(), l.Name))
	}
	return handles
}

// Apply implements experiment.Op.
func (q *Queue) Apply(ctx context.Context) error {
	if !q.Present {
		return q.end(ctx)
	}
	if held := q.held(); held != nil && held.alive() {
		return nil
	}
	return q.start(ctx)
}

// deviceDrops returns how many packets a device of this thread's namespace had
// no room for.
func deviceDrops(name string) int64 {
	link, err := netlink.LinkByName(name)
	if err != nil || link.Attrs().Statistics == nil {
		return 0
	}
	return int64(link.Attrs().Statistics.TxDropped)
}
