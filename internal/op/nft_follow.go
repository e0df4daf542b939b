package op

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/simianhq/simian/internal/filter"
)

// followEvery is how often names are resolved again.
const followEvery = time.Second

// Follow implements experiment.Follower: while the table is in force, its sets
// have the addresses that the names have. A name that can't be resolved for a
// while keeps those it had.
func (t *Table) Follow(ctx context.Context) error {
	m := t.Match
	if m.Names == nil {
		<-ctx.Done()
		return nil
	}
	m.Far, m.Except.Far = slices.Clone(m.Far), slices.Clone(m.Except.Far)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		changed, err := m.Refresh(ctx, t.host.FS)
		if ctx.Err() != nil {
			return nil
		}
		if changed {
			if err := t.refill(&m); err != nil {
				return fmt.Errorf("follow names in nft table %s: %w", t.Name, err)
			}
		}
		if h := t.held(); h != nil {
			h.note(changed, err)
		}
	}
}

// refill gives the sets m's addresses, in one transaction.
func (t *Table) refill(m *filter.Match) error {
	now := *t
	now.Match = *m
	var messages []nftMessage
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
	if h := t.held(); h != nil {
		return h.send(messages)
	}
	return t.host.FS.InNetwork(t.Net, func() error {
		fd, err := openNft()
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		return explain(sendNft(fd, nftBatch(messages)), messages)
	})
}

// refilled empties a set and fills it.
func (t *Table) refilled(name string, x filter.Criteria, family uint8, v6 bool) []nftMessage {
	s := farSet(x.Far, v6)
	s.name = name + nftView{v6: v6}.digit()
	return append([]nftMessage{s.flush(t.Name, family)}, s.elements(t.Name, family)...)
}

// note keeps what came of following names.
func (h *heldTable) note(changed bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if changed {
		h.changes++
	}
	h.trouble = ""
	if err != nil {
		h.trouble = err.Error()
	}
}

// remarks tell what came of following names.
func (h *heldTable) remarks() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var r []string
	if h.changes > 0 {
		r = append(r, fmt.Sprintf("addresses of names changed %d times", h.changes))
	}
	if h.trouble != "" {
		r = append(r, "names keep the addresses they had: "+h.trouble)
	}
	return r
}
