package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen. Nothing is measured
// with it: on a quiet machine all of it takes milliseconds.
const patience = 30 * time.Second

const asCommand = "SHOP_TEST_AS_COMMAND"

// TestMain lets the test binary be the command, so that the tests run a shop of
// real processes, which can be killed and frozen.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// shop is seven processes.
type shop struct {
	t       *testing.T
	dir     string
	env     []string
	addrs   map[string]string // where each service serves HTTP
	bus     string            // where the bus listens
	running map[string]*exec.Cmd
	logs    *syncedBuffer
	client  *http.Client
}

// openShop starts all services and waits until customers can be served. Each
// shop has addresses of its own: a port that is free now may be taken later.
func openShop(t *testing.T, env ...string) *shop {
	t.Helper()
	net := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
	s := &shop{t: t, dir: t.TempDir(), bus: net + "100:4222", addrs: map[string]string{}, running: map[string]*exec.Cmd{}, logs: &syncedBuffer{}, client: &http.Client{Timeout: patience}}
	s.env = append(os.Environ(), asCommand+"=1", "SHOP_BUS_ADDR="+s.bus)
	for i, name := range names() {
		s.addrs[name] = fmt.Sprintf("%s%d:8080", net, i+1)
		s.env = append(s.env, "SHOP_"+strings.ToUpper(name)+"_URL=http://"+s.addrs[name])
	}
	s.env = append(s.env, "SHOP_BUS_URL=nats://"+s.bus) // the last one counts
	s.env = append(s.env, env...)
	t.Cleanup(s.close)
	for _, name := range names() {
		s.start(name)
	}
	for _, name := range names() {
		s.healthy(name)
	}
	s.until("picks are personal", func() bool { return s.checkout().picks == "personal" })
	return s
}

func (s *shop) close() {
	for name := range s.running {
		s.kill(name)
	}
	s.client.CloseIdleConnections()
	if s.t.Failed() {
		s.t.Log(s.logs)
	}
	if strings.Contains(s.logs.String(), "DATA RACE") {
		s.t.Errorf("a service has a data race:\n%s", s.logs)
	}
}

func (s *shop) start(name string) {
	s.t.Helper()
	data := filepath.Join(s.dir, name)
	if err := os.MkdirAll(data, 0o700); err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command(os.Args[0], name)
	c.Env = append(s.env, "SHOP_ADDR="+s.addrs[name], "SHOP_DATA="+data)
	c.Stdout, c.Stderr = s.logs, s.logs
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.running[name] = c
}

// kill ends a service with SIGKILL, and waits until it is gone.
func (s *shop) kill(name string) {
	c := s.running[name]
	delete(s.running, name)
	_ = c.Process.Kill()
	_ = c.Wait()
}

func (s *shop) restart(name string) {
	s.t.Helper()
	s.kill(name)
	s.start(name)
	s.healthy(name)
}

func (s *shop) signal(name string, sig syscall.Signal) {
	s.t.Helper()
	if err := s.running[name].Process.Signal(sig); err != nil {
		s.t.Fatalf("send %s to %s: %v", sig, name, err)
	}
}

// freeze stops a service, and waits until each of its threads stands still.
func (s *shop) freeze(name string) {
	s.t.Helper()
	s.signal(name, syscall.SIGSTOP)
	s.until(name+" stands still", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.running[name].Process.Pid))
		for _, stat := range threads {
			if data, err := os.ReadFile(stat); err == nil && !bytes.Contains(data, []byte(") T ")) {
				return false
			}
		}
		return true
	})
}

func (s *shop) healthy(name string) {
	s.t.Helper()
	s.until(name+" is healthy", func() bool {
		return s.get(name, "/healthz", nil) == nil
	})
}

func (s *shop) until(what string, done func() bool) {
	s.t.Helper()
	for late := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			s.t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// get asks a service, and decodes its answer where into is not nil.
func (s *shop) get(name, path string, into any) error {
	resp, err := s.client.Get("http://" + s.addrs[name] + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("%s%s: status %d", name, path, resp.StatusCode)
	}
	if into == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// answer is what a customer got.
type answer struct {
	status  int
	picks   string // X-Recommendations
	catalog string // X-Catalog
	body    string
	took    time.Duration
}

// ask sends a customer's request. A form makes it a POST.
func (s *shop) ask(path, form, accept string) answer {
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, "http://"+s.addrs["gateway"]+path, strings.NewReader(form))
	if err != nil {
		return answer{body: err.Error()}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", accept)
	begun := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("X-Recommendations"), resp.Header.Get("X-Catalog"), string(body), time.Since(begun)}
}

func (s *shop) checkout() answer { return s.ask("/checkout", "", "*/*") }

// audit is what the gateway says of all orders.
type audit struct{ Confirmed, Accepted, Billed, Outbox, Bus, Lost int }

func (s *shop) audit() (a audit) {
	s.t.Helper()
	if err := s.get("gateway", "/audit", &a); err != nil {
		s.t.Fatal(err)
	}
	return a
}

// settled waits until every order is billed, and returns the audit then.
func (s *shop) settled() (a audit) {
	s.t.Helper()
	s.until("every order is billed", func() bool {
		return s.get("gateway", "/audit", &a) == nil && a.Billed >= a.Accepted && a.Outbox+a.Bus == 0
	})
	return a
}

// breaker returns the state of one of the gateway's circuit breakers.
func (s *shop) breaker(name string) string {
	var stats struct{ Breakers map[string]string }
	if err := s.get("gateway", "/stats", &stats); err != nil {
		return err.Error()
	}
	return stats.Breakers[name]
}

// customers check out until stop is called, which returns how many were
// answered with 2xx, and how many not.
func (s *shop) customers() (stop func() (well, ill int)) {
	ctx, cancel := context.WithCancel(context.Background())
	var well, ill int
	var shopping sync.WaitGroup
	shopping.Go(func() {
		for ctx.Err() == nil {
			if s.checkout().status == http.StatusCreated {
				well++
			} else {
				ill++
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() (int, int) {
		cancel()
		shopping.Wait()
		return well, ill
	}
}

// syncedBuffer is what seven processes log.
type syncedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
