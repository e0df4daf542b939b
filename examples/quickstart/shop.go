package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// largestOrder is how much of an order is read, in bytes.
const largestOrder = 64 << 10

// shop is what a worker serves. It keeps its figures in memory: they are this
// worker's only, and are gone with it.
type shop struct {
	pid    int
	addr   string
	orders atomic.Int64
	served *meter
}

func newShop(pid int, addr string) *shop {
	return &shop{pid: pid, addr: addr, served: newMeter(time.Now)}
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.hello)
	mux.HandleFunc("GET /orders", s.showOrders)
	mux.HandleFunc("POST /orders", s.takeOrder)
	mux.HandleFunc("GET /healthz", s.healthy)
	mux.HandleFunc("GET /stats", s.stats)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.served.add()
		mux.ServeHTTP(w, r)
	})
}

func (s *shop) hello(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "Hello from worker %d at %s.\n", s.pid, s.addr)
}

func (s *shop) healthy(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

func (s *shop) showOrders(w http.ResponseWriter, _ *http.Request) {
	work(nil)
	reply(w, http.StatusOK, struct {
		PID    int   `json:"pid"`
		Orders int64 `json:"orders"`
	}{s.pid, s.orders.Load()})
}

func (s *shop) takeOrder(w http.ResponseWriter, r *http.Request) {
	order, err := io.ReadAll(http.MaxBytesReader(w, r.Body, largestOrder))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	receipt := work(order)
	reply(w, http.StatusCreated, struct {
		PID     int    `json:"pid"`
		Order   int64  `json:"order"`
		Receipt string `json:"receipt"`
	}{s.pid, s.orders.Add(1), receipt})
}

func (s *shop) stats(w http.ResponseWriter, _ *http.Request) {
	served, perMinute := s.served.read()
	reply(w, http.StatusOK, struct {
		PID       int   `json:"pid"`
		Served    int64 `json:"served"`
		PerMinute int64 `json:"perMinute"`
	}{s.pid, served, perMinute})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}

// work takes a processor some tens of microseconds, as a real order would.
func work(order []byte) string {
	sum := sha256.Sum256(order)
	for range 100 {
		sum = sha256.Sum256(sum[:])
	}
	return fmt.Sprintf("%x", sum[:8])
}

// meter counts, in all and over the last minute.
type meter struct {
	now   func() time.Time
	since time.Time

	mu      sync.Mutex
	total   int64
	seconds [60]second
}

// second is how many were counted in one second.
type second struct{ at, n int64 }

func newMeter(now func() time.Time) *meter { return &meter{now: now, since: now()} }

func (m *meter) add() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total++
	at := m.now().Unix()
	s := &m.seconds[at%60]
	if s.at != at {
		*s = second{at: at}
	}
	s.n++
}

// read returns the count in all, and the rate over the last minute, or since
// the start where that is less (but not less than a second).
func (m *meter) read() (total, perMinute int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var n int64
	for _, s := range m.seconds {
		if now.Unix()-s.at < 60 {
			n += s.n
		}
	}
	span := min(max(now.Sub(m.since), time.Second), time.Minute)
	return m.total, int64(float64(n) * float64(time.Minute) / float64(span))
}
