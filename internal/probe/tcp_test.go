package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

func TestTCP(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 1)
	address := newListener(t, func(conn net.Conn) {
		_, err := conn.Read(make([]byte, 1))
		closed <- err
	})
	p := newProbe("tcp", func(c *TCP) { c.Address, c.Timeout = address, experiment.Duration(time.Minute) })
	began := time.Now()
	got, err := p.Measure(t.Context())
	checkError(t, err, "")
	if most := time.Since(began).Seconds(); got <= 0 || got > most {
		t.Errorf("got %vs, want more than 0 and no more than %vs", got, most)
	}
	if err := <-closed; err != io.EOF {
		t.Errorf("the connection ended with %v, want it closed", err)
	}
}

func TestTCPCannotBeMade(t *testing.T) {
	t.Parallel()
	never := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
	}
	p := newProbe("tcp", func(c *TCP) { c.Address = closedPort(t) })
	_, err := p.Measure(t.Context())
	checkError(t, err, "connection refused")

	p = newProbe("tcp", func(c *TCP) { c.Address, c.Timeout, c.dial = "nobody:1", soon, never })
	_, err = p.Measure(t.Context())
	checkError(t, err, "no answer within 50ms")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = p.Measure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// What Env dials is what is measured.
func TestEnvDials(t *testing.T) {
	t.Parallel()
	address := newListener(t, func(net.Conn) {})
	env := Env{Dial: func(ctx context.Context, network, name string) (net.Conn, error) {
		if name != "db:5432" {
			t.Errorf("dialled %q", name)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	p := All(env)["tcp"]().(*TCP)
	p.Address = "db:5432"
	_, err := p.Measure(t.Context())
	checkError(t, err, "")
}
