package orders

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/simianhq/simian/examples/shop/internal/bus"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func accept1(t *testing.T, s *Store, id string) uint64 {
	t.Helper()
	n, err := s.Accept(bus.Order{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func waiting(t *testing.T, s *Store) (accepted uint64, pending []uint64) {
	t.Helper()
	accepted, pending, err := s.Pending()
	if err != nil {
		t.Fatal(err)
	}
	return accepted, pending
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "orders.db")
	s := open(t, path)
	if n := []uint64{accept1(t, s, "a"), accept1(t, s, "b"), accept1(t, s, "a"), accept1(t, s, "c")}; !slices.Equal(n, []uint64{1, 2, 1, 3}) {
		t.Errorf("a b a c got the numbers %v", n)
	}
	if err := s.Published([]uint64{2}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path) // nothing of this was in memory only
	if accepted, pending := waiting(t, s); accepted != 3 || !slices.Equal(pending, []uint64{1, 3}) {
		t.Errorf("%d accepted, %v pending; want 3 and [1 3]", accepted, pending)
	}
	next, err := s.Next(1)
	if err != nil || len(next) != 1 || next[0].ID != "a" || next[0].Number != 1 {
		t.Errorf("next is %+v, %v; want order a", next, err)
	}
	accept1(t, s, "b") // sent again when it was published already
	if _, pending := waiting(t, s); !slices.Equal(pending, []uint64{1, 3}) {
		t.Errorf("an order sent again is pending: %v", pending)
	}
}

func TestNumbersHaveNoGap(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "orders.db"))
	var together sync.WaitGroup
	for i := range 50 {
		together.Go(func() {
			if _, err := s.Accept(bus.Order{ID: fmt.Sprint(i / 2)}); err != nil { // each one twice
				t.Error(err)
			}
		})
	}
	together.Wait()
	if accepted, pending := waiting(t, s); accepted != 25 || len(pending) != 25 {
		t.Errorf("25 orders at once, each twice: %d accepted, %d pending", accepted, len(pending))
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	h := open(t, filepath.Join(t.TempDir(), "orders.db")).Handler()
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/outbox", "", 200, `{"accepted":0,"pending":[]}`},
		{"POST", "/orders", `{"id":"a","user":1,"product":2,"cents":300}`, 201, `{"id":"a","number":1}`},
		{"POST", "/orders", `{"id":"a","user":1,"product":2,"cents":300}`, 201, `{"id":"a","number":1}`},
		{"POST", "/orders", `{"user":1}`, 400, `{"error":"an order needs an id"}`},
		{"POST", "/orders", `tea`, 400, `{"error":"invalid character 'e' in literal true (expecting 'r')"}`},
		{"POST", "/orders", `{"id":"` + strings.Repeat("x", largestOrder), 400, `{"error":"http: request body too large"}`},
		{"GET", "/outbox", "", 200, `{"accepted":1,"pending":[1]}`},
		{"GET", "/stats", "", 200, `{"accepted":1,"published":0,"pending":1}`},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(test.method, test.path, strings.NewReader(test.body)))
		if got := strings.TrimSpace(w.Body.String()); w.Code != test.status || got != test.want {
			t.Errorf("%s %s: %d %s, want %d %s", test.method, test.path, w.Code, got, test.status, test.want)
		}
	}
}
