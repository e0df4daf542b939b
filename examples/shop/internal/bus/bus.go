// Package bus is the service that carries orders to those who want them: a
// NATS server with JetStream, embedded. It is also what the others use to
// publish to it and to consume from it.
//
// An order that the bus has acknowledged is on its disk, and stays there until
// each of the consumers has acknowledged it in turn.
package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/simianhq/simian/examples/shop/internal/service"
)

// The stream, and what it holds: each order under a subject of its own, so that
// one can be asked for by its number.
const (
	stream  = "ORDERS"
	subject = "orders.placed."
)

// The durable consumers.
const (
	Billing         = "billing"
	Recommendations = "recommendations"
)

// start starts the NATS server, keeping its store in env's data folder.
func start(env service.Env) (*server.Server, error) {
	host, port, err := net.SplitHostPort(env.BusAddr)
	if err != nil {
		return nil, fmt.Errorf("SHOP_BUS_ADDR: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("SHOP_BUS_ADDR: port %q: want a number", port)
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "bus",
		Host:       host, Port: number,
		JetStream: true, StoreDir: env.Path("jetstream"),
		JetStreamMaxMemory: 16 << 20, JetStreamMaxStore: 512 << 20,
		SyncAlways: true, // an acknowledged order outlives a power cut too
		NoSigs:     true,
	})
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s.SetLoggerV2(logger{env.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.New("start NATS: not ready after 10 s")
	}
	return s, nil
}

// declare makes the stream and its consumers where they are not there yet. A
// stream that keeps what somebody is interested in keeps nothing before its
// consumers are there: so it takes orders only once they are.
func declare(ctx context.Context, js jetstream.JetStream) error {
	config := jetstream.StreamConfig{
		Name:        stream,
		Subjects:    []string{subject + "*"},
		Retention:   jetstream.InterestPolicy,
		Discard:     jetstream.DiscardNew, // full: the outbox keeps it
		Storage:     jetstream.FileStorage,
		MaxBytes:    256 << 20,
		Duplicates:  2 * time.Minute, // by the order's id
		AllowDirect: true,
	}
	_, err := js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		closed := config
		closed.Subjects = []string{"closed"}
		_, err = js.CreateStream(ctx, closed)
	}
	if err != nil {
		return fmt.Errorf("make stream %s: %w", stream, err)
	}
	for _, name := range []string{Billing, Recommendations} {
		_, err := js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable:       name,
			AckPolicy:     jetstream.AckExplicitPolicy,
			AckWait:       3 * time.Second, // then it is delivered again
			MaxAckPending: 2000,
		})
		if err != nil {
			return fmt.Errorf("make consumer %s: %w", name, err)
		}
	}
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("open stream %s: %w", stream, err)
	}
	return nil
}

// prepare declares what there is to be on s.
func prepare(ctx context.Context, s *server.Server) error {
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	return declare(ctx, js)
}

// Run serves until ctx ends.
func Run(ctx context.Context, env service.Env) error {
	s, err := start(env)
	if err != nil {
		return err
	}
	defer func() {
		s.Shutdown()
		s.WaitForShutdown()
	}()
	if err := prepare(ctx, s); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", service.Healthy)
	return env.Serve(ctx, mux)
}
