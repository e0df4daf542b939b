// Package httprelay stands between a server and those who ask it by HTTP: it
// aborts, delays or answers some requests itself, and passes all others on. An
// nft table in the target's network namespace redirects what comes for the
// server's port to its socket:
//
//	client ─▶ port 8080 ─redirect▶ relay ─▶ the server, on the same address and port, from inside
//	                               │
//	                               └ the connection cut, or a status of its own, or later
//
// What is no HTTP/1 (TLS, HTTP/2) is passed on untouched.
//
// The package imports the standard library only: it runs in a helper, before
// the rest of the binary is initialised (internal/stage).
package httprelay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Rule says which requests are meant, and what becomes of them.
type Rule struct {
	Requests []string          `json:"requests,omitempty"` // patterns of net/http's ServeMux, such as "POST /orders/{id}"; none is all
	Headers  map[string]string `json:"headers,omitempty"`  // regular expressions (RE2) that the whole of a header's value matches
	Percent  float64           `json:"percent,omitzero"`   // of the requests that match; 0 is all

	DelayNs int64             `json:"delayNs,omitzero"` // first, they wait for so long
	Abort   bool              `json:"abort,omitzero"`   // the connection is reset
	Status  int               `json:"status,omitzero"`  // they are answered with this one; 0 passes them on
	Answer  map[string]string `json:"answer,omitempty"` // headers of that answer
	Body    string            `json:"body,omitempty"`   // of that answer
}

// Check says what is wrong with r.
func (r *Rule) Check() error {
	_, err := newMatcher(r)
	switch {
	case err != nil:
		return err
	case r.DelayNs == 0 && !r.Abort && r.Status == 0:
		return errors.New("it does nothing")
	case r.Abort && r.Status != 0:
		return errors.New("what is aborted gets no status")
	case r.Status != 0 && (r.Status < 200 || r.Status > 599):
		return fmt.Errorf("%d is no status of an answer (200 to 599)", r.Status)
	}
	return nil
}

// matcher is a Rule's words, read.
type matcher struct {
	rule    *Rule
	paths   *http.ServeMux // nil is all
	headers map[string]*regexp.Regexp
}

func newMatcher(r *Rule) (m *matcher, err error) {
	m = &matcher{rule: r, headers: map[string]*regexp.Regexp{}}
	for name, text := range r.Headers {
		if m.headers[name], err = regexp.Compile("^(?:" + text + ")$"); err != nil {
			return nil, fmt.Errorf("header %s: %w", name, err)
		}
	}
	if len(r.Requests) == 0 {
		return m, nil
	}
	m.paths = http.NewServeMux()
	for _, pattern := range r.Requests {
		if err := m.add(pattern); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// add takes a pattern in. ServeMux panics where it can't read one.
func (m *matcher) add(pattern string) (err error) {
	defer func() {
		if bad := recover(); bad != nil {
			why, _, _ := strings.Cut(fmt.Sprint(bad), "\n")
			err = fmt.Errorf("pattern %q: %s", pattern, why)
		}
	}()
	m.paths.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) {})
	return nil
}

// matches tells whether r is meant, but for Percent.
func (m *matcher) matches(r *http.Request) bool {
	if m.paths != nil {
		if _, pattern := m.paths.Handler(r); pattern == "" {
			return false
		}
	}
	for name, want := range m.headers {
		if !m.header(r, name, want) {
			return false
		}
	}
	return true
}

func (m *matcher) header(r *http.Request, name string, want *regexp.Regexp) bool {
	values := r.Header.Values(name)
	if strings.EqualFold(name, "Host") { // which net/http takes out
		values = []string{r.Host}
	}
	for _, value := range values {
		if want.MatchString(value) {
			return true
		}
	}
	return false
}

// struck draws whether a request that matches is struck.
func (m *matcher) struck() bool {
	return m.rule.Percent == 0 || rand.Float64()*100 < m.rule.Percent
}

func (r *Rule) delay() time.Duration { return time.Duration(r.DelayNs) }
