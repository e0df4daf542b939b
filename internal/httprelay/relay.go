package httprelay

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Original tells where a connection was to go before it was redirected.
type Original func(*net.TCPConn) (netip.AddrPort, error)

// Relay serves connections that were redirected to it.
type Relay struct {
	match    *matcher
	original Original
	dial     func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	server   *http.Server
	pass     *httputil.ReverseProxy
	stats    *stats

	off    atomic.Bool  // nothing is struck any more
	active atomic.Int64 // requests under way

	mu  sync.Mutex
	raw map[net.Conn]bool // connections that are passed on untouched, both ends
}

// upstream is the key of a request's context under which its server stands.
type upstream struct{}

// New returns a relay that does what rule says. What it sends itself is
// dialled by dial.
func New(rule *Rule, original Original, dial func(context.Context, netip.AddrPort) (net.Conn, error)) (*Relay, error) {
	match, err := newMatcher(rule)
	if err != nil {
		return nil, err
	}
	r := &Relay{match: match, original: original, dial: dial, stats: newStats(), raw: map[net.Conn]bool{}}
	quiet := log.New(io.Discard, "", 0)
	r.pass = &httputil.ReverseProxy{
		Rewrite: r.rewrite, FlushInterval: -1, ErrorLog: quiet,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // as if nobody stood between
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(address)
				if err != nil {
					return nil, err
				}
				return r.dial(ctx, to)
			},
			DisableCompression: true, MaxIdleConnsPerHost: 256, IdleConnTimeout: 5 * time.Second,
		},
	}
	r.server = &http.Server{
		Handler: http.HandlerFunc(r.serve), ErrorLog: quiet, ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if p, ok := c.(*peeked); ok {
				ctx = context.WithValue(ctx, upstream{}, p.to)
			}
			return ctx
		},
	}
	return r, nil
}

// Serve serves what l accepts, until the relay ends.
func (r *Relay) Serve(l *net.TCPListener) error {
	spoken := newSorted(l.Addr())
	go func() { _ = r.server.Serve(spoken) }()
	defer spoken.Close()
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			time.Sleep(time.Millisecond) // out of files
			continue
		}
		go r.sort(c, spoken)
	}
}

// sort looks what a connection speaks.
func (r *Relay) sort(c *net.TCPConn, spoken *sorted) {
	to, err := r.original(c)
	if err != nil || sameAddress(c.LocalAddr(), to) { // somebody who found the port: nobody stands behind it
		_ = c.Close()
		return
	}
	p := &peeked{Conn: c, to: to, r: bufio.NewReaderSize(c, 4096)}
	if p.isHTTP() {
		if !spoken.hand(p) {
			_ = c.Close()
		}
		return
	}
	r.stats.count(func(s *Stats) { s.Raw++ })
	r.through(p)
}

func sameAddress(a net.Addr, to netip.AddrPort) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.AddrPort().Port() == to.Port()
}

// through passes a connection on untouched.
func (r *Relay) through(p *peeked) {
	defer p.Close()
	out, err := r.dial(context.Background(), p.to)
	if err != nil {
		reset(p.Conn)
		return
	}
	defer out.Close()
	defer r.keep(p.Conn, out)()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{out, p}, {p, out}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			closeWrite(way[0])
			done <- struct{}{}
		}()
	}
	<-done
	<-done
}

// keep has connections closed when the relay ends, until the returned function
// is called.
func (r *Relay) keep(conns ...net.Conn) (forget func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range conns {
		r.raw[c] = true
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range conns {
			delete(r.raw, c)
		}
	}
}

// serve does with one request what the rule says.
func (r *Relay) serve(w http.ResponseWriter, q *http.Request) {
	r.active.Add(1)
	defer r.active.Add(-1)
	rule := r.match.rule
	meant := !r.off.Load() && r.match.matches(q)
	struck := meant && r.match.struck()
	r.stats.request(q, meant, struck)
	if !struck {
		r.pass.ServeHTTP(w, q)
		return
	}
	if !sleep(q.Context(), rule.delay()) {
		return
	}
	switch {
	case rule.Abort:
		abort(w)
	case rule.Status != 0:
		for name, value := range rule.Answer {
			w.Header().Set(name, value)
		}
		w.WriteHeader(rule.Status)
		_, _ = io.WriteString(w, rule.Body)
	default:
		r.pass.ServeHTTP(w, q)
	}
}

// sleep waits, and tells whether the client is there still.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// abort resets the connection of a request.
func abort(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	reset(c)
}

// reset closes a connection with a TCP reset (SO_LINGER of socket(7)).
func reset(c net.Conn) {
	if p, ok := c.(*peeked); ok {
		c = p.Conn
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// rewrite sends a request to where it was to go, with all of its headers.
func (r *Relay) rewrite(p *httputil.ProxyRequest) {
	to, _ := p.In.Context().Value(upstream{}).(netip.AddrPort)
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", to.String(), p.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := p.In.Header[name]; ok {
			p.Out.Header[name] = values
		}
	}
	if _, ok := p.In.Header["User-Agent"]; !ok {
		p.Out.Header["User-Agent"] = nil // or Go puts its own
	}
	p.Out.URL.RawQuery = p.In.URL.RawQuery // as it was written
}

// End strikes nothing any more, passes on what comes until nothing is under way
// or patience is over, and closes all connections.
func (r *Relay) End(patience time.Duration) {
	r.off.Store(true)
	r.server.SetKeepAlivesEnabled(false)
	for end := time.Now().Add(patience); r.active.Load() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	_ = r.server.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.raw {
		reset(c)
	}
}
