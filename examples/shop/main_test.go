package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	down = "popular (fallback: recommendations is down)"
	slow = "popular (fallback: recommendations is slow)"
)

func TestCheckout(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	before := s.settled()
	for _, test := range []struct {
		name, path, form, accept string
		status                   int
		want                     []string
	}{
		{"the home page", "/?user=9", "", "text/html", 200, []string{"Picked for you, Ada", "Ada</b>, Brighton", "Matcha Ceremonial", `name="user" value="9"`}},
		{"the API's products", "/api/products", "", "*/*", 200, []string{`{"id":36,"name":"Tin with Two Lids"`}},
		{"the API's picks", "/api/picks?user=9", "", "*/*", 200, []string{`{"personal":true,"products":[{"id":`}},
		{"a load generator checks out", "/checkout", "", "*/*", 201, []string{`{"order":"`, `"personal":true`}},
		{"a program checks out", "/checkout", "user=9&product=6", "*/*", 201, []string{`"name":"Ada"`, `"Lapsang Souchong"`}},
		{"a browser checks out", "/checkout", "user=9&product=6", "text/html", 200, []string{"Thank you, Ada", "Lapsang Souchong for € 9.80 is on its way to Brighton"}},
		{"a customer nobody knows", "/checkout?user=4000&product=1", "", "text/html", 200, []string{"Thank you</h1>", "Customer 4000", "What everybody likes"}},
		{"no such product", "/checkout?product=99", "", "*/*", 400, []string{`{"error":"product 99: there is no such product"}`}},
		{"no number", "/checkout?user=me", "", "*/*", 400, []string{`{"error":"user \"me\": want a number from 1"}`}},
		{"elsewhere", "/elsewhere", "", "*/*", 404, nil},
	} {
		got := s.ask(test.path, test.form, test.accept)
		if got.status != test.status {
			t.Errorf("%s: status %d, want %d\n%s", test.name, got.status, test.status, got.body)
		}
		for _, want := range test.want {
			if !strings.Contains(got.body, want) {
				t.Errorf("%s: want %q in\n%s", test.name, want, got.body)
			}
		}
	}
	after := s.settled()
	if after.Billed != before.Billed+4 || after.Confirmed != before.Confirmed+4 || after.Lost != 0 {
		t.Errorf("4 checkouts after %+v made %+v", before, after)
	}
}

func TestRecommendationsDown(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.kill("recommendations")
	for range 30 {
		if a := s.checkout(); a.status != 201 || a.picks != down {
			t.Fatalf("while recommendations is down: %+v", a)
		}
	}
	if state := s.breaker("recommendations"); state != "open" {
		t.Errorf("its circuit breaker is %s after 30 failures, want open", state)
	}
	if page := s.ask("/", "", "text/html"); !strings.Contains(page.body, "Our personal picks are away for a moment") {
		t.Error("the page does not say that the picks are the popular ones")
	}
	s.start("recommendations")
	s.until("picks are personal again", func() bool { return s.checkout().picks == "personal" })
	if state := s.breaker("recommendations"); state != "closed" {
		t.Errorf("its circuit breaker is %s when it is back, want closed", state)
	}
}

func TestRecommendationsSlow(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.freeze("recommendations")
	var waited time.Duration
	for range 30 {
		a := s.checkout()
		waited += a.took
		if a.status != 201 || a.picks != slow {
			t.Fatalf("while recommendations stands still: %+v", a)
		}
	}
	if waited < 500*time.Millisecond {
		t.Errorf("30 customers waited %s in all: less than the deadlines of five", waited)
	}
	if state := s.breaker("recommendations"); state == "closed" {
		t.Error("its circuit breaker is closed after 30 deadlines")
	}
	s.signal("recommendations", syscall.SIGCONT)
	s.until("picks are personal again", func() bool { return s.checkout().picks == "personal" })
}

func TestWithoutFallback(t *testing.T) {
	t.Parallel()
	s := openShop(t, "SHOP_FALLBACK=off")
	before := s.settled()
	s.freeze("recommendations")
	if a := s.checkout(); a.status != http.StatusGatewayTimeout {
		t.Errorf("while recommendations stands still: %+v, want 504", a)
	}
	s.kill("recommendations")
	for _, path := range []string{"/", "/checkout", "/api/picks"} {
		if a := s.ask(path, "", "*/*"); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s while recommendations is down: %+v, want 503", path, a)
		}
	}
	if after := s.settled(); after.Accepted != before.Accepted {
		t.Errorf("checkouts that were refused made orders: %+v, before %+v", after, before)
	}
	s.start("recommendations")
	s.until("checkout works again", func() bool { return s.checkout().status == 201 })
}

func TestCatalogFrozen(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.freeze("catalog")
	s.until("customers are told how old the copy is", func() bool {
		a := s.checkout()
		if a.status != 201 {
			t.Fatalf("while the catalogue stands still: %+v", a)
		}
		return strings.HasPrefix(a.catalog, "copy, ")
	})
	if page := s.ask("/", "", "text/html"); !strings.Contains(page.body, "Our stockroom has not answered for a while") {
		t.Error("the page does not say that its prices are old")
	}
	s.restart("gateway") // it has nothing but its file
	if a := s.checkout(); a.status != 201 {
		t.Errorf("by a new gateway while the catalogue stands still: %+v", a)
	}
	s.signal("catalog", syscall.SIGCONT)
	s.until("the copy is new again", func() bool { return s.checkout().catalog == "" })
}

func TestUsersDown(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.kill("users")
	if a := s.ask("/checkout?user=9", "", "text/html"); a.status != 200 || !strings.Contains(a.body, "Thank you</h1>") {
		t.Errorf("while users is down: %+v", a)
	}
}

func TestOrdersDown(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.kill("orders")
	if a := s.checkout(); a.status != http.StatusServiceUnavailable {
		t.Errorf("while orders is down: %+v, want 503", a)
	}
	if a := s.ask("/", "", "text/html"); a.status != 200 {
		t.Errorf("the home page while orders is down: %+v", a)
	}
	s.start("orders")
	s.until("checkout works again", func() bool { return s.checkout().status == 201 })
}

// Whoever is killed on an order's way, while orders come in, none is lost, and
// none is billed twice.
func TestNoOrderIsLost(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"bus"}, {"billing"}, {"orders"}, {"bus", "orders", "billing"}} {
		t.Run(strings.Join(names, " and "), func(t *testing.T) {
			t.Parallel()
			s := openShop(t)
			stop := s.customers()
			for range 3 {
				for _, name := range names {
					s.kill(name)
				}
				time.Sleep(200 * time.Millisecond) // so long they are away
				for _, name := range names {
					s.start(name)
				}
				for _, name := range names {
					s.healthy(name)
				}
				s.until("checkout works", func() bool { return s.checkout().status == 201 })
				time.Sleep(100 * time.Millisecond) // so long all goes well, up to the next kill
				if a := s.audit(); a.Lost != 0 {
					t.Errorf("while orders come in: %+v", a)
				}
			}
			well, ill := stop()
			a := s.settled()
			t.Logf("%d checkouts well, %d ill: %+v", well, ill, a)
			if a.Lost != 0 || a.Billed != a.Accepted || a.Confirmed < well || a.Accepted < a.Confirmed || well == 0 {
				t.Errorf("%d checkouts were answered well: %+v", well, a)
			}
			if names[0] != "orders" && len(names) == 1 && ill > 0 {
				t.Errorf("%d checkouts failed, though orders was there", ill)
			}
		})
	}
}

func TestOrdersWaitForTheBus(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	s.settled()
	s.kill("bus")
	for range 10 {
		if a := s.checkout(); a.status != 201 {
			t.Fatalf("while the bus is down: %+v", a)
		}
	}
	if a := s.audit(); a.Outbox < 10 || a.Lost != 0 {
		t.Errorf("10 checkouts while the bus is down: %+v", a)
	}
	s.start("bus")
	s.settled()
}

// A bus that forgets what it has acknowledged is a loss, and the audit must
// say so.
func TestAuditSeesALoss(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	before := s.settled()
	s.signal("billing", syscall.SIGTERM) // so that it is not in the middle of anything
	_ = s.running["billing"].Wait()
	for range 3 {
		s.checkout()
	}
	s.until("the bus has all", func() bool {
		var stats struct{ Pending int }
		return s.get("orders", "/stats", &stats) == nil && stats.Pending == 0
	})
	conn, err := nats.Connect("nats://" + s.bus)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	orders, err := js.Stream(context.Background(), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if err := orders.Purge(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.start("billing")
	s.healthy("billing")
	var a audit
	s.until("the audit knows", func() bool { return s.get("gateway", "/audit", &a) == nil && a.Lost > 0 })
	if a.Lost != 3 || a.Billed != before.Billed {
		t.Errorf("3 orders were thrown away: %+v", a)
	}
}

func TestTermEndsEachService(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	for _, name := range names() {
		begun := time.Now()
		s.signal(name, syscall.SIGTERM)
		if err := s.running[name].Wait(); err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
		t.Logf("%s ended after %s", name, time.Since(begun).Round(time.Millisecond))
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	none := func(string) string { return "" }
	for name, test := range map[string]struct {
		args   []string
		getenv func(string) string
		want   string
	}{
		"nothing":            {nil, none, "wrong usage"},
		"unknown service":    {[]string{"till"}, none, "wrong usage"},
		"a word too much":    {[]string{"bus", "now"}, none, "wrong usage"},
		"no URL":             {[]string{"healthcheck"}, none, "wrong usage"},
		"neither on nor off": {[]string{"gateway"}, func(key string) string { return map[string]string{"SHOP_FALLBACK": "maybe"}[key] }, `SHOP_FALLBACK: want on or off, not "maybe"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(context.Background(), test.args, test.getenv, io.Discard); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	s := openShop(t)
	check := func(path string) error {
		c := exec.Command(os.Args[0], "healthcheck", "http://"+s.addrs["users"]+path)
		c.Env = append(os.Environ(), asCommand+"=1")
		return c.Run()
	}
	if err := check("/healthz"); err != nil {
		t.Error("of a service that is well:", err)
	}
	if check("/users/4000") == nil {
		t.Error("of a page that is not there: it exited 0")
	}
	s.kill("users")
	if check("/healthz") == nil {
		t.Error("of a service that is down: it exited 0")
	}
}
