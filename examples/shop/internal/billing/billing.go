package billing

import (
	"context"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/simianhq/simian/examples/shop/internal/bus"
	"github.com/simianhq/simian/examples/shop/internal/orders"
	"github.com/simianhq/simian/examples/shop/internal/service"
)

// handler serves the figures: GET /stats and GET /audit.
func handler(l *Ledger, a *auditor) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", service.Healthy)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		service.Reply(w, http.StatusOK, struct {
			Orders    int64 `json:"orders"`
			PerMinute int64 `json:"perMinute"`
			Again     int64 `json:"again"` // delivered once more, and not billed again
		}{l.orders.Load(), l.meter.perMinute(), l.again.Load()})
	})
	mux.HandleFunc("GET /audit", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 800*time.Millisecond)
		defer cancel()
		found, err := a.audit(ctx)
		if err != nil {
			service.Refuse(w, http.StatusServiceUnavailable, err)
			return
		}
		service.Reply(w, http.StatusOK, found)
	})
	return mux
}

// newAuditor returns one that asks orders and the bus.
func newAuditor(l *Ledger, env service.Env, js jetstream.JetStream) *auditor {
	client := service.NewClient()
	return &auditor{
		ledger: l,
		outbox: func(ctx context.Context) (uint64, []uint64, error) {
			var o orders.Outbox
			err := service.Get(ctx, client, env.Orders+"/outbox", &o)
			return o.Accepted, o.Pending, err
		},
		holds: func(ctx context.Context, number uint64) (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			return bus.Holds(ctx, js, number)
		},
	}
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	l, err := OpenLedger(ctx, env.Path("billing.db"), newMeter(time.Now))
	if err != nil {
		return err
	}
	defer l.Close()
	js, disconnect, err := bus.Open(env)
	if err != nil {
		return err
	}
	defer disconnect()
	return env.ServeBeside(ctx, handler(l, newAuditor(l, env, js)), func(ctx context.Context) {
		bus.Consume(ctx, js, bus.Billing, env.Log, l.Bill)
	})
}
