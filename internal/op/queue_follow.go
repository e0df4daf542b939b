package op

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/simianhq/simian/internal/filter"
)

// Follow implements experiment.Follower: while the helper runs, the table's
// sets have the addresses that names have. The helper alone may change them.
func (q *Queue) Follow(ctx context.Context) error {
	if q.Match.Names == nil || !q.Present {
		<-ctx.Done()
		return nil
	}
	m := q.Match
	m.Far, m.Except.Far = slices.Clone(m.Far), slices.Clone(m.Except.Far)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, _ := m.Refresh(ctx, q.host.FS) // a name that can't be resolved keeps what it had
		if !changed || ctx.Err() != nil {
			continue
		}
		if err := q.send(q.table().refills(&m)); err != nil {
			return fmt.Errorf("follow names in nft table %s: %w", q.Table(), err)
		}
	}
}

// refills gives the sets m's addresses.
func (t *Table) refills(m *filter.Match) (messages []nftMessage) {
	now := *t
	now.Match = *m
	for _, family := range t.families() {
		for _, v6 := range []bool{false, true} {
			if t.farWanted() {
				messages = append(messages, now.refilled("far", m.Criteria, family, v6)...)
			}
			if t.farExcepted() {
				messages = append(messages, now.refilled("except_far", m.Except, family, v6)...)
			}
		}
	}
	return messages
}

// send has the helper send more nft messages: the table is its own.
func (q *Queue) send(messages []nftMessage) error {
	held := q.held()
	if held == nil {
		return errors.New("send rules to the queue's helper: this process has not started it")
	}
	return held.batch(messages)
}
