package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
)

// other is another service, which answers with status after delay.
type other struct {
	status atomic.Int64
	delay  atomic.Int64
	asked  atomic.Int64
}

func (o *other) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	select {
	case <-time.After(time.Duration(o.delay.Load())):
	case <-r.Context().Done():
	}
	w.WriteHeader(int(o.status.Load()))
	_, _ = w.Write([]byte("{}"))
}

func TestDependency(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status  int
		delay   time.Duration
		trouble string
		state   gobreaker.State
		asked   int64 // of 10 times
	}{
		"well":              {200, 0, "", gobreaker.StateClosed, 10},
		"it blames us":      {404, 0, "down", gobreaker.StateClosed, 10},
		"it has an error":   {500, 0, "down", gobreaker.StateOpen, tripAfter},
		"it is much slower": {200, time.Minute, "slow", gobreaker.StateOpen, tripAfter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o other
			o.status.Store(int64(test.status))
			o.delay.Store(int64(test.delay))
			server := httptest.NewServer(&o)
			defer server.Close()
			d := newDependency("it", server.URL, 300*time.Millisecond, slog.New(slog.DiscardHandler))
			defer d.client.CloseIdleConnections()
			var err error
			for range 10 {
				err = d.get(context.Background(), "/", &struct{}{})
			}
			if (err != nil) != (test.trouble != "") || err != nil && d.trouble() != test.trouble {
				t.Errorf("got %v (%s), want %q", err, d.trouble(), test.trouble)
			}
			if d.breaker.State() != test.state || o.asked.Load() != test.asked {
				t.Errorf("%s, asked %d times; want %s, %d", d.breaker.State(), o.asked.Load(), test.state, test.asked)
			}
		})
	}
}

func TestBreakerClosesAgain(t *testing.T) {
	t.Parallel()
	var o other
	o.status.Store(500)
	server := httptest.NewServer(&o)
	defer server.Close()
	d := newDependency("it", server.URL, 10*time.Second, slog.New(slog.DiscardHandler))
	for range tripAfter {
		_ = d.get(context.Background(), "/", &struct{}{})
	}
	o.status.Store(200)
	if err := d.get(context.Background(), "/", &struct{}{}); !errors.Is(err, gobreaker.ErrOpenState) {
		t.Fatalf("right after it tripped: %v", err)
	}
	time.Sleep(openFor + 50*time.Millisecond)
	if err := d.get(context.Background(), "/", &struct{}{}); err != nil || d.breaker.State() != gobreaker.StateClosed {
		t.Errorf("when it is well again: %v, %s", err, d.breaker.State())
	}
}

// A customer who leaves is no failure of the service that was asked.
func TestLeavingCustomersTripNothing(t *testing.T) {
	t.Parallel()
	var o other
	o.status.Store(200)
	o.delay.Store(int64(time.Minute))
	server := httptest.NewServer(&o)
	defer server.Close()
	d := newDependency("it", server.URL, 10*time.Second, slog.New(slog.DiscardHandler))
	for range 2 * tripAfter {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(5*time.Millisecond, cancel)
		_ = d.get(ctx, "/", &struct{}{})
	}
	if d.breaker.State() != gobreaker.StateClosed {
		t.Error("the circuit breaker is not closed")
	}
}
