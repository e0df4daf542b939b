package recommendations

import (
	"cmp"
	"slices"

	"github.com/simianhq/simian/examples/shop/internal/bus"
	"github.com/simianhq/simian/examples/shop/internal/users"
)

// purchases counts how often each user bought each product.
type purchases map[int]map[int]int

func (p purchases) add(user, product, n int) {
	if p[user] == nil {
		p[user] = map[int]int{}
	}
	p[user][product] += n
}

// picks returns up to count products, the best first: those bought most by
// others with a similar taste, and least by the user. It is empty for a user
// who has bought nothing yet.
func (p purchases) picks(user, count int) []int {
	mine, scores := p[user], map[int]float64{}
	for other, theirs := range p {
		if other == user {
			continue
		}
		near := similarity(mine, theirs)
		for product, n := range theirs {
			scores[product] += near * float64(n) / float64(1+mine[product])
		}
	}
	best := []int{}
	for product, score := range scores {
		if score > 0 {
			best = append(best, product)
		}
	}
	slices.SortFunc(best, func(a, b int) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
	})
	return best[:min(count, len(best))]
}

// similarity counts what both bought.
func similarity(a, b map[int]int) float64 {
	common := 0
	for product := range a {
		if b[product] > 0 {
			common++
		}
	}
	return float64(common)
}

// lastYear is what a new store starts from: six purchases of each user, who
// share their taste with every seventh other.
func lastYear() []bus.Order {
	var orders []bus.Order
	for user := 1; user <= users.Count; user++ {
		taste := user % 7
		for i := range 6 {
			orders = append(orders, bus.Order{User: user, Product: 1 + (taste*5+i*(1+user%3))%36})
		}
	}
	return orders
}
