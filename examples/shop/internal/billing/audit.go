package billing

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Audit says where every order that was accepted is. Lost should be 0 always:
// during a fault as well as after it.
type Audit struct {
	Accepted uint64 `json:"accepted"` // by orders, when the audit began
	Billed   int64  `json:"billed"`   // each once, when it ended
	Outbox   int    `json:"outbox"`   // not acknowledged by the bus
	Bus      int    `json:"bus"`      // acknowledged by the bus, not billed, and there to be delivered (or the bus can't be asked)
	Lost     int    `json:"lost"`     // none of these
}

// looked is how many orders the bus is asked for, at the most, the oldest first.
// A lost order is never billed, so it is among the oldest soon.
const looked = 50

// auditor finds orders that are nowhere. Its order of reading makes it exact
// while orders come in: an order goes from the outbox to the bus to a bill, and
// is looked for in that order, so that it can't slip past.
type auditor struct {
	ledger *Ledger
	outbox func(context.Context) (accepted uint64, pending []uint64, err error)
	holds  func(ctx context.Context, number uint64) (bool, error) // the bus has it

	mu    sync.Mutex
	floor uint64 // all orders up to this one are billed
}

func (a *auditor) audit(ctx context.Context) (Audit, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	accepted, pending, err := a.outbox(ctx)
	if err != nil {
		return Audit{}, fmt.Errorf("ask orders: %w", err)
	}
	missing, err := a.missing(ctx, accepted, pending)
	if err != nil {
		return Audit{}, err
	}
	lost, err := a.lost(ctx, accepted, pending, missing)
	if err != nil {
		return Audit{}, err
	}
	return Audit{
		Accepted: accepted,
		Billed:   a.ledger.orders.Load(),
		Outbox:   len(pending),
		Bus:      len(missing) - lost,
		Lost:     lost,
	}, nil
}

// missing returns the numbers up to accepted that are neither in the outbox
// (pending) nor billed.
func (a *auditor) missing(ctx context.Context, accepted uint64, pending []uint64) ([]uint64, error) {
	billed, err := a.ledger.Billed(ctx, a.floor+1, accepted)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	for _, n := range billed {
		if n != a.floor+1 {
			break
		}
		a.floor = n
	}
	var missing []uint64
	for n := a.floor + 1; n <= accepted; n++ {
		_, isBilled := slices.BinarySearch(billed, n)
		_, isPending := slices.BinarySearch(pending, n)
		if !isBilled && !isPending {
			missing = append(missing, n)
		}
	}
	return missing, nil
}

// lost counts those of the missing orders that the bus does not have, and that
// were not billed meanwhile either.
func (a *auditor) lost(ctx context.Context, accepted uint64, pending, missing []uint64) (int, error) {
	var gone []uint64
	for _, n := range missing[:min(looked, len(missing))] {
		held, err := a.holds(ctx, n)
		if err != nil {
			return 0, nil //nolint:nilerr // the bus is away: what it has acknowledged is on its disk
		}
		if !held {
			gone = append(gone, n)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	still, err := a.missing(ctx, accepted, pending)
	if err != nil {
		return 0, err
	}
	return len(gone) - countAbsent(gone, still), nil
}

// countAbsent counts the numbers of these that are not in all, which ascends.
func countAbsent(these, all []uint64) (n int) {
	for _, number := range these {
		if _, ok := slices.BinarySearch(all, number); !ok {
			n++
		}
	}
	return n
}
