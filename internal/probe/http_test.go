package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

const soon = experiment.Duration(50 * time.Millisecond)

// system is a server with the many ways to answer.
func system(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/stats":
		stats(w, r)
	case "/status":
		code, _ := strconv.Atoi(r.URL.RawQuery)
		w.WriteHeader(code)
	case "/moved":
		http.Redirect(w, r, "/stats", http.StatusFound)
	case "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
	case "/bytes":
		n, _ := strconv.Atoi(r.URL.RawQuery)
		_, _ = io.WriteString(w, strings.Repeat("x", n))
	case "/cut": // says that more will come, and closes
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "x")
		panic(http.ErrAbortHandler)
	case "/stuck": // begins to answer, and does not go on
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "/echo":
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"got": "%s %s %s %s %s", "ok": true}`, r.Method, r.Host, r.UserAgent(), r.Header.Get("X-Key"), body)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	server := newServer(t, system)
	for name, tt := range map[string]struct {
		path, of, json string
		timeout        experiment.Duration
		want           float64
		err            string
	}{
		"status":                {path: "/stats", want: 200},
		"status by name":        {path: "/status?404", of: "status", want: 404},
		"status of an error":    {path: "/status?503", want: 503},
		"status of no body":     {path: "/status?204", want: 204},
		"redirect":              {path: "/moved", want: 200},
		"redirect to number":    {path: "/moved", json: "$.perMinute", want: 2500},
		"redirects for ever":    {path: "/loop", err: "stopped after 10 redirects"},
		"size":                  {path: "/bytes?70000", of: "size", want: 70000},
		"size of nothing":       {path: "/bytes?0", of: "size", want: 0},
		"size of the largest":   {path: "/bytes?1048576", of: "size", want: 1 << 20},
		"size of more":          {path: "/bytes?1048577", of: "size", err: "the answer is larger than 1 MiB"},
		"number in more":        {path: "/bytes?1048577", json: "$.a", err: "the answer is larger than 1 MiB"},
		"status of more":        {path: "/bytes?3000000", want: 200},
		"number":                {path: "/stats", json: "$.perMinute", want: 2500},
		"boolean":               {path: "/stats", json: "$.healthy", want: 1},
		"number in no JSON":     {path: "/bytes?5", json: "$.a", err: "the answer is not JSON"},
		"number of an error":    {path: "/status?500", json: "$.a", err: "HTTP 500"},
		"size of an error":      {path: "/status?404", of: "size", err: "HTTP 404"},
		"seconds of an error":   {path: "/status?400", of: "seconds", err: "HTTP 400"},
		"cut off":               {path: "/cut", err: "the connection was closed before the answer was complete"},
		"stuck within the body": {path: "/stuck", timeout: soon, err: "no answer within 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProbe("http", func(h *HTTP) {
				h.URL, h.Of, h.JSON, h.Timeout = server+tt.path, tt.of, tt.json, tt.timeout
				if h.Timeout == 0 {
					h.Timeout = experiment.Duration(time.Minute)
				}
			})
			checkError(t, p.Validate(), "")
			got, err := p.Measure(t.Context())
			checkError(t, err, tt.err)
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestHTTPSeconds(t *testing.T) {
	t.Parallel()
	const pause = 20 * time.Millisecond
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(pause) // the body counts too
	})
	p := newProbe("http", func(h *HTTP) { h.URL, h.Of, h.Timeout = server, "seconds", experiment.Duration(time.Minute) })
	began := time.Now()
	got, err := p.Measure(t.Context())
	checkError(t, err, "")
	if most := time.Since(began).Seconds(); got < pause.Seconds() || got > most {
		t.Errorf("got %vs, want %v to %vs", got, pause, most)
	}
}

func TestHTTPSends(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(fmt.Sprint(r.Method, " ", r.Host, " ", r.UserAgent(), " ", r.Header.Get("X-Key"), " ", string(body)))
	})
	p := newProbe("http", func(h *HTTP) {
		h.URL, h.Method, h.Body = server, "PUT", "some words"
		h.Headers = map[string]string{"host": "shop", "x-key": "k"}
	})
	for range 3 { // the body is sent each time
		if _, err := p.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := "PUT shop simian k some words"; got.Load() != want {
			t.Errorf("the server got %q, want %q", got.Load(), want)
		}
	}
}

// No error repeats what could be a secret in the file.
func TestHTTPCannotBeMade(t *testing.T) {
	t.Parallel()
	untrusted := httptest.NewUnstartedServer(http.HandlerFunc(system))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	garbage := newListener(t, func(conn net.Conn) {
		_, _ = bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, "\x1b[31m"+strings.Repeat("no HTTP ", 100)+"\r\n\r\n")
		conn.Close()
	})
	hangUp := newListener(t, func(conn net.Conn) {
		_, _ = bufio.NewReader(conn).ReadString('\n')
		conn.Close()
	})
	for name, tt := range map[string]struct{ base, err string }{
		"refused":     {"http://me:s3cret@" + closedPort(t), "connection refused"},
		"silent":      {"http://me:s3cret@" + silent(t), "no answer within 50ms"},
		"no host":     {"http://me:s3cret@nowhere.invalid", "no such host"},
		"hangs up":    {"http://me:s3cret@" + hangUp, "connection"},
		"no HTTP":     {"http://me:s3cret@" + garbage, "malformed HTTP status code"},
		"certificate": {strings.Replace(untrusted.URL, "https://", "https://me:s3cret@", 1), "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProbe("http", func(h *HTTP) {
				h.URL, h.Headers = tt.base+"/?key=s3cret", map[string]string{"Authorization": "s3cret"}
				h.Timeout = experiment.Duration(time.Minute)
				if name == "silent" {
					h.Timeout = soon
				}
				if name == "no host" { // whatever the resolver of this machine would say
					h.dial = func(context.Context, string, string) (net.Conn, error) {
						return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true}}
					}
				}
			})
			_, err := p.Measure(t.Context())
			checkError(t, err, tt.err)
			if words := err.Error(); strings.Contains(words, "s3cret") || strings.ContainsRune(words, '\x1b') || len(words) > 2*maxWords {
				t.Errorf("it says too much: %q", words)
			}
		})
	}
}

func TestHTTPContextEnds(t *testing.T) {
	t.Parallel()
	p := newProbe("http", func(h *HTTP) { h.URL, h.Timeout = "http://"+silent(t), experiment.Duration(time.Hour) })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := p.Measure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// A dial that is never answered ends with the probe's timeout, even though
// net/http would let it go on.
func TestHTTPDialEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	p := newProbe("http", func(h *HTTP) {
		h.URL, h.Timeout = "http://nobody", soon
		h.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
	})
	_, err := p.Measure(t.Context())
	checkError(t, err, "no answer within 50ms")
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestHTTPKeepsConnections(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(system))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	for _, path := range []string{"/stats", "/status?503", "/bytes?500000"} {
		made.Store(0)
		p := newProbe("http", func(h *HTTP) { h.URL, h.Timeout = server.URL+path, experiment.Duration(time.Minute) })
		for range 20 {
			if _, err := p.Measure(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := made.Load(); n != 1 {
			t.Errorf("%s: 20 samples took %d connections, want 1", path, n)
		}
	}
}

// A restart between two samples is not what a sample measures.
func TestHTTPSurvivesRestarts(t *testing.T) {
	t.Parallel()
	address := "127.0.0.1:0"
	var p *HTTP
	for n := range 20 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(system)}
		go func() { _ = server.Serve(l) }()
		if n == 0 {
			address = l.Addr().String()
			p = newProbe("http", func(h *HTTP) {
				h.URL, h.Timeout = "http://"+address+"/stats", experiment.Duration(time.Minute)
			})
		}
		if _, err := p.Measure(t.Context()); err != nil {
			t.Errorf("after %d restarts: %v", n, err)
		}
		server.Close()
	}
}

// The second request on each connection is met with a closed one.
func TestHTTPStaleConnection(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"GET":  "",
		"POST": "connection", // nobody knows whether it was done
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			address := newListener(t, func(conn net.Conn) {
				defer conn.Close()
				in := bufio.NewReader(conn)
				if req, err := http.ReadRequest(in); err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
				if req, err := http.ReadRequest(in); err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
				}
			})
			p := newProbe("http", func(h *HTTP) {
				h.URL, h.Method, h.Body, h.Timeout = "http://"+address, method, "x", experiment.Duration(time.Minute)
			})
			_, err := p.Measure(t.Context())
			checkError(t, err, "")
			_, err = p.Measure(t.Context())
			checkError(t, err, want)
		})
	}
}

// talker answers each request of a connection as answers say, and closes it
// after the last.
func talker(t *testing.T, answers ...string) (address string, connections *atomic.Int32) {
	connections = new(atomic.Int32)
	return newListener(t, func(conn net.Conn) {
		defer conn.Close()
		connections.Add(1)
		in := bufio.NewReader(conn)
		for _, answer := range answers {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			_, _ = io.WriteString(conn, answer)
		}
		_, _ = http.ReadRequest(in)
	}), connections
}

func TestHTTPOnTheWire(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers     []string
		method      string
		want        float64 // size, the same in each of two samples
		connections int32
		err         string
	}{
		"length":          {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"}, "", 2, 2, ""},
		"length, kept":    {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"}, "", 2, 1, ""},
		"chunked, kept":   {[]string{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"}, "", 3, 1, ""},
		"no body":         {[]string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"}, "", 0, 1, ""},
		"HEAD":            {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"}, "HEAD", 0, 1, ""},
		"hints first":     {[]string{"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"}, "", 1, 1, ""},
		"until it closes": {[]string{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nabcd", ""}, "", 4, 2, ""},
		"old server":      {[]string{"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nabcd", ""}, "", 4, 2, ""},
		// What a server says unasked, before it closes, is the answer to nothing.
		"and goes on": {[]string{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\nabc"}, "", 1, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, connections := talker(t, tt.answers...)
			p := newProbe("http", func(h *HTTP) {
				h.URL, h.Method, h.Of, h.Timeout = "http://"+address, tt.method, "size", experiment.Duration(time.Minute)
			})
			for range 2 {
				got, err := p.Measure(t.Context())
				checkError(t, err, tt.err)
				if got != tt.want {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			}
			if n := connections.Load(); n != tt.connections {
				t.Errorf("two samples took %d connections, want %d", n, tt.connections)
			}
		})
	}
}

func TestHTTPManyAtOnce(t *testing.T) {
	t.Parallel()
	server := newServer(t, system)
	p := newProbe("http", func(h *HTTP) {
		h.URL, h.JSON, h.Timeout = server+"/stats", "$.perMinute", experiment.Duration(time.Minute)
	})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 20 {
				if v, err := p.Measure(t.Context()); v != 2500 || err != nil {
					t.Errorf("got %v, %v", v, err)
				}
			}
		})
	}
	all.Wait()
}

func TestHTTPS(t *testing.T) {
	t.Parallel()
	var made atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(system))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	for _, method := range []string{"GET", "POST"} {
		made.Store(0)
		p := newProbe("http", func(h *HTTP) {
			h.URL, h.Method, h.Body, h.JSON, h.Timeout = server.URL+"/echo", method, "x", "$.ok", experiment.Duration(time.Minute)
		})
		p.once.Do(func() { p.asker, p.err = p.newAsker() })
		p.asker.client.Transport.(*http.Transport).TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
		for range 5 {
			v, err := p.Measure(t.Context())
			checkError(t, err, "")
			if v != 1 {
				t.Errorf("got %v", v)
			}
		}
		if n := made.Load(); n != 1 {
			t.Errorf("%s: five samples took %d connections, want 1", method, n)
		}
	}
}

// A server that stands still fails each sample, and once it goes on the next
// sample is good: none waits in a connection from before.
func TestHTTPFrozenServer(t *testing.T) {
	t.Parallel()
	var frozen atomic.Bool
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if frozen.Load() {
			<-r.Context().Done()
		}
	})
	p := newProbe("http", func(h *HTTP) { h.URL, h.Timeout = server, experiment.Duration(time.Minute) })
	measure := func(want string) {
		t.Helper()
		_, err := p.Measure(t.Context())
		checkError(t, err, want)
	}
	measure("")
	frozen.Store(true)
	p.Timeout = soon
	measure("no answer within 50ms")
	measure("no answer within 50ms")
	frozen.Store(false)
	p.Timeout = experiment.Duration(time.Minute)
	measure("")
}

func TestHTTPLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	server := httptest.NewServer(http.HandlerFunc(system))
	p := newProbe("http", func(h *HTTP) { h.URL, h.Timeout = server.URL+"/stuck", soon })
	for range 5 {
		_, err := p.Measure(t.Context())
		checkError(t, err, "no answer")
	}
	server.Close()
	noMoreGoroutines(t, before)
}
