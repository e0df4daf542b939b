package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	maxIdle = 2             // connections kept while nothing is asked
	maxRead = 2 * maxAnswer // bytes of an answer with its head, of whose body maxAnswer are read
)

// errStale says that a kept connection was closed before any answer came.
var errStale = errors.New("the connection was closed")

var errLongHead = errors.New("the headers of the answer are larger than 1 MiB")

// pool is the http.RoundTripper of the http probe: HTTP/1.1 over connections
// that are kept, written and read by the goroutine that asks. An
// http.Transport hands each request to two more goroutines; with a hundred
// checks sampled ten times a second, waking those is a third of the cost.
//
// For the rest it does what that does. A connection on which anything came
// while it was idle, its end above all, is not used again, and a request that
// meets a closed one all the same is sent once more on a new one where its
// method allows that. No compression is asked for: a body comes as it is.
// Proxies of the environment are not used: what is measured is the system
// itself.
type pool struct {
	dial dialFunc
	tls  *tls.Config

	mu   sync.Mutex
	idle []*kept // the latest used last
}

// kept is one connection, used by one request at a time.
type kept struct {
	net.Conn
	to     string // scheme and host:port
	left   int    // bytes of this answer that may still be read
	in     *bufio.Reader
	out    *bufio.Writer
	reused bool
}

// RoundTrip implements http.RoundTripper.
func (p *pool) RoundTrip(req *http.Request) (*http.Response, error) {
	c, err := p.take(req)
	if err != nil {
		return nil, err
	}
	resp, err := p.ask(c, req)
	if !errors.Is(err, errStale) || !repeatable(req.Method) {
		return resp, err
	}
	if req.GetBody != nil {
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	if c, err = p.connect(req); err != nil {
		return nil, err
	}
	return p.ask(c, req)
}

// repeatable tells whether a request may be sent twice: RFC 9110, section
// 9.2.2, of which a chaos test leaves PUT and DELETE to their senders.
func repeatable(method string) bool {
	return slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace}, method)
}

// ask sends req on c and reads the head of the answer. The body gives c back
// once it is read to its end, and closes it otherwise.
func (p *pool) ask(c *kept, req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	resp, err := c.exchange(req)
	if err != nil {
		stop()
		c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	resp.Body = &body{ReadCloser: resp.Body, over: func(whole bool) {
		inTime := stop()
		if inTime && whole && !resp.Close && c.in.Buffered() == 0 {
			p.give(c)
			return
		}
		c.Close()
	}}
	return resp, nil
}

// exchange writes req and reads the head of its answer.
func (c *kept) exchange(req *http.Request) (*http.Response, error) {
	c.left = maxRead
	err := req.Write(c.out)
	if err == nil {
		err = c.out.Flush()
	}
	if err == nil {
		_, err = c.in.Peek(1)
	}
	switch {
	case err != nil && c.reused && !errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%w: %w", errStale, err)
	case err != nil:
		return nil, err
	}
	for {
		resp, err := http.ReadResponse(c.in, req)
		if err != nil || resp.StatusCode >= 200 { // below are notes ahead of the answer
			return resp, err
		}
	}
}

// body tells, once, whether it was read to its end.
type body struct {
	io.ReadCloser
	over func(whole bool)
	done bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(err == io.EOF)
	}
	return n, err
}

// Close implements io.Closer. What was not read is not waited for.
func (b *body) Close() error {
	b.end(false)
	return nil
}

func (b *body) end(whole bool) {
	if !b.done {
		b.done = true
		b.over(whole)
	}
}

// take returns a kept connection for req, or a new one.
func (p *pool) take(req *http.Request) (*kept, error) {
	to := place(req)
	for c := p.pick(to); c != nil; c = p.pick(to) {
		if c.quiet() {
			c.reused = true
			return c, nil
		}
		c.Close()
	}
	return p.connect(req)
}

func (p *pool) pick(to string) *kept {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range slices.Backward(p.idle) {
		if c.to == to {
			p.idle = slices.Delete(p.idle, i, i+1)
			return c
		}
	}
	return nil
}

func (p *pool) give(c *kept) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, c)
	if len(p.idle) > maxIdle {
		p.idle[0].Close()
		p.idle = slices.Delete(p.idle, 0, 1)
	}
}

func (p *pool) connect(req *http.Request) (*kept, error) {
	ctx, to := req.Context(), place(req)
	conn, err := p.dial(ctx, "tcp", to[len(req.URL.Scheme)+len("://"):])
	if err != nil {
		return nil, err
	}
	if req.URL.Scheme == "https" {
		config := p.tls.Clone()
		config.ServerName = req.URL.Hostname()
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	c := &kept{Conn: conn, to: to, out: bufio.NewWriter(conn)}
	c.in = bufio.NewReader(c)
	return c, nil
}

// Read implements io.Reader.
func (c *kept) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errLongHead
	}
	n, err := c.Conn.Read(p)
	c.left -= n
	return n, err
}

// place is where req goes: scheme://host:port.
func place(req *http.Request) string {
	port := req.URL.Port()
	switch {
	case port == "" && req.URL.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return req.URL.Scheme + "://" + net.JoinHostPort(req.URL.Hostname(), port)
}

// quiet tells whether nothing came on c since it was used. Where a connection
// is not a socket, nobody can tell, and it is taken to be so.
func (c *kept) quiet() bool {
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var came error
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, came = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	})
	return err == nil && came == syscall.EAGAIN
}
