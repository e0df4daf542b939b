package orders

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/simianhq/simian/examples/shop/internal/bus"
)

const (
	batch       = 256                    // orders published at once
	ackPatience = 2 * time.Second        // for the bus to acknowledge them
	idle        = 500 * time.Millisecond // the outbox is looked through so often, if nobody wakes it
	pause       = 100 * time.Millisecond // after the bus refused
)

// publisher empties the outbox into the bus, for as long as it runs.
type publisher struct {
	store *Store
	bus   jetstream.JetStream
	log   *slog.Logger
	stuck bool // the last batch did not get through
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context) {
	for ctx.Err() == nil {
		n, err := p.once(ctx)
		p.tell(err)
		switch {
		case err != nil:
			sleep(ctx, pause)
		case n < batch:
			p.store.Wait(ctx, idle)
		}
	}
}

// tell logs when the bus goes away and when it is back, and nothing between.
func (p *publisher) tell(err error) {
	if err != nil && !p.stuck {
		p.log.Warn("orders wait in the outbox", "error", err)
	}
	if err == nil && p.stuck {
		p.log.Info("orders are published again")
	}
	p.stuck = err != nil
}

// once publishes one batch, strikes out what was acknowledged, and returns how
// many the batch had.
func (p *publisher) once(ctx context.Context) (int, error) {
	next, err := p.store.Next(batch)
	if err != nil || len(next) == 0 {
		return 0, err
	}
	acked, sendErr := p.send(ctx, next)
	return len(next), errors.Join(sendErr, p.store.Published(acked))
}

// send publishes orders, and returns the numbers of those acknowledged.
func (p *publisher) send(ctx context.Context, orders []bus.Order) (acked []uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, ackPatience)
	defer cancel()
	sent := make([]jetstream.PubAckFuture, 0, len(orders))
	for _, o := range orders {
		future, err := bus.Publish(p.bus, o)
		if err != nil {
			break // what was sent so far may be acknowledged all the same
		}
		sent = append(sent, future)
	}
	for i, future := range sent {
		select {
		case <-future.Ok():
			acked = append(acked, orders[i].Number)
		case err = <-future.Err():
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if len(acked) < len(orders) && err == nil {
		err = errors.New("no connection")
	}
	if err != nil {
		err = fmt.Errorf("publish: %w", err)
	}
	return acked, err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
