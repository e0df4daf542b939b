package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ohler55/ojg/jp"

	"github.com/simianhq/simian/experiment"
)

const (
	maxAnswer = 1 << 20 // bytes of an answer's body that are read
	maxIdle   = 2       // connections kept while nothing is asked
)

// HTTP asks a URL, and measures one thing of the answer.
//
// Redirects are followed, up to ten. An answer counts once its body is read
// too, up to 1 MiB: a server that stops in the midst of it is a failed sample,
// and so is a status of 400 or more, unless the status is what is measured.
//
// Connections are kept alive. Where one was closed since the last sample, as by
// a restart, net/http asks once more on a new one by itself, for GET, HEAD,
// OPTIONS and TRACE: a sample tells how the system is now. A connection whose
// other end vanished without closing it costs one sample, which times out and
// takes the connection along.
type HTTP struct {
	URL     string              `json:"url" jsonschema:"http or https"`
	Method  string              `json:"method,omitempty" jsonschema:"GET unless told otherwise"`
	Headers map[string]string   `json:"headers,omitempty" jsonschema:"sent with each request"`
	Body    string              `json:"body,omitempty" jsonschema:"sent with each request"`
	Of      string              `json:"measure,omitempty" jsonschema:"of the answer: status (the default), seconds until all of it was there, or size of its body in bytes"`
	JSON    string              `json:"json,omitempty" jsonschema:"instead of measure, the JSONPath of a number in the answer, such as $.perMinute; true counts as 1, false as 0"`
	Timeout experiment.Duration `json:"timeout,omitzero" jsonschema:"an answer that is not complete by then is a failed sample (1s)"`

	dial  dialFunc
	once  sync.Once
	asker *asker
	err   error
}

// asker is what all samples of one HTTP probe share.
type asker struct {
	client   *http.Client
	template *http.Request
	path     jp.Expr // nil where no JSON is looked at
}

// answer is what came back, completely.
type answer struct {
	status  int
	size    int64 // bytes of the body, maxAnswer+1 where there are more
	body    []byte
	seconds float64
}

// Validate implements experiment.Validator.
func (h *HTTP) Validate() error {
	if _, err := newRequest(h.Method, h.URL, h.Headers); err != nil {
		return err
	}
	if err := checkMeasure(h.Of, "seconds", "size", "status"); err != nil {
		return err
	}
	if h.JSON != "" && h.Of != "" {
		return experiment.Fieldf("json", "a probe measures one thing: leave out measure, or json")
	}
	if _, err := parsePath(h.JSON); err != nil {
		return err
	}
	return checkTimeout(h.Timeout)
}

// Unit implements experiment.Measured: "s" for seconds, "B" for size.
func (h *HTTP) Unit() string {
	return map[string]string{"seconds": "s", "size": "B"}[h.Of]
}

// Measure implements experiment.Probe. It may be called by several at once.
func (h *HTTP) Measure(ctx context.Context) (float64, error) {
	h.once.Do(func() { h.asker, h.err = h.newAsker() })
	if h.err != nil {
		return 0, h.err
	}
	within, cancel := context.WithTimeout(ctx, h.Timeout.D())
	defer cancel()
	a, err := h.ask(within)
	if err != nil {
		return 0, plain(ctx, err, h.Timeout)
	}
	return h.number(a)
}

func (h *HTTP) newAsker() (*asker, error) {
	template, err := newRequest(h.Method, h.URL, h.Headers)
	if err != nil {
		return nil, err
	}
	path, err := parsePath(h.JSON)
	if err != nil {
		return nil, err
	}
	transport := newTransport(func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, h.Timeout.D()) // net/http dials on for a request that has given up
		defer cancel()
		return h.dial(ctx, network, address)
	}, maxIdle)
	return &asker{&http.Client{Transport: transport}, template, path}, nil
}

func (h *HTTP) ask(ctx context.Context) (a answer, err error) {
	req := h.asker.template.WithContext(ctx)
	if h.Body != "" {
		req.ContentLength = int64(len(h.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(h.Body)), nil }
		req.Body, _ = req.GetBody()
	}
	began := time.Now()
	resp, err := h.asker.client.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	var body bytes.Buffer
	into := io.Discard
	if h.asker.path != nil {
		into = &body
	}
	a.size, err = io.Copy(into, io.LimitReader(resp.Body, maxAnswer+1))
	a.body, a.seconds = body.Bytes(), time.Since(began).Seconds()
	return a, err
}

// number picks what is measured out of a.
func (h *HTTP) number(a answer) (float64, error) {
	asksStatus := h.JSON == "" && (h.Of == "" || h.Of == "status")
	switch {
	case asksStatus:
		return float64(a.status), nil
	case a.status >= 400:
		return 0, fmt.Errorf("HTTP %d", a.status)
	case h.Of == "seconds":
		return a.seconds, nil
	case a.size > maxAnswer:
		return 0, errors.New("the answer is larger than 1 MiB")
	case h.JSON != "":
		return numberAt(h.asker.path, a.body)
	}
	return float64(a.size), nil
}
