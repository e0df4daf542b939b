package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// service is what the checks of the runs ask. It is always well, but for
// those who ask for /sick/NAME: they are turned away for a while, some time
// after they first came.
type service struct {
	listener net.Listener
	server   *http.Server

	mu    sync.Mutex
	first map[string]time.Time
}

// When one who asks for /sick/NAME is turned away, from the first time on.
const (
	sickFrom = 250 * time.Millisecond
	sickTo   = 500 * time.Millisecond
)

func newService() (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the service that is asked: %w", err)
	}
	s := &service{listener: l, first: map[string]time.Time{}}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.server.Serve(l) }() // it ends with the soak
	return s, nil
}

func (s *service) address() string { return s.listener.Addr().String() }

func (s *service) close() { _ = s.server.Close() }

// ServeHTTP implements http.Handler.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, "/sick/"); ok && s.sick(name) {
		http.Error(w, "sick", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("well\n"))
}

func (s *service) sick(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first[name].IsZero() {
		s.first[name] = time.Now()
	}
	since := time.Since(s.first[name])
	return since > sickFrom && since < sickTo
}
