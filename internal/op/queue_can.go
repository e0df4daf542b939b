package op

import (
	"errors"
	"fmt"
	"strings"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/internal/filter"
	"github.com/simianhq/simian/internal/proc"
)

// FreeQueueNumber returns the first number that no queue of run has in a
// network namespace.
func FreeQueueNumber(h *Host, ns experiment.Namespace, run experiment.RunID) (int, error) {
	links, err := h.FS.Links(ns)
	for n := 0; ; n++ {
		if err != nil || !queueThere(links, fmt.Sprintf("sm%sq%d-", run, n)) {
			return n, err
		}
	}
}

func queueThere(links []proc.Link, prefix string) bool {
	for _, l := range links {
		if strings.HasPrefix(l.Name, prefix) {
			return true
		}
	}
	return false
}

// CheckQueue tries in an empty network namespace of its own what q needs of
// the kernel, and gives experiment.ErrUnsupported with the kernel's reason
// where it is not there.
func CheckQueue(q *Queue) error {
	m := q.Match
	if err := CheckNft(NewTable(q.host, q.Net, q.Table(), m, TableAct{Kind: ActFwd, Mark: q.mark()})); err != nil {
		return err
	}
	err := scratch(func() error {
		lo, err := linkIndex("lo")
		if err != nil {
			return err
		}
		small := *q
		small.Match.Links = []filter.Link{{Name: "lo", Index: lo}}
		for _, l := range small.lanes() {
			d, err := small.openDevice(l)
			if err != nil {
				return err
			}
			d.close()
		}
		return nil
	})
	if err != nil && !errors.Is(err, experiment.ErrUnsupported) {
		err = fmt.Errorf("%w: %w", err, experiment.ErrUnsupported)
	}
	return err
}

// CanQueue is CheckQueue for both directions, and no filter.
func CanQueue(h *Host) error {
	m := filter.Match{Egress: true, Ingress: true, Links: []filter.Link{{Name: "lo", Index: 1}}}
	return CheckQueue(&Queue{Run: "check2", Match: m, Present: true, host: h})
}
