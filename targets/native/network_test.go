package native

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/simianhq/simian/internal/proc"
)

var proc0 = proc.Host()

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func body(t testing.TB, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	must(t, err)
	return string(data)
}

// outside asks from the host.
func outside(t testing.TB, address string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	return body(t, &c, "http://"+address)
}

// found returns the addresses that a name has in a container, sorted.
func (s *stage) found(in, name string) []string {
	s.t.Helper()
	out, exit := s.exec(in, "lookup", name)
	if !exit.Success() {
		return nil
	}
	list := strings.Fields(out)
	slices.Sort(list)
	return list
}

func (s *stage) addresses(names ...string) []string {
	var list []string
	for _, name := range names {
		list = append(list, s.box(name).Address["default"].String())
	}
	slices.Sort(list)
	return list
}

func TestNames(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "serve", ":80"), "get", "http://localhost")
	web.Replicas = 3
	web.Networks[0].Aliases = []string{"shop"}
	s := up(t, web, newService(t, "client", "sleep"))
	for name, want := range map[string][]string{
		"web": s.addresses("web-1", "web-2", "web-3"), "shop": s.addresses("web-1", "web-2", "web-3"),
		"web-2": s.addresses("web-2"), "client": s.addresses("client-1"), "nobody": nil,
	} {
		if got := s.found("client-1", name); !slices.Equal(got, want) {
			t.Errorf("%s is at %q, want %q", name, got, want)
		}
	}
	seen := map[string]bool{}
	for range 12 {
		seen[s.get("http://web")] = true
	}
	if len(seen) != 3 {
		t.Errorf("12 requests reach %v", seen)
	}
	if out, exit := s.exec("client-1", "get", "http://shop"); !exit.Success() || !strings.HasPrefix(out, "web-") {
		t.Errorf("%q, %s", out, exit)
	}
}

// TestNamesOfWhatEnds has a name lead nowhere while its container does not
// run.
func TestNamesOfWhatEnds(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "serve", ":80"), "get", "http://localhost")
	web.Replicas = 2
	web.Restart = Restart{Policy: "always", Delay: 5 * time.Second}
	s := up(t, web, newService(t, "client", "sleep"))
	before := s.box("web-1")
	must(t, s.byName["web-1"].process.Kill())
	s.until("web-1", "ends", func(b Box) bool { return b.Process.PID == 0 })
	if got := s.found("client-1", "web"); !slices.Equal(got, s.addresses("web-2")) {
		t.Errorf("web is at %q while web-1 is down", got)
	}
	if got := s.found("client-1", "web-1"); got != nil {
		t.Errorf("web-1 is at %q while it is down", got)
	}
	b := s.until("web-1", "is back", func(b Box) bool { return b.State == "healthy" && b.Starts == 2 })
	if b.Address["default"] != before.Address["default"] || b.Process == before.Process {
		t.Errorf("before %+v\nafter %+v", before, b)
	}
	if got := s.found("client-1", "web"); len(got) != 2 {
		t.Errorf("web is at %q when web-1 is back", got)
	}
}

func TestSeveralNetworks(t *testing.T) {
	t.Parallel()
	gateway, db, web := newService(t, "gateway", "sleep"), newService(t, "db", "serve", ":80"), newService(t, "web", "sleep")
	gateway.Networks = []Attachment{{Network: "front"}, {Network: "back", Aliases: []string{"proxy"}}}
	db.Networks = []Attachment{{Network: "back", Address: addr("10.99.0.7")}}
	web.Networks = []Attachment{{Network: "front"}}
	p := project(gateway, healthy(db, "get", "http://localhost"), web)
	p.Networks = []Network{{Name: "back", Subnet: netip.MustParsePrefix("10.99.0.0/24")}, {Name: "front"}}
	s := upAll(t, p)
	if b := s.box("gateway"); len(b.Address) != 2 || !strings.HasPrefix(b.Address["back"].String(), "10.99.0.") {
		t.Errorf("%+v", b.Address)
	}
	if out, exit := s.exec("gateway-1", "get", "http://db"); out != "db-1\n" || !exit.Success() {
		t.Errorf("%q, %s", out, exit)
	}
	if got := s.found("db-1", "proxy"); len(got) != 1 {
		t.Errorf("proxy is at %q", got)
	}
	if got := s.found("web-1", "db"); got != nil {
		t.Errorf("web finds db at %q, from a network that it is not on", got)
	}
}

func TestPublishedPorts(t *testing.T) {
	t.Parallel()
	web := healthy(newService(t, "web", "serve", ":80"), "get", "http://localhost")
	web.Replicas = 2
	web.Ports = []Port{{HostIP: addr("127.0.0.1"), ContainerPort: 80, Protocol: "tcp"}}
	s := up(t, web)
	address, _, _ := strings.Cut(s.box("web-1").Ports[0], "->")
	seen := map[string]bool{}
	for range 6 {
		seen[outside(t, address)] = true
	}
	if !seen["web-1\n"] || !seen["web-2\n"] || len(seen) != 2 {
		t.Errorf("6 requests reach %v", seen)
	}
	must(t, s.byName["web-2"].process.Kill())
	s.until("web-2", "ends", func(b Box) bool { return b.Process.PID == 0 })
	for range 4 {
		if got := outside(t, address); got != "web-1\n" {
			t.Errorf("%q", got)
		}
	}
	s.down()
	if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		c.Close()
		t.Errorf("%s is still there", address)
	}
}

func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	taken := netip.MustParseAddrPort(l.Addr().String()).Port()
	web := newService(t, "web", "sleep")
	web.Ports = []Port{
		{HostIP: addr("127.0.0.1"), ContainerPort: 80, Protocol: "tcp"},
		{HostIP: addr("127.0.0.1"), HostPort: taken, ContainerPort: 80, Protocol: "tcp"},
	}
	s := cannotRaise(t, project(web), 10*time.Second, "services.web.ports", l.Addr().String(), "the port is taken")
	if order := s.order(); len(order) > 0 {
		t.Errorf("%q", order)
	}
}

// TestDialWhileDown gives an error, and nothing else.
func TestDialWhileDown(t *testing.T) {
	t.Parallel()
	needRoot(t)
	lab := NewLab(project(newService(t, "web", "sleep")), Env{FS: proc0})
	if _, err := lab.Dial(t.Context(), "tcp", "web:80"); err == nil || !strings.Contains(err.Error(), "not up") {
		t.Error(err)
	}
	must(t, lab.Close())
	s := up(t, newService(t, "web", "sleep"))
	s.down()
	if _, err := s.Dial(t.Context(), "tcp", "web:80"); err == nil {
		t.Error("it connects")
	}
}
