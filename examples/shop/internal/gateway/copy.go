package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/catalog"
	"github.com/simianhq/simian/examples/shop/internal/service"
)

const (
	refreshEvery = 500 * time.Millisecond // once there is a copy
	retryEvery   = 50 * time.Millisecond  // until there is one
	oldAfter     = 3 * time.Second        // customers are told from then on
)

// goods is one copy of the catalogue.
type goods struct {
	Taken    time.Time         `json:"taken"`
	Products []catalog.Product `json:"products"`

	popular []catalog.Product // the same, those sold most first
}

// prepare sorts what was read.
func (g *goods) prepare() *goods {
	g.popular = slices.Clone(g.Products)
	slices.SortStableFunc(g.popular, func(a, b catalog.Product) int { return cmp.Compare(b.Popular, a.Popular) })
	return g
}

func (g *goods) find(id int) (catalog.Product, bool) {
	i := slices.IndexFunc(g.Products, func(p catalog.Product) bool { return p.ID == id })
	if i < 0 {
		return catalog.Product{}, false
	}
	return g.Products[i], true
}

// shelf keeps a copy of the catalogue: in memory for requests, which so never
// wait for the catalogue, and in a file for the next start.
type shelf struct {
	catalog *dependency
	path    string
	now     atomic.Pointer[goods] // nil until there is a copy
}

// run renews the copy until ctx ends. Where that fails, the old one stays.
func (s *shelf) run(ctx context.Context, env service.Env) {
	if g, err := readGoods(s.path); err == nil {
		s.now.Store(g)
	} else if !errors.Is(err, os.ErrNotExist) {
		env.Log.Warn("no copy of the catalogue from before", "error", err)
	}
	for ctx.Err() == nil {
		_ = s.refresh(ctx) // the breaker logs; the copy's age tells customers
		wait := refreshEvery
		if s.now.Load() == nil {
			wait = retryEvery
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (s *shelf) refresh(ctx context.Context) error {
	g := &goods{Taken: time.Now()}
	if err := s.catalog.get(ctx, "/products", &g.Products); err != nil {
		return err
	}
	before := s.now.Swap(g.prepare())
	if before != nil && slices.Equal(before.Products, g.Products) && g.Taken.Sub(before.Taken) < time.Minute {
		return nil // the file says the same
	}
	return writeGoods(s.path, g)
}

func readGoods(path string) (*goods, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var g goods
	if err := json.Unmarshal(data, &g); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return g.prepare(), nil
}

// writeGoods replaces the file as a whole, so that it is never half written.
func writeGoods(path string, g *goods) error {
	data, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
