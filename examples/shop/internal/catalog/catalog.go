// Package catalog is the service that knows what is sold, and for how much. It
// keeps it in SQLite.
package catalog

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"

	"github.com/simianhq/simian/examples/shop/internal/service"

	_ "modernc.org/sqlite" // the driver
)

// Product is one thing that is sold.
type Product struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Kind    string `json:"kind"`    // tea, herbs, pots, cups, tools: which picture it gets
	Cents   int    `json:"cents"`   // price
	About   string `json:"about"`   // one line
	Hue     int    `json:"hue"`     // of its picture, 0 to 359
	Popular int    `json:"popular"` // how many were sold last month
}

// Store is the catalogue on disk.
type Store struct{ db *sql.DB }

const schema = `
CREATE TABLE IF NOT EXISTS products (
	id      INTEGER PRIMARY KEY,
	name    TEXT NOT NULL,
	kind    TEXT NOT NULL,
	cents   INTEGER NOT NULL,
	about   TEXT NOT NULL,
	hue     INTEGER NOT NULL,
	popular INTEGER NOT NULL
)`

// Open opens the catalogue at path, and fills it where it is new.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=busy_timeout(1000)&_pragma=temp_store(memory)")
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	if err := s.fill(ctx); err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return s, nil
}

// Close closes the catalogue.
func (s *Store) Close() error { return s.db.Close() }

func (s *Store) fill(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // committed below, or of no use
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	for i, p := range seed() {
		_, err := tx.ExecContext(ctx, "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			i+1, p.Name, p.Kind, p.Cents, p.About, p.Hue, p.Popular)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Products returns all there is, by id.
func (s *Store) Products(ctx context.Context) ([]Product, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT id, name, kind, cents, about, hue, popular FROM products ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Product
	for rows.Next() {
		var p Product
		if err := rows.Scan(&p.ID, &p.Name, &p.Kind, &p.Cents, &p.About, &p.Hue, &p.Popular); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// Handler serves the catalogue: GET /products.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", service.Healthy)
	mux.HandleFunc("GET /products", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Products(r.Context())
		if err != nil {
			service.Refuse(w, http.StatusInternalServerError, err)
			return
		}
		service.Reply(w, http.StatusOK, all)
	})
	return mux
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	s, err := Open(ctx, env.Path("catalog.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	return env.Serve(ctx, s.Handler())
}
