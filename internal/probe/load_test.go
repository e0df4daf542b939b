package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/simianhq/simian/experiment"
)

const hour = experiment.Duration(time.Hour)

func check(measure string) experiment.Check {
	return experiment.Check{Name: "c", Traffic: "web", Measure: measure, Window: experiment.DefaultWindow}
}

// startLoad sends to url and stops at the end of the test.
func startLoad(t *testing.T, traffic experiment.Traffic) *Load {
	t.Helper()
	traffic.Name = "web"
	l, err := NewLoad(Env{}, []experiment.Traffic{traffic})
	checkError(t, err, "")
	checkError(t, l.Start(t.Context()), "")
	t.Cleanup(l.Stop)
	return l
}

// measure measures the first n requests.
func measure(t *testing.T, l *Load, what string, n int) (float64, error) {
	t.Helper()
	r := l.streams["web"].record
	return l.Probe(check(what)).MeasureWindow(t.Context(), r.began, r.began.Add(time.Duration(n)*r.per+1))
}

func mustMeasure(t *testing.T, l *Load, what string, n int) float64 {
	t.Helper()
	v, err := measure(t, l, what, n)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return v
}

func TestLoadIsAnswered(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	server := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got.Store(fmt.Sprint(r.Method, " ", r.Host, " ", r.UserAgent(), " ", r.Header.Get("X-Key"), " ", string(body)))
	})
	l := startLoad(t, experiment.Traffic{
		URL: server, Rate: 200, Method: "POST", Body: "words", Timeout: hour,
		Headers: map[string]string{"host": "shop", "x-key": "k"},
	})
	if v := mustMeasure(t, l, "success", 20); v != 1 {
		t.Errorf("success %v", v)
	}
	if v := mustMeasure(t, l, "rate", 20); v < 199 || v > 201 {
		t.Errorf("rate %v", v)
	}
	least, most := mustMeasure(t, l, "p50", 20), mustMeasure(t, l, "max", 20)
	if least <= 0 || least > most {
		t.Errorf("p50 %vs, max %vs", least, most)
	}
	if want := "POST shop simian k words"; got.Load() != want {
		t.Errorf("the server got %q, want %q", got.Load(), want)
	}
	if sent, failed := l.Totals("web"); sent < 20 || failed != 0 {
		t.Errorf("sent %d, failed %d", sent, failed)
	}
	if sent, _ := l.Totals("other"); sent != 0 {
		t.Errorf("sent %d of another", sent)
	}
}

// Sends do not wait for answers, and the wait counts from when a request was
// due: with nothing answered until the 40th request has come, the first one
// has waited for 39 intervals at least.
func TestLoadIsOpenLoop(t *testing.T) {
	t.Parallel()
	const n = 40
	var came atomic.Int32
	all := make(chan struct{})
	server := newServer(t, func(http.ResponseWriter, *http.Request) {
		if came.Add(1) == n {
			close(all)
		}
		<-all
	})
	l := startLoad(t, experiment.Traffic{URL: server, Rate: 500, Timeout: hour})
	if v := mustMeasure(t, l, "success", n); v != 1 {
		t.Errorf("success %v", v)
	}
	if v, least := mustMeasure(t, l, "max", n), (n-1)*0.002; v < least {
		t.Errorf("the slowest took %vs, want %vs at least", v, least)
	}
	// The median may lie between two answers, and is estimated.
	if v, least := mustMeasure(t, l, "p50", n), (n/4)*0.002; v < least {
		t.Errorf("the median is %vs, want %vs at least", v, least)
	}
}

func TestLoadFails(t *testing.T) {
	t.Parallel()
	const timeout = 100 * time.Millisecond
	for name, tt := range map[string]struct {
		url   string
		least float64
	}{
		"refused":  {url: "http://" + closedPort(t)},
		"silent":   {url: "http://" + silent(t), least: timeout.Seconds()},
		"stuck":    {url: newServer(t, system) + "/stuck", least: timeout.Seconds()},
		"HTTP 503": {url: newServer(t, system) + "/status?503"},
		"cut off":  {url: newServer(t, system) + "/cut"},
		"for ever": {url: newServer(t, system) + "/loop"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := startLoad(t, experiment.Traffic{URL: tt.url, Rate: 100, Timeout: experiment.Duration(timeout)})
			if v := mustMeasure(t, l, "success", 10); v != 0 {
				t.Errorf("success %v", v)
			}
			if v := mustMeasure(t, l, "rate", 10); v != 0 {
				t.Errorf("rate %v", v)
			}
			if v := mustMeasure(t, l, "mean", 10); v <= tt.least {
				t.Errorf("mean %vs, want %vs at least", v, tt.least)
			}
			if sent, failed := l.Totals("web"); sent != failed || sent < 10 {
				t.Errorf("sent %d, failed %d", sent, failed)
			}
		})
	}
}

func TestLoadFollowsRedirects(t *testing.T) {
	t.Parallel()
	l := startLoad(t, experiment.Traffic{URL: newServer(t, system) + "/moved", Rate: 100, Timeout: hour})
	if v := mustMeasure(t, l, "success", 5); v != 1 {
		t.Errorf("success %v", v)
	}
}

func TestLoadStops(t *testing.T) {
	// Not parallel: goroutines are counted.
	never := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for name, tt := range map[string]struct {
		path string
		rate experiment.Rate
		dial func(context.Context, string, string) (net.Conn, error)
		end  func(*Load, context.CancelFunc)
	}{
		"while idle":       {"/stats", 200, nil, func(l *Load, _ context.CancelFunc) { l.Stop() }},
		"while stuck":      {"/stuck", 200, nil, func(l *Load, _ context.CancelFunc) { l.Stop() }},
		"while dialling":   {"/stats", 200, never, func(l *Load, _ context.CancelFunc) { l.Stop() }},
		"before the first": {"/stats", 1.0 / 3600, nil, func(l *Load, _ context.CancelFunc) { l.Stop() }},
		"by its context":   {"/stuck", 200, nil, func(l *Load, cancel context.CancelFunc) { cancel() }},
	} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			var came, open atomic.Int32
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				came.Add(1)
				system(w, r)
			}))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				open.Add(map[http.ConnState]int32{http.StateNew: 1, http.StateClosed: -1}[s])
			}
			server.Start()
			l, err := NewLoad(Env{Dial: tt.dial}, []experiment.Traffic{{Name: "web", URL: server.URL + tt.path, Rate: tt.rate, Timeout: hour}})
			checkError(t, err, "")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			checkError(t, l.Start(ctx), "")
			if tt.dial == nil && tt.rate > 1 {
				eventually(t, "requests come", func() bool { return came.Load() > 20 })
			}
			tt.end(l, cancel)
			l.Stop()
			_, failed := l.Totals("web")
			if failed > 0 {
				t.Errorf("%d requests that were cut off count as failed", failed)
			}
			eventually(t, "connections are closed", func() bool { return open.Load() == 0 })
			server.Close()
			noMoreGoroutines(t, before)
			checkError(t, l.Start(ctx), "start the traffic: it is ")
		})
	}
}

func TestLoadAfterStop(t *testing.T) {
	t.Parallel()
	server := newServer(t, system)
	l := startLoad(t, experiment.Traffic{URL: server + "/stats", Rate: 200, Timeout: hour})
	_ = mustMeasure(t, l, "success", 5)
	waits := make(chan error, 1)
	go func() {
		_, err := measure(t, l, "success", 1000) // of which most are never sent
		waits <- err
	}()
	l.Stop()
	checkError(t, <-waits, "the traffic was stopped before all was answered")
	if v := mustMeasure(t, l, "success", 5); v != 1 {
		t.Errorf("success %v", v)
	}
	_, err := measure(t, l, "success", 1000)
	checkError(t, err, "the traffic was stopped before all was answered")
}

func TestLoadNeverStarted(t *testing.T) {
	t.Parallel()
	l, err := NewLoad(Env{}, []experiment.Traffic{{Name: "web", URL: "http://web", Rate: 1}})
	checkError(t, err, "")
	_, err = l.Probe(check("success")).MeasureWindow(t.Context(), time.Now(), time.Now())
	checkError(t, err, "the traffic has not started")
	l.Stop()
	checkError(t, l.Start(t.Context()), "it is stopped already")

	_, err = l.Probe(experiment.Check{Traffic: "app", Measure: "p50"}).MeasureWindow(t.Context(), time.Now(), time.Now())
	checkError(t, err, `no traffic is named "app"`)
	_, err = l.Probe(check("p42")).MeasureWindow(t.Context(), time.Now(), time.Now())
	checkError(t, err, `"p42" cannot be measured of traffic`)
}

func TestMeasureWindowEndsWithContext(t *testing.T) {
	t.Parallel()
	l := startLoad(t, experiment.Traffic{URL: "http://" + silent(t), Rate: 100, Timeout: hour})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := l.Probe(check("p50")).MeasureWindow(ctx, time.Now(), time.Now().Add(time.Second))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestLoadRemembersItsWindows(t *testing.T) {
	t.Parallel()
	l, err := NewLoad(Env{}, []experiment.Traffic{{Name: "web", URL: "http://web", Rate: 10, Timeout: experiment.Duration(10 * time.Second)}})
	checkError(t, err, "")
	long := check("p99")
	long.Window = experiment.Duration(10 * time.Minute)
	l.Probe(long)
	l.Probe(check("p50"))
	r := l.streams["web"].record
	r.begin(time.Now())
	if least := 10 * (600 + 10 + 120); len(r.ring) < least {
		t.Errorf("room for %d outcomes, want %d at least", len(r.ring), least)
	}
}

func TestNewLoad(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		traffic experiment.Traffic
		per     time.Duration
		err     string
	}{
		"half a request": {experiment.Traffic{URL: "http://web", Rate: 0.5}, 2 * time.Second, ""},
		"three":          {experiment.Traffic{URL: "http://web", Rate: 3}, 333333333, ""},
		"fastest":        {experiment.Traffic{URL: "http://web", Rate: 1e5}, 10 * time.Microsecond, ""},
		"slowest":        {experiment.Traffic{URL: "http://web", Rate: 1.0 / 86400}, 24 * time.Hour, ""},
		"too fast":       {experiment.Traffic{URL: "http://web", Rate: 2e5}, 0, "traffic web: rate: 200000/s is more than the 100000/s that can be sent"},
		"too slow":       {experiment.Traffic{URL: "http://web", Rate: 1e-300}, 0, "traffic web: rate: 1e-300/s is less than one request a day"},
		"none":           {experiment.Traffic{URL: "http://web"}, 0, "traffic web: rate: 0/s is less than one request a day"},
		"method":         {experiment.Traffic{URL: "http://web", Rate: 1, Method: "a b"}, 0, `traffic web: method: "a b" is not an HTTP method`},
		"header":         {experiment.Traffic{URL: "http://web", Rate: 1, Headers: map[string]string{"": "x"}}, 0, `traffic web: headers: "" is not the name of a header`},
		"url":            {experiment.Traffic{URL: "web", Rate: 1}, 0, "traffic web: url: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.traffic.Name = "web"
			l, err := NewLoad(Env{}, []experiment.Traffic{tt.traffic})
			checkError(t, err, tt.err)
			if err == nil && l.streams["web"].record.per != tt.per {
				t.Errorf("one each %s, want %s", l.streams["web"].record.per, tt.per)
			}
		})
	}
}
