package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/bus"
	"github.com/simianhq/simian/examples/shop/internal/catalog"
	"github.com/simianhq/simian/examples/shop/internal/orders"
	"github.com/simianhq/simian/examples/shop/internal/users"
	"github.com/sony/gobreaker/v2"
)

// shown is how many picks customers see.
const shown = 4

var (
	errNoGoods   = errors.New("the catalogue has not answered yet")
	errNoProduct = errors.New("there is no such product")
)

// picks is what a customer is shown besides.
type picks struct {
	Personal bool              `json:"personal"`
	Why      string            `json:"why,omitempty"` // why they are not
	Products []catalog.Product `json:"products"`
}

// header is the value of X-Recommendations.
func (p picks) header() string {
	switch {
	case p.Personal:
		return "personal"
	case p.Why == "":
		return "popular"
	}
	return "popular (fallback: " + p.Why + ")"
}

// pick asks for personal picks, and falls back to the popular ones.
func (g *gateway) pick(ctx context.Context, all *goods, user int) (picks, error) {
	var ids []int
	err := g.recommendations.get(ctx, fmt.Sprintf("/picks?user=%d&count=%d", user, shown), &ids)
	popular := all.popular[:min(shown, len(all.popular))]
	switch {
	case err != nil && !g.fallback:
		return picks{}, err
	case err != nil:
		g.fellBack.Add(1)
		return picks{Why: "recommendations is " + g.recommendations.trouble(), Products: popular}, nil
	case len(ids) == 0: // a new customer
		return picks{Products: popular}, nil
	}
	p := picks{Personal: true}
	for _, id := range ids {
		if product, ok := all.find(id); ok {
			p.Products = append(p.Products, product)
		}
	}
	return p, nil
}

// visit is what is known of a customer and shown to them.
type visit struct {
	goods *goods
	user  users.User // without a name where users did not answer
	picks picks
}

// welcome asks all that a visit needs, at once.
func (g *gateway) welcome(ctx context.Context, user int) (*visit, error) {
	v := &visit{goods: g.shelf.now.Load()}
	if v.goods == nil {
		return nil, errNoGoods
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		if err := g.users.get(ctx, "/users/"+strconv.Itoa(user), &v.user); err != nil {
			v.user = users.User{ID: user}
		}
	})
	var err error
	asking.Go(func() { v.picks, err = g.pick(ctx, v.goods, user) })
	asking.Wait()
	return v, err
}

// Receipt is the answer to a checkout.
type Receipt struct {
	Order   string          `json:"order"`
	Number  uint64          `json:"number"`
	Name    string          `json:"name,omitempty"` // of the customer
	Product catalog.Product `json:"product"`
	Picks   picks           `json:"picks"`
}

// buy makes an order. Where it returns no error, the order is kept.
func (g *gateway) buy(ctx context.Context, v *visit, product catalog.Product) (Receipt, error) {
	o := bus.Order{ID: rand.Text(), User: v.user.ID, Product: product.ID, Cents: product.Cents}
	var kept orders.Receipt
	err := g.orders.post(ctx, "/orders", o.ID, o, &kept)
	if err != nil && !refusedByBreaker(err) && ctx.Err() == nil {
		err = g.orders.post(ctx, "/orders", o.ID, o, &kept) // the same id: it counts once, whatever became of the first
	}
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Order: kept.ID, Number: kept.Number, Name: v.user.Name, Product: product, Picks: v.picks}, nil
}

func refusedByBreaker(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}

// wish reads who buys what. Load generators say neither; it is drawn then.
func wish(r *http.Request, all *goods) (user int, product catalog.Product, err error) {
	if user, err = number(r, "user", 1+mathrand.IntN(users.Count)); err != nil {
		return 0, catalog.Product{}, err
	}
	id, err := number(r, "product", all.Products[mathrand.IntN(len(all.Products))].ID)
	if err != nil {
		return 0, catalog.Product{}, err
	}
	product, ok := all.find(id)
	if !ok {
		return 0, catalog.Product{}, fmt.Errorf("product %d: %w", id, errNoProduct)
	}
	return user, product, nil
}

// number reads a form value; standard where there is none.
func number(r *http.Request, name string, standard int) (int, error) {
	v := r.FormValue(name)
	if v == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s %q: want a number from 1", name, v)
	}
	return n, nil
}

// age says how old a copy is, to a tenth of a second.
func (g *goods) age() time.Duration { return time.Since(g.Taken).Round(100 * time.Millisecond) }
