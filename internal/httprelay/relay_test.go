package httprelay

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// between has a relay stand between the returned address and a server.
func between(t *testing.T, rule Rule, h http.HandlerFunc) (*Relay, string) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return before(t, rule, server.Listener.Addr())
}

func before(t *testing.T, rule Rule, server net.Addr) (*Relay, string) {
	t.Helper()
	to := netip.MustParseAddrPort(server.String())
	r, err := New(&rule, func(*net.TCPConn) (netip.AddrPort, error) { return to, nil }, dial)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = r.Serve(l.(*net.TCPListener)) }()
	t.Cleanup(func() { l.Close(); r.End(time.Second) })
	return r, "http://" + l.Addr().String()
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Host", r.Host)
	fmt.Fprintf(w, "%s %s %v %s", r.Method, r.RequestURI, r.Header, body)
}

func get(t *testing.T, method, url string, headers ...string) (int, string, error) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		q.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Host" {
			q.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(q)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// TestStruck strikes what matches, and nothing else.
func TestStruck(t *testing.T) {
	t.Parallel()
	type request struct {
		method, path string
		headers      []string
		struck       bool
	}
	for name, c := range map[string]struct {
		rule     Rule
		requests []request
	}{
		"all": {Rule{Status: 503}, []request{{"GET", "/", nil, true}, {"POST", "/x?y=1", nil, true}}},
		"a path": {Rule{Status: 503, Requests: []string{"/orders/"}}, []request{
			{"GET", "/orders/7", nil, true}, {"POST", "/orders/", nil, true}, {"GET", "/order", nil, false},
		}},
		"a method and a path": {Rule{Status: 503, Requests: []string{"POST /orders/{id}", "GET /health"}}, []request{
			{"POST", "/orders/7", nil, true}, {"GET", "/orders/7", nil, false}, {"GET", "/health", nil, true}, {"POST", "/orders/7/8", nil, false},
		}},
		"a header": {Rule{Status: 503, Headers: map[string]string{"x-tenant": "ac.*"}}, []request{
			{"GET", "/", []string{"X-Tenant", "acme"}, true}, {"GET", "/", []string{"X-Tenant", "not acme"}, false}, {"GET", "/", nil, false},
		}},
		"a host": {Rule{Status: 503, Headers: map[string]string{"Host": `shop\.example`}}, []request{
			{"GET", "/", []string{"Host", "shop.example"}, true}, {"GET", "/", nil, false},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.rule.Check(); err != nil {
				t.Fatal(err)
			}
			r, url := between(t, c.rule, echo)
			for _, q := range c.requests {
				code, _, err := get(t, q.method, url+q.path, q.headers...)
				if err != nil || (code == 503) != q.struck || !q.struck && code != 200 {
					t.Errorf("%s %s %v: %d %v, struck %t is wanted", q.method, q.path, q.headers, code, err, q.struck)
				}
			}
			if report := r.Report(); report.Felt != "yes" {
				t.Errorf("%+v", report)
			}
		})
	}
}

// TestActs does each of what a rule can do.
func TestActs(t *testing.T) {
	t.Parallel()
	t.Run("abort", func(t *testing.T) {
		t.Parallel()
		_, url := between(t, Rule{Abort: true}, echo)
		if _, _, err := get(t, "GET", url); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
			t.Errorf("%v", err)
		}
	})
	t.Run("status", func(t *testing.T) {
		t.Parallel()
		_, url := between(t, Rule{Status: 429, Answer: map[string]string{"Retry-After": "7"}, Body: "later"}, echo)
		if code, body, err := get(t, "GET", url); code != 429 || body != "later" {
			t.Errorf("%d %q %v", code, body, err)
		}
	})
	t.Run("delay", func(t *testing.T) {
		t.Parallel()
		_, url := between(t, Rule{DelayNs: int64(100 * time.Millisecond)}, echo)
		began := time.Now()
		if code, _, err := get(t, "GET", url); code != 200 || time.Since(began) < 100*time.Millisecond {
			t.Errorf("%d %v after %s", code, err, time.Since(began))
		}
	})
	t.Run("percent", func(t *testing.T) {
		t.Parallel()
		r, url := between(t, Rule{Status: 503, Percent: 30}, echo)
		for range 500 {
			if _, _, err := get(t, "GET", url); err != nil {
				t.Fatal(err)
			}
		}
		if n := r.stats.Struck; n < 90 || n > 220 {
			t.Errorf("%d of 500", n)
		}
	})
}

// TestPassedOn hands requests on as they came, but for who stands between.
func TestPassedOn(t *testing.T) {
	t.Parallel()
	rule := Rule{Status: 503, Requests: []string{"/never"}}
	r, url := between(t, rule, echo)
	headers := []string{"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=x", "Accept-Encoding", "br", "Host", "shop.example", "Cookie", "a=b; c=d"}
	code, got, err := get(t, "PUT", url+"/a%2Fb/../c?x=1;y=%zz&z", headers...)
	for _, want := range []string{"PUT /a%2Fb/../c?x=1;y=%zz&z", "192.0.2.1", "for=x", "Accept-Encoding:[br]", "a=b; c=d", " body"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %d %q %v", want, code, got, err)
		}
	}
	if report := r.Report(); report.Felt != "nothing" || !strings.Contains(report.Hint, "PUT /a/b/../c (1)") {
		t.Errorf("%+v", report)
	}
}

// TestServerGone is as if nobody stood between: the connection is cut.
func TestServerGone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, url := before(t, Rule{Status: 503, Requests: []string{"/never"}}, l.Addr())
	if code, _, err := get(t, "GET", url); err == nil {
		t.Errorf("%d", code)
	}
}

// TestRaw passes on what is no HTTP/1, untouched.
func TestRaw(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	r, url := before(t, Rule{Abort: true}, l.Addr())
	for _, text := range []string{"\x16\x03\x01 hello", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "lower case\r\n", "AVERYLONGWORDTHATISNOMETHODATALL x", "G"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(c); string(got) != text {
			t.Errorf("%q came back as %q, %v", text, got, err)
		}
		c.Close()
	}
	if n := r.stats.Raw; n != 5 {
		t.Errorf("%d", n)
	}
}

// TestKeptAlive strikes each request of one connection by itself.
func TestKeptAlive(t *testing.T) {
	t.Parallel()
	_, url := between(t, Rule{Status: 503, Requests: []string{"/bad"}}, echo)
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for path, want := range map[string]int{"/good": 200, "/bad": 503} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
}

// TestCheck reads rules.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{}, "it does nothing"},
		{Rule{Abort: true, Status: 500}, "what is aborted gets no status"},
		{Rule{Status: 99}, "99 is no status of an answer (200 to 599)"},
		{Rule{Status: 503, Requests: []string{"orders"}}, `pattern "orders": `},
		{Rule{Status: 503, Requests: []string{"/a", "/a"}}, `pattern "/a": `},
		{Rule{Status: 503, Headers: map[string]string{"X": "("}}, "header X: error parsing regexp: missing closing )"},
	} {
		if err := c.rule.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.rule, err, c.want)
		}
	}
}

func FuzzPatterns(f *testing.F) {
	f.Add("GET /orders/{id}", "a.*")
	f.Add("/{x...}/y", "(")
	f.Fuzz(func(_ *testing.T, pattern, header string) {
		_ = (&Rule{Status: 503, Requests: []string{pattern}, Headers: map[string]string{"X": header}}).Check()
	})
}
