package report

import (
	"fmt"
	"io"
	"time"
)

// What a slow terminal may hold up.
const (
	outboxLines = 256             // wait to be written; more are dropped
	lastWait    = 1 * time.Second // for them, when the run is over
)

// outbox writes to something that may stand still (a terminal after Ctrl-S, a
// full pipe) or be gone: whoever sends never waits, and never hears of it.
type outbox struct {
	lines   chan string
	done    chan struct{} // closed once all is written
	dropped int
	closed  bool
}

func newOutbox(w io.Writer) *outbox {
	o := &outbox{lines: make(chan string, outboxLines), done: make(chan struct{})}
	go o.deliver(w)
	return o
}

// deliver writes what was sent, until the first error.
func (o *outbox) deliver(w io.Writer) {
	defer close(o.done)
	broken := false
	for s := range o.lines {
		if !broken {
			_, err := io.WriteString(w, s)
			broken = err != nil
		}
	}
}

// send queues s; where there is no room it is dropped, and the next one that
// has room says so.
func (o *outbox) send(s string) {
	if o.closed {
		return
	}
	if o.dropped > 0 {
		s = fmt.Sprintf("(%s not shown)\n", plural(o.dropped, "line", "lines")) + s
	}
	select {
	case o.lines <- s:
		o.dropped = 0
	default:
		o.dropped++
	}
}

// busy tells whether there is no room for what could as well be left out.
func (o *outbox) busy() bool { return o.closed || len(o.lines) > outboxLines/2 }

// close waits for what is queued, but not for long.
func (o *outbox) close() {
	if o.closed {
		return
	}
	o.closed = true
	close(o.lines)
	select {
	case <-o.done:
	case <-time.After(lastWait):
	}
}
