package probe

import (
	"context"
	"math"
	"net/http"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/simianhq/simian/experiment"
)

// What one process can be asked to send.
const (
	fastest = 100_000        // requests/s
	slowest = 24 * time.Hour // from one request to the next
)

// stream is the load of one traffic. Vegeta sends it: it takes one more worker
// and one more connection whenever all of them wait for an answer.
type stream struct {
	target  vegeta.Target
	timeout time.Duration
	dial    dialFunc
	record  *record
}

func newStream(dial dialFunc, t experiment.Traffic) (*stream, error) {
	per := time.Duration(math.Round(min(float64(time.Second)/float64(t.Rate), 2*float64(slowest))))
	switch {
	case !(t.Rate > 0) || per > slowest:
		return nil, experiment.Fieldf("rate", "%s is less than one request a day", t.Rate)
	case t.Rate > fastest:
		return nil, experiment.Fieldf("rate", "%s is more than the %d/s that can be sent", t.Rate, fastest)
	}
	template, err := newRequest(t.Method, t.URL, t.Headers)
	if err != nil {
		return nil, err
	}
	timeout := t.Timeout
	if timeout == 0 {
		timeout = experiment.DefaultTrafficTimeout
	}
	return &stream{
		target:  vegeta.Target{Method: template.Method, URL: t.URL, Body: []byte(t.Body), Header: template.Header},
		timeout: timeout.D(),
		dial:    dial,
		record:  newRecord(per),
	}, nil
}

// run sends until ctx ends, and returns once every request is over and every
// connection closed.
func (s *stream) run(ctx context.Context) {
	lines := &lines{}
	transport := newTransport(lines.dialer(ctx, s.dial, s.timeout), vegeta.DefaultConnections)
	attacker := vegeta.NewAttacker(
		vegeta.Client(&http.Client{Transport: transport, Timeout: s.timeout}),
		vegeta.MaxBody(0), // bodies are read to their end, and not kept
	)
	context.AfterFunc(ctx, lines.hangUp)
	results := attacker.Attack(vegeta.NewStaticTargeter(s.target), s.pacer(ctx), 0, "")
	for r := range results {
		s.keep(r, ctx.Err() != nil)
	}
	lines.hangUp()
	transport.CloseIdleConnections()
	s.record.end()
}

// newTransport keeps up to idle connections to each host alive.
//
// It speaks HTTP/1.1 only: a request that times out then takes its connection
// with it, and the next one dials anew. Over HTTP/2 all requests would go on
// sharing a connection whose other end is gone, long after the system is well
// again. Proxies of the environment are not used: what is measured is the
// system itself.
func newTransport(dial dialFunc, idle int) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:         dial,
		Protocols:           protocols,
		MaxIdleConnsPerHost: idle,
		DisableCompression:  true, // a body's size is the size on the wire
		IdleConnTimeout:     90 * time.Second,
	}
}

// keep notes how request r ended. One that failed after the traffic was told to
// stop was cut off by that: nothing is known of it.
func (s *stream) keep(r *vegeta.Result, stopped bool) {
	answered := r.Error == ""
	if stopped && !answered {
		return
	}
	s.record.put(r.Seq, r.End(), answered)
}

// pacer is vegeta's constant rate, counted from the record's beginning, so that
// both agree on when a request is due. It waits by itself: vegeta would sleep
// on through the end of ctx, for hours at some rates.
func (s *stream) pacer(ctx context.Context) vegeta.Pacer {
	return &pacer{
		ConstantPacer: vegeta.ConstantPacer{Freq: 1, Per: s.record.per},
		began:         s.record.began,
		stopped:       ctx.Done(),
		timer:         time.NewTimer(0),
	}
}

type pacer struct {
	vegeta.ConstantPacer
	began   time.Time
	stopped <-chan struct{}
	timer   *time.Timer
}

// Pace implements vegeta.Pacer.
func (p *pacer) Pace(_ time.Duration, hits uint64) (wait time.Duration, stop bool) {
	wait, stop = p.ConstantPacer.Pace(time.Since(p.began), hits)
	p.timer.Reset(max(wait, 0))
	select {
	case <-p.stopped:
		return 0, true
	case <-p.timer.C:
		return 0, stop
	}
}
