package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/simianhq/simian/examples/shop/internal/billing"
	"github.com/simianhq/simian/examples/shop/internal/service"
)

// largestForm is how much of a form is read, in bytes.
const largestForm = 64 << 10

func (g *gateway) listProducts(w http.ResponseWriter, _ *http.Request) {
	all := g.shelf.now.Load()
	if all == nil {
		g.fail(w, errNoGoods)
		return
	}
	tellAge(w, all)
	service.Reply(w, http.StatusOK, all.Products)
}

func (g *gateway) listPicks(w http.ResponseWriter, r *http.Request) {
	user, err := number(r, "user", 1)
	if err != nil {
		service.Refuse(w, http.StatusBadRequest, err)
		return
	}
	all := g.shelf.now.Load()
	if all == nil {
		g.fail(w, errNoGoods)
		return
	}
	p, err := g.pick(r.Context(), all, user)
	if err != nil {
		g.fail(w, err)
		return
	}
	w.Header().Set("X-Recommendations", p.header())
	service.Reply(w, http.StatusOK, p)
}

func (g *gateway) home(w http.ResponseWriter, r *http.Request) {
	user, err := number(r, "user", 1)
	if err != nil {
		service.Refuse(w, http.StatusBadRequest, err)
		return
	}
	v, err := g.welcome(r.Context(), user)
	if err != nil {
		g.fail(w, err)
		return
	}
	tell(w, v)
	render(w, "home.html", newPage(v, nil))
}

// checkout buys one product, and answers with the receipt: a page for browsers,
// JSON for all others.
func (g *gateway) checkout(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, largestForm)
	all := g.shelf.now.Load()
	if all == nil {
		g.refuse(w, errNoGoods)
		return
	}
	user, product, err := wish(r, all)
	if err != nil {
		service.Refuse(w, http.StatusBadRequest, err)
		return
	}
	v, err := g.welcome(r.Context(), user)
	if err != nil {
		g.refuse(w, err)
		return
	}
	receipt, err := g.buy(r.Context(), v, product)
	if err != nil {
		g.refuse(w, err)
		return
	}
	g.confirmed.Add(1)
	tell(w, v)
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		render(w, "receipt.html", newPage(v, &receipt))
		return
	}
	service.Reply(w, http.StatusCreated, receipt)
}

// tell puts into headers what is not as usual.
func tell(w http.ResponseWriter, v *visit) {
	w.Header().Set("X-Recommendations", v.picks.header())
	tellAge(w, v.goods)
}

func tellAge(w http.ResponseWriter, all *goods) {
	if age := all.age(); age > oldAfter {
		w.Header().Set("X-Catalog", "copy, "+age.String()+" old")
	}
}

func (g *gateway) refuse(w http.ResponseWriter, err error) {
	g.refused.Add(1)
	g.fail(w, err)
}

// fail answers that a service we need did not: 504 if it was too slow, else 503.
func (g *gateway) fail(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	if errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	service.Refuse(w, status, err)
}

// audit answers where all orders are, and how many of those that customers were
// told are kept are nowhere.
func (g *gateway) audit(w http.ResponseWriter, r *http.Request) {
	confirmed := g.confirmed.Load() // before the others count: none of these may be missing there
	var a billing.Audit
	if err := g.billing.get(r.Context(), "/audit", &a); err != nil {
		g.fail(w, err)
		return
	}
	a.Lost += int(max(0, confirmed-int64(a.Accepted)))
	service.Reply(w, http.StatusOK, struct {
		Confirmed int64 `json:"confirmed"`
		billing.Audit
	}{confirmed, a})
}
