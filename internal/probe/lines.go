package probe

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

var errHungUp = errors.New("the traffic was stopped")

// lines are the connections of one stream.
type lines struct {
	mu      sync.Mutex
	open    map[*line]struct{}
	hungUp  bool
	dialing sync.WaitGroup
}

// line is a connection that its lines know of until it is closed.
type line struct {
	net.Conn
	lines *lines
}

// dialer makes lines through dial. The end of ctx ends dials under way, and so
// does timeout: net/http lets a dial go on after the request that asked for it
// has given up.
func (l *lines) dialer(ctx context.Context, dial dialFunc, timeout time.Duration) dialFunc {
	return func(asked context.Context, network, address string) (net.Conn, error) {
		if !l.begin() {
			return nil, errHungUp
		}
		defer l.dialing.Done()
		asked, cancel := context.WithTimeout(asked, timeout)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		conn, err := dial(asked, network, address)
		if err != nil {
			return nil, err
		}
		return l.add(conn)
	}
}

func (l *lines) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hungUp {
		l.dialing.Add(1)
	}
	return !l.hungUp
}

func (l *lines) add(conn net.Conn) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hungUp {
		conn.Close()
		return nil, errHungUp
	}
	if l.open == nil {
		l.open = map[*line]struct{}{}
	}
	c := &line{conn, l}
	l.open[c] = struct{}{}
	return c, nil
}

// Close implements net.Conn.
func (c *line) Close() error {
	c.lines.mu.Lock()
	delete(c.lines.open, c)
	c.lines.mu.Unlock()
	return c.Conn.Close()
}

// hangUp closes every line and lets no more be made: requests that wait for an
// answer end at once. It returns when no dial is under way any more.
func (l *lines) hangUp() {
	l.mu.Lock()
	l.hungUp = true
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for c := range open {
		c.Conn.Close()
	}
	l.dialing.Wait()
}
