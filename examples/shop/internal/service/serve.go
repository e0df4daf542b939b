package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// drain is how long requests under way may take to end once the service is
// told to stop.
const drain = time.Second

// Serve serves HTTP at e.Addr until ctx ends, and lets requests under way end.
func (e Env) Serve(ctx context.Context, h http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", e.Addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	e.Log.Info("serving", "addr", listener.Addr().String())
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
		defer cancel()
		if server.Shutdown(late) != nil {
			server.Close()
		}
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-drained
	e.Log.Info("stopped")
	return nil
}

// ServeBeside is Serve with work going on beside it, which ends with it.
func (e Env) ServeBeside(ctx context.Context, h http.Handler, work func(context.Context)) error {
	ctx, stop := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { work(ctx) })
	err := e.Serve(ctx, h)
	stop()
	working.Wait()
	return err
}

// Healthy answers a health check: the service is there.
func Healthy(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// Reply answers with v as JSON.
func Reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}

// Refuse answers with an error, as JSON.
func Refuse(w http.ResponseWriter, status int, err error) {
	Reply(w, status, struct {
		Error string `json:"error"`
	}{err.Error()})
}
