// Package users is the service that knows who buys. It keeps it in BuntDB: a
// key-value store in memory, with a log on disk that is only appended to.
package users

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/simianhq/simian/examples/shop/internal/service"
	"github.com/tidwall/buntdb"
)

// User is one customer.
type User struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
	City string `json:"city"`
}

// Count is how many customers a new store has. Their ids are 1 to Count.
const Count = 48

// Store is the customers on disk.
type Store struct{ db *buntdb.DB }

// Open opens the store at path, and fills it where it is new.
func Open(path string) (*Store, error) {
	db, err := buntdb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := db.Update(fill); err != nil {
		db.Close()
		return nil, fmt.Errorf("fill %s: %w", path, err)
	}
	return &Store{db: db}, nil
}

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }

func key(id int) string { return "user:" + strconv.Itoa(id) }

func fill(tx *buntdb.Tx) error {
	if _, err := tx.Get(key(Count)); !errors.Is(err, buntdb.ErrNotFound) {
		return err
	}
	names := []string{"Ada", "Björn", "Chidi", "Dalia", "Emeka", "Fatima", "Goran", "Hana"}
	cities := []string{"Antwerp", "Brighton", "Coimbra", "Dresden", "Eindhoven", "Florence"}
	for i := range Count {
		data, err := json.Marshal(User{ID: i + 1, Name: names[i%len(names)], City: cities[i/len(names)]})
		if err != nil {
			return err
		}
		if _, _, err := tx.Set(key(i+1), string(data), nil); err != nil {
			return err
		}
	}
	return nil
}

// Handler serves the customers: GET /users/{id}.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", service.Healthy)
	mux.HandleFunc("GET /users/{id}", s.show)
	return mux
}

func (s *Store) show(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		service.Refuse(w, http.StatusBadRequest, fmt.Errorf("user %q: want a number", r.PathValue("id")))
		return
	}
	var found string
	err = s.db.View(func(tx *buntdb.Tx) (err error) {
		found, err = tx.Get(key(id))
		return err
	})
	switch {
	case errors.Is(err, buntdb.ErrNotFound):
		service.Refuse(w, http.StatusNotFound, fmt.Errorf("user %d: there is none", id))
	case err != nil:
		service.Refuse(w, http.StatusInternalServerError, err)
	default:
		service.Reply(w, http.StatusOK, json.RawMessage(found))
	}
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	s, err := Open(env.Path("users.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	return env.Serve(ctx, s.Handler())
}
