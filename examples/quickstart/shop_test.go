package main

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestShop(t *testing.T) {
	t.Parallel()
	h := newShop(812, "127.0.0.1:18080").handler()
	for _, test := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 200, "Hello from worker 812 at 127.0.0.1:18080.\n"},
		{"GET", "/healthz", "", 200, "ok\n"},
		{"POST", "/orders", "tea", 201, `{"pid":812,"order":1,"receipt":"4701f0cacbcc4c05"}` + "\n"},
		{"POST", "/orders", strings.Repeat("x", largestOrder+1), 400, "http: request body too large\n"},
		{"GET", "/orders", "", 200, `{"pid":812,"orders":1}` + "\n"},
		{"DELETE", "/orders", "", 405, "Method Not Allowed\n"},
		{"GET", "/elsewhere", "", 404, "404 page not found\n"},
		{"GET", "/stats", "", 200, `{"pid":812,"served":8,`},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(test.method, test.path, strings.NewReader(test.body)))
		if w.Code != test.status || !strings.HasPrefix(w.Body.String(), test.want) {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, w.Code, w.Body, test.status, test.want)
		}
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	now := start
	m := newMeter(func() time.Time { return now })
	count := func(n int) {
		for range n {
			m.add()
		}
	}
	for _, step := range []struct {
		name             string
		at               time.Duration
		count            int
		total, perMinute int64
	}{
		{"in its first second", 0, 2, 2, 120},
		{"after half a minute", 30 * time.Second, 8, 10, 20},
		{"after a minute the first second is out", 60 * time.Second, 0, 10, 8},
		{"a second counted anew", 90 * time.Second, 5, 15, 5},
		{"a minute of nothing", 150 * time.Second, 0, 15, 0},
	} {
		now = start.Add(step.at)
		count(step.count)
		if total, perMinute := m.read(); total != step.total || perMinute != step.perMinute {
			t.Errorf("%s: %d and %d a minute, want %d and %d", step.name, total, perMinute, step.total, step.perMinute)
		}
	}
}
