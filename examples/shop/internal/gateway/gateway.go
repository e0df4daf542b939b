// Package gateway is the service that customers meet: the web page, and an API.
// It is built to bear that the others fail:
//
//	recommendations down or slow   the most popular products instead of personal picks
//	catalog down or slow           a copy, at most so old as the trouble lasts
//	users down or slow             nobody is greeted by name
//	orders down                    no checkout; nothing is confirmed that is not kept
//	bus, billing down              nothing to be seen: orders wait in the outbox, and on the bus
package gateway

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/service"
)

// gateway is the service.
type gateway struct {
	fallback bool
	shelf    *shelf

	catalog, users, orders, recommendations, billing *dependency

	confirmed atomic.Int64 // checkouts answered well
	refused   atomic.Int64 // checkouts answered with an error of ours
	fellBack  atomic.Int64 // popular picks in place of personal ones
}

func newGateway(env service.Env) *gateway {
	g := &gateway{
		fallback:        env.Fallback,
		catalog:         newDependency("catalog", env.Catalog, 300*time.Millisecond, env.Log),
		users:           newDependency("users", env.Users, 100*time.Millisecond, env.Log),
		orders:          newDependency("orders", env.Orders, 400*time.Millisecond, env.Log),
		recommendations: newDependency("recommendations", env.Recommendations, 100*time.Millisecond, env.Log),
		billing:         newDependency("billing", env.Billing, 900*time.Millisecond, env.Log),
	}
	g.shelf = &shelf{catalog: g.catalog, path: env.Path("catalog-copy.json")}
	return g
}

func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", g.home)
	mux.HandleFunc("GET /api/products", g.listProducts)
	mux.HandleFunc("GET /api/picks", g.listPicks)
	mux.HandleFunc("GET /checkout", g.checkout) // a GET that buys: so that the simplest load generator can
	mux.HandleFunc("POST /checkout", g.checkout)
	mux.HandleFunc("GET /healthz", g.healthy)
	mux.HandleFunc("GET /stats", g.stats)
	mux.HandleFunc("GET /audit", g.audit)
	return mux
}

// healthy says that customers can be served: there is a catalogue to show.
func (g *gateway) healthy(w http.ResponseWriter, r *http.Request) {
	if g.shelf.now.Load() == nil {
		service.Refuse(w, http.StatusServiceUnavailable, errNoGoods)
		return
	}
	service.Healthy(w, r)
}

func (g *gateway) stats(w http.ResponseWriter, _ *http.Request) {
	breakers := map[string]string{}
	for _, d := range []*dependency{g.catalog, g.users, g.orders, g.recommendations, g.billing} {
		breakers[d.name] = d.breaker.State().String()
	}
	var age float64
	if goods := g.shelf.now.Load(); goods != nil {
		age = time.Since(goods.Taken).Seconds()
	}
	service.Reply(w, http.StatusOK, struct {
		Confirmed         int64             `json:"confirmed"`
		Refused           int64             `json:"refused"`
		FellBack          int64             `json:"fellBack"`
		CatalogAgeSeconds float64           `json:"catalogAgeSeconds"`
		Breakers          map[string]string `json:"breakers"`
	}{g.confirmed.Load(), g.refused.Load(), g.fellBack.Load(), age, breakers})
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	g := newGateway(env)
	ctx, stop := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { g.shelf.run(ctx, env) })
	err := env.Serve(ctx, g.handler())
	stop()
	renewing.Wait()
	return err
}
