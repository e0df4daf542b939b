// Package recommendations is the service that knows what a customer may like:
// what others bought who bought the same. It learns from the orders on the bus,
// and keeps what it has learnt in bbolt.
package recommendations

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/bus"
	"github.com/simianhq/simian/examples/shop/internal/service"
	bolt "go.etcd.io/bbolt"
)

// Store is what was bought by whom, on disk and in memory.
type Store struct {
	db *bolt.DB

	mu     sync.RWMutex
	bought purchases
}

func bucketName() []byte { return []byte("bought") }

// Open opens the store at path, and fills it where it is new.
func Open(path string) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s := &Store{db: db, bought: purchases{}}
	if err := s.load(); err != nil {
		db.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(s.bought) > 0 {
		return s, nil
	}
	if err := s.Learn(lastYear()); err != nil {
		db.Close()
		return nil, fmt.Errorf("fill %s: %w", path, err)
	}
	return s, nil
}

func (s *Store) load() error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucketName())
		if err != nil {
			return err
		}
		return b.ForEach(func(key, n []byte) error {
			user, product := int(binary.BigEndian.Uint32(key)), int(binary.BigEndian.Uint32(key[4:]))
			s.bought.add(user, product, int(binary.BigEndian.Uint32(n)))
			return nil
		})
	})
}

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

// Learn counts orders. One that comes twice counts twice: a taste is no bill.
// It is called by one goroutine only.
func (s *Store) Learn(orders []bus.Order) error {
	counts := s.count(orders)
	return s.db.Update(func(tx *bolt.Tx) error { // not under the lock: picks need not wait for the disk
		b := tx.Bucket(bucketName())
		for i, o := range orders {
			key := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(o.User)), uint32(o.Product))
			if err := b.Put(key, binary.BigEndian.AppendUint32(nil, counts[i])); err != nil {
				return err
			}
		}
		return nil
	})
}

// count adds orders to what is in memory, and returns how often each one's
// product was bought by its user by then.
func (s *Store) count(orders []bus.Order) []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make([]uint32, len(orders))
	for i, o := range orders {
		s.bought.add(o.User, o.Product, 1)
		counts[i] = uint32(s.bought[o.User][o.Product])
	}
	return counts
}

// Handler serves picks: GET /picks?user=1&count=4 answers with product ids.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", service.Healthy)
	mux.HandleFunc("GET /picks", func(w http.ResponseWriter, r *http.Request) {
		user, err := strconv.Atoi(r.FormValue("user"))
		count, err2 := strconv.Atoi(r.FormValue("count"))
		if err != nil || err2 != nil || count < 1 {
			service.Refuse(w, http.StatusBadRequest, fmt.Errorf("want user and count, both numbers, not %q", r.URL.RawQuery))
			return
		}
		s.mu.RLock()
		defer s.mu.RUnlock()
		service.Reply(w, http.StatusOK, s.bought.picks(user, count))
	})
	return mux
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	s, err := Open(env.Path("recommendations.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	js, disconnect, err := bus.Open(env)
	if err != nil {
		return err
	}
	defer disconnect()
	return env.ServeBeside(ctx, s.Handler(), func(ctx context.Context) {
		bus.Consume(ctx, js, bus.Recommendations, env.Log, s.Learn)
	})
}
