package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
	"github.com/simianhq/simian/experiment/experimenttest"
	"github.com/simianhq/simian/internal/op"
)

const shopPort = 7080

// shop serves HTTP in a node's network namespace.
func (n *node) shop() {
	n.t.Helper()
	var l net.Listener
	n.do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", shopPort))
		return err
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
	})}
	go func() { _ = server.Serve(l) }()
	n.t.Cleanup(func() { _ = server.Close() })
}

// client asks from a node's network namespace. Kept says that it keeps its
// connections.
func (n *node) client(kept bool) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: !kept,
		DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			n.do(func() error {
				c, err = new(net.Dialer).DialContext(ctx, network, address)
				return nil
			})
			return c, err
		},
	}}
}

func ask(c *http.Client, host, path string) (int, error) {
	resp, err := c.Get("http://" + net.JoinHostPort(host, fmt.Sprint(shopPort)) + path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func httpFault(h *op.Host, f HTTP) *HTTP {
	f.host, f.Port = h, shopPort
	return &f
}

func TestHTTPConformance(t *testing.T) {
	t.Parallel()
	h := op.NewHost(host)
	var l *net3
	experimenttest.Fault(t, experimenttest.FaultCase{
		Fault: httpFault(h, HTTP{Status: 503}), Ops: h.Ops(),
		Target: func(t testing.TB) experiment.Target {
			l = newNet3(t)
			l.web.shop()
			return l.web.Target
		},
		Snapshot: netSnapshot,
	})
}

// TestHTTP strikes what matches, from elsewhere, by both families, and nothing
// else.
func TestHTTP(t *testing.T) {
	t.Parallel()
	l := newNet3(t)
	l.web.shop()
	before := netSnapshot(l.web.Target)
	c := l.db.client(false)
	steps := strike(t, httpFault(l.host, HTTP{Status: 503, Requests: []string{"GET /bad"}}), l.web.Target)
	for _, at := range []string{"10.83.0.2", "fd83::2"} {
		for path, want := range map[string]int{"/bad": 503, "/good": 200} {
			if code, err := ask(c, at, path); err != nil || code != want {
				t.Errorf("%s%s: %d %v, want %d", at, path, code, err, want)
			}
		}
	}
	if code, err := ask(l.web.client(false), "127.0.0.1", "/bad"); err != nil || code != 200 {
		t.Errorf("over lo: %d %v", code, err)
	}
	if e := evidence(t, steps[0].Do); e.Felt != experiment.FeltYes || !strings.Contains(e.What, "4 requests seen, 2 matched, 2 answered 503") {
		t.Errorf("%+v", e)
	}
	heal(t, steps, l.web.Target, before)
	if code, err := ask(c, "10.83.0.2", "/bad"); err != nil || code != 200 {
		t.Errorf("afterwards: %d %v", code, err)
	}
}

// TestHTTPKeptAlive has a client that keeps its connection from before: it is
// reset, or goes on past the fault.
func TestHTTPKeptAlive(t *testing.T) {
	t.Parallel()
	for _, followed := range []bool{false, true} { // whether the kernel follows connections there already
		for _, c := range []struct {
			connections string
			want        int
		}{{"", 503}, {"keep", 200}} {
			t.Run(fmt.Sprintf("%q, followed %t", c.connections, followed), func(t *testing.T) {
				t.Parallel()
				l := newNet3(t)
				l.web.shop()
				if followed {
					lookups := dnsFaults(op.NewHost(host))().(*DNS)
					lookups.Names = []string{"x.example"}
					strike(t, lookups, l.web.Target)
				}
				client := l.db.client(true)
				if code, err := ask(client, "10.83.0.2", "/"); err != nil || code != 200 {
					t.Fatal(code, err)
				}
				strike(t, httpFault(l.host, HTTP{Status: 503, Connections: c.connections}), l.web.Target)
				code, err := ask(client, "10.83.0.2", "/")
				if err != nil { // a client that was reset asks again
					code, err = ask(client, "10.83.0.2", "/")
				}
				if err != nil || code != c.want {
					t.Errorf("%d %v, want %d", code, err, c.want)
				}
			})
		}
	}
}

// TestHTTPAbort cuts connections.
func TestHTTPAbort(t *testing.T) {
	t.Parallel()
	l := newNet3(t)
	l.web.shop()
	strike(t, httpFault(l.host, HTTP{Abort: true}), l.web.Target)
	if code, err := ask(l.db.client(false), "10.83.0.2", "/"); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("%d %v", code, err)
	}
}

// TestHTTPFailsOpen kills the relay: requests reach the server at once.
func TestHTTPFailsOpen(t *testing.T) {
	t.Parallel()
	l := newNet3(t)
	l.web.shop()
	before := netSnapshot(l.web.Target)
	steps := strike(t, httpFault(l.host, HTTP{Status: 503}), l.web.Target)
	c := l.db.client(false)
	if code, err := ask(c, "10.83.0.2", "/"); err != nil || code != 503 {
		t.Fatal(code, err)
	}
	killHelper(t, steps[0].Do.(*op.HTTP).Cgroup())
	await(t, "the server", func() bool { code, err := ask(c, "10.83.0.2", "/"); return err == nil && code == 200 })
	if e := evidence(t, steps[0].Do); e.InForce || !strings.Contains(e.What, "the helper has ended") {
		t.Errorf("%+v", e)
	}
	heal(t, steps, l.web.Target, before)
}

// TestHTTPRefused plans what can't be.
func TestHTTPRefused(t *testing.T) {
	t.Parallel()
	l := newNet3(t)
	if _, err := httpFault(l.host, HTTP{Abort: true}).Plan(t.Context(), "abcd23", l.web.Target); err == nil ||
		!strings.Contains(err.Error(), "listens on its port 7080 of TCP (ports: 7001)") {
		t.Error(err)
	}
	p := newPrey(t)
	if _, err := httpFault(l.host, HTTP{Abort: true}).Plan(t.Context(), "abcd23", p.target(t)); !errors.Is(err, experiment.ErrProtected) {
		t.Error(err)
	}
}

// TestHTTPValidate reads what files say.
func TestHTTPValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault HTTP
		want  string
	}{
		{HTTP{Abort: true}, "say which: the target's own, on which it is asked"},
		{HTTP{Port: 1}, "say what becomes of the requests: abort, delay or status"},
		{HTTP{Port: 1, Abort: true, Status: 503}, "what is aborted gets no status: say one of them"},
		{HTTP{Port: 1, Status: 700}, "700 is no status of an answer (200 to 599)"},
		{HTTP{Port: 1, Abort: true, Body: "x"}, "body and answer belong to a status"},
		{HTTP{Port: 1, Abort: true, Requests: []string{"orders"}}, `pattern "orders"`},
		{HTTP{Port: 1, Abort: true, Headers: map[string]string{"X": "("}}, "header X: error parsing regexp"},
		{HTTP{Port: 1, Abort: true, Connections: "cut"}, "unknown \"cut\"\n        known: reset keep"},
		{HTTP{Port: 1, Ports: []uint16{2}, Abort: true}, "say port or ports, not both"},
		{HTTP{Port: 1, Status: 503, Requests: []string{"GET /a/{id}"}, Headers: map[string]string{"Host": "shop.*"}}, ""},
	} {
		err := c.fault.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.fault, err, c.want)
		}
	}
}

// TestHTTPGolden writes down what is planned.
func TestHTTPGolden(t *testing.T) {
	t.Parallel()
	percent := experiment.Percent(20)
	f := HTTP{Delay: experiment.Duration(300 * time.Millisecond), Status: 503, Requests: []string{"POST /orders/{id}"}, Headers: map[string]string{"X-Tenant": "acme"}, Percent: &percent}
	do := op.NewHTTP(op.NewHost(host), op.HTTP{
		Net: experiment.Namespace{Inode: 4026531840, Cookie: 7}, Run: "abcd23", Ports: []uint16{8080, 8081}, Rule: f.rule(), Words: f.words(),
	})
	golden(t, "http", describe([]experiment.Step{{Do: do, Undo: do.Gone()}}))
}

// killHelper kills the process of a helper's cgroup, wherever that is.
func killHelper(t testing.TB, cgroup string) {
	t.Helper()
	paths, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroup + "/cgroup.procs")
	more, _ := filepath.Glob("/sys/fs/cgroup/" + cgroup + "/cgroup.procs")
	for _, path := range append(paths, more...) {
		data, err := os.ReadFile(path)
		must(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		must(t, err)
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		return
	}
	t.Fatal("no helper in ", cgroup)
}
