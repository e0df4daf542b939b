package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/simianhq/simian/examples/shop/internal/service"
	"github.com/sony/gobreaker/v2"
)

const (
	tripAfter = 5           // failures in a row, and a dependency is not asked for a while
	openFor   = time.Second // then it is asked once, to see whether it is back
)

// dependency is another service, asked with a deadline and through a circuit
// breaker: one that is down or slow costs callers a deadline a few times, and
// nothing from then on.
type dependency struct {
	name     string
	url      string
	patience time.Duration
	client   *http.Client
	breaker  *gobreaker.CircuitBreaker[struct{}]
	slow     atomic.Bool // the last failure was a deadline, not a refusal
}

func newDependency(name, url string, patience time.Duration, log *slog.Logger) *dependency {
	return &dependency{
		name: name, url: url, patience: patience, client: service.NewClient(),
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Name:         name,
			Timeout:      openFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: wellOrOurs,
			IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) }, // the customer left
			OnStateChange: func(name string, from, to gobreaker.State) {
				if from == gobreaker.StateClosed || to == gobreaker.StateClosed { // not each try between
					log.Warn("circuit breaker", "dependency", name, "state", to.String())
				}
			},
		}),
	}
}

// wellOrOurs tells whether the other side is well: an error that it blames on
// the request is none of its own.
func wellOrOurs(err error) bool {
	var status *service.StatusError
	return err == nil || errors.As(err, &status) && status.Status < 500
}

// get asks for a path, and decodes the answer.
func (d *dependency) get(ctx context.Context, path string, answer any) error {
	return d.ask(ctx, func(ctx context.Context) error { return service.Get(ctx, d.client, d.url+path, answer) })
}

// post sends body; the same key twice does it once.
func (d *dependency) post(ctx context.Context, path, key string, body, answer any) error {
	return d.ask(ctx, func(ctx context.Context) error { return service.Post(ctx, d.client, d.url+path, key, body, answer) })
}

func (d *dependency) ask(ctx context.Context, request func(context.Context) error) error {
	_, err := d.breaker.Execute(func() (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, d.patience)
		defer cancel()
		err := request(ctx)
		if err != nil {
			d.slow.Store(errors.Is(err, context.DeadlineExceeded))
		}
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("ask %s: %w", d.name, err)
	}
	return nil
}

// trouble says in a word what is wrong with a dependency that did not answer.
func (d *dependency) trouble() string {
	if d.slow.Load() {
		return "slow"
	}
	return "down"
}
