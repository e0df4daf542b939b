package orders

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/bus"
	"github.com/simianhq/simian/examples/shop/internal/service"
)

// largestOrder is how much of an order is read, in bytes.
const largestOrder = 64 << 10

// Handler serves the orders: POST /orders takes one, GET /outbox tells which
// wait for the bus, GET /stats counts them.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", service.Healthy)
	mux.HandleFunc("POST /orders", s.take)
	mux.HandleFunc("GET /outbox", s.showOutbox)
	mux.HandleFunc("GET /stats", s.showStats)
	return mux
}

func (s *Store) take(w http.ResponseWriter, r *http.Request) {
	var o bus.Order
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, largestOrder)).Decode(&o)
	if err == nil && o.ID == "" {
		err = errors.New("an order needs an id")
	}
	if err != nil {
		service.Refuse(w, http.StatusBadRequest, err)
		return
	}
	o.Placed = time.Now().UTC()
	o.Number, err = s.Accept(o)
	if err != nil {
		service.Refuse(w, http.StatusInternalServerError, err)
		return
	}
	service.Reply(w, http.StatusCreated, Receipt{ID: o.ID, Number: o.Number})
}

// Receipt is the answer to an order that is kept.
type Receipt struct {
	ID     string `json:"id"`
	Number uint64 `json:"number"` // 1 is the first order of all
}

// Outbox is the answer of GET /outbox.
type Outbox struct {
	Accepted uint64   `json:"accepted"` // the numbers given are 1 to this
	Pending  []uint64 `json:"pending"`  // those that the bus has not acknowledged, ascending
}

func (s *Store) showOutbox(w http.ResponseWriter, _ *http.Request) {
	accepted, pending, err := s.Pending()
	if err != nil {
		service.Refuse(w, http.StatusInternalServerError, err)
		return
	}
	service.Reply(w, http.StatusOK, Outbox{Accepted: accepted, Pending: pending})
}

func (s *Store) showStats(w http.ResponseWriter, _ *http.Request) {
	accepted, pending, err := s.Pending()
	if err != nil {
		service.Refuse(w, http.StatusInternalServerError, err)
		return
	}
	service.Reply(w, http.StatusOK, struct {
		Accepted  uint64 `json:"accepted"`
		Published uint64 `json:"published"`
		Pending   int    `json:"pending"`
	}{accepted, accepted - uint64(len(pending)), len(pending)})
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	s, err := Open(env.Path("orders.db"))
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
		(&publisher{store: s, bus: js, log: env.Log}).run(ctx)
	})
}
