package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/simianhq/simian/examples/shop/internal/service"
)

// Order is what somebody bought, as it travels.
type Order struct {
	ID      string    `json:"id"`     // given by the gateway; the same order sent twice has the same
	Number  uint64    `json:"number"` // given by orders, 1 2 3 … without a gap
	User    int       `json:"user"`
	Product int       `json:"product"`
	Cents   int       `json:"cents"`
	Placed  time.Time `json:"placed"` // when orders accepted it, UTC
}

// Open returns a connection to the bus, which need not be there yet, and which
// is made again whenever it breaks. The function that comes back ends it.
func Open(env service.Env) (jetstream.JetStream, func(), error) {
	conn, err := connect(env)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return js, conn.Close, nil
}

func connect(env service.Env) (*nats.Conn, error) {
	return nats.Connect(env.Bus,
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.ReconnectBufSize(-1),                                   // what can't be sent is an error, at once
		nats.SkipHostLookup(),                                       // else a lookup of a bus that is gone could take as long as it likes
		nats.Timeout(500*time.Millisecond),                          // of a connection, its lookup included
		nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), // a bus that hangs is given up after 3 s
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { env.Log.Warn("bus is away", "error", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { env.Log.Info("bus is back") }),
	)
}

// Publish sends o, and returns a future for the bus's word that it has it.
func Publish(js jetstream.JetStream, o Order) (jetstream.PubAckFuture, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	return js.PublishAsync(subject+strconv.FormatUint(o.Number, 10), data,
		jetstream.WithMsgID(o.ID), jetstream.WithExpectStream(stream), jetstream.WithRetryAttempts(0))
}

// Holds tells whether the bus still has the order of this number for one of its
// consumers.
func Holds(ctx context.Context, js jetstream.JetStream, number uint64) (bool, error) {
	s, err := js.Stream(ctx, stream)
	if err == nil {
		_, err = s.GetLastMsgForSubject(ctx, subject+strconv.FormatUint(number, 10))
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask the bus for order %d: %w", number, err)
	}
	return true, nil
}

// Consume hands orders to handle as the durable consumer called name, several
// at once where several wait, until ctx ends. They are acknowledged once handle
// has returned nil; else they come again. Any may come twice.
func Consume(ctx context.Context, js jetstream.JetStream, name string, log *slog.Logger, handle func([]Order) error) {
	for ctx.Err() == nil {
		err := consume(ctx, js, name, handle)
		if ctx.Err() != nil {
			return
		}
		if js.Conn().IsConnected() { // else the connection has said so
			log.Warn("consume again", "error", err)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// consume returns at the first error, or when ctx ends.
func consume(ctx context.Context, js jetstream.JetStream, name string, handle func([]Order) error) error {
	consumer, err := js.Consumer(ctx, stream, name)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(256), jetstream.PullExpiry(2*time.Second))
	if err != nil {
		return err
	}
	arrived := make(chan jetstream.Msg, 256)
	ended := make(chan error, 1)
	go func() { ended <- forward(ctx, messages, arrived) }()
	defer func() {
		messages.Stop()
		for range arrived { // until forward has seen that it is over
		}
	}()
	for first := range arrived {
		if err := take(first, arrived, handle); err != nil {
			return err
		}
	}
	return <-ended
}

// forward passes messages on until there is an error, and closes to.
func forward(ctx context.Context, from jetstream.MessagesContext, to chan<- jetstream.Msg) error {
	defer close(to)
	for {
		m, err := from.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		to <- m
	}
}

// take handles first, together with all others that have arrived.
func take(first jetstream.Msg, arrived <-chan jetstream.Msg, handle func([]Order) error) error {
	batch := []jetstream.Msg{first}
	for more := true; more; {
		select {
		case m, ok := <-arrived:
			if more = ok; ok {
				batch = append(batch, m)
			}
		default:
			more = false
		}
	}
	orders := make([]Order, len(batch))
	for i, m := range batch {
		if err := json.Unmarshal(m.Data(), &orders[i]); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
	}
	if err := handle(orders); err != nil {
		return err
	}
	for _, m := range batch {
		_ = m.Ack() // one that gets lost makes the order come again
	}
	return nil
}
