// Package orders is the service that takes orders. It keeps them in bbolt, and
// publishes each one to the bus by way of an outbox: an order and its entry in
// the outbox are written in one transaction, and the entry is struck out only
// once the bus has acknowledged the order. So no order is lost when either of
// them ends at any moment; one may be published twice.
package orders

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/bus"
	bolt "go.etcd.io/bbolt"
)

// Store is the orders on disk.
type Store struct {
	db     *bolt.DB
	wakeup chan struct{} // holds one when there may be something to publish
}

// The buckets: orders by number, numbers by id, and the numbers to publish.
func bucketNames() (orders, ids, outbox []byte) {
	return []byte("orders"), []byte("ids"), []byte("outbox")
}

// Open opens the store at path.
func Open(path string) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.MaxBatchDelay = 2 * time.Millisecond // orders that come together share one fsync
	err = db.Update(func(tx *bolt.Tx) error {
		orders, ids, outbox := bucketNames()
		var errs []error
		for _, name := range [][]byte{orders, ids, outbox} {
			_, err := tx.CreateBucketIfNotExists(name)
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("fill %s: %w", path, err)
	}
	return &Store{db: db, wakeup: make(chan struct{}, 1)}, nil
}

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

// Accept keeps o for good, and returns its number. An order whose id is there
// already is the same one, sent again: it keeps its number.
func (s *Store) Accept(o bus.Order) (number uint64, err error) {
	err = s.db.Batch(func(tx *bolt.Tx) error {
		number, err = accept(tx, o)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("keep order %s: %w", o.ID, err)
	}
	s.wake()
	return number, nil
}

func accept(tx *bolt.Tx, o bus.Order) (uint64, error) {
	orders, ids, outbox := bucketNames()
	if n := tx.Bucket(ids).Get([]byte(o.ID)); n != nil {
		return binary.BigEndian.Uint64(n), nil
	}
	number, err := tx.Bucket(orders).NextSequence()
	if err != nil {
		return 0, err
	}
	o.Number = number
	data, err := json.Marshal(o)
	if err != nil {
		return 0, err
	}
	key := binary.BigEndian.AppendUint64(nil, number)
	return number, errors.Join(
		tx.Bucket(orders).Put(key, data),
		tx.Bucket(ids).Put([]byte(o.ID), key),
		tx.Bucket(outbox).Put(key, nil),
	)
}

func (s *Store) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default: // it is awake already
	}
}

// Wait returns when there may be something to publish, after patience, or when
// ctx ends.
func (s *Store) Wait(ctx context.Context, patience time.Duration) {
	select {
	case <-s.wakeup:
	case <-time.After(patience):
	case <-ctx.Done():
	}
}

// Pending returns how many orders were ever accepted (their numbers are 1 to
// accepted), and the numbers of those the bus has not acknowledged, ascending,
// both as of one moment.
func (s *Store) Pending() (accepted uint64, pending []uint64, err error) {
	pending = []uint64{} // [] in JSON
	err = s.db.View(func(tx *bolt.Tx) error {
		orders, _, outbox := bucketNames()
		accepted = tx.Bucket(orders).Sequence()
		return tx.Bucket(outbox).ForEach(func(key, _ []byte) error {
			pending = append(pending, binary.BigEndian.Uint64(key))
			return nil
		})
	})
	return accepted, pending, err
}

// Next returns up to limit orders that wait in the outbox, the oldest first.
func (s *Store) Next(limit int) ([]bus.Order, error) {
	var next []bus.Order
	err := s.db.View(func(tx *bolt.Tx) error {
		orders, _, outbox := bucketNames()
		c := tx.Bucket(outbox).Cursor()
		for key, _ := c.First(); key != nil && len(next) < limit; key, _ = c.Next() {
			var o bus.Order
			if err := json.Unmarshal(tx.Bucket(orders).Get(key), &o); err != nil {
				return fmt.Errorf("read order %d: %w", binary.BigEndian.Uint64(key), err)
			}
			next = append(next, o)
		}
		return nil
	})
	return next, err
}

// Published strikes orders out of the outbox: the bus has them.
func (s *Store) Published(numbers []uint64) error {
	if len(numbers) == 0 {
		return nil
	}
	return s.db.Batch(func(tx *bolt.Tx) error {
		_, _, outbox := bucketNames()
		for _, n := range numbers {
			if err := tx.Bucket(outbox).Delete(binary.BigEndian.AppendUint64(nil, n)); err != nil {
				return err
			}
		}
		return nil
	})
}
