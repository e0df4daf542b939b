package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// drain is how long a worker takes at the most to finish what it has begun.
const drain = 3 * time.Second

// serve answers requests until ctx is done, and then finishes those begun.
func serve(ctx context.Context, listener net.Listener, s *shop) error {
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
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
	return nil
}

// untilSupervisorEnds returns when nobody holds the other end of lifeline any
// more. The kernel kills a worker whose supervisor ends; this is for where it
// was not asked to, or cannot.
func untilSupervisorEnds(lifeline *os.File) {
	_, _ = io.Copy(io.Discard, lifeline)
}
